"""The docs' samples run, and their tables agree with the code."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared import errors
from shared.connections.endpoint import parse_endpoint
from shared.connections.resolver import Connections
from shared.contract.chat import ChatInput
from shared.contract.connection import ConnectionRecord, decode_connection
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import ACTIONS as ACTION_NAMES
from shared.contract.job import Job, Options
from shared.contract.multi_chat import MultiChatInput
from shared.contract.raw import FileInput, RawInput
from shared.contract.result import Result
from shared.contract.summarize import SummarizeInput
from shared.settings import read_settings
from tests.support.audio_samples import MP3
from tests.support.doc_samples import ACTIONS, PAGES, ROOT, blocks, members_of, prose, section
from tests.support.document_files import PICTURE, lines, pdf
from tests.support.endpoint import Endpoint, completion
from tests.support.harness import Harness, open_harness
from tests.support.image_samples import JPEG, PNG
from tests.support.rows import every_row

NOT_THE_CONNECTORS = {"respond", "embed", "edit_image", "transcribe", "speak"}
"""Actions that the connector does not have."""
_DOCUMENT = pdf([lines("The rent is 1,200 euros a month."), PICTURE])
SAMPLES = {".png": PNG, ".jpeg": JPEG, ".mp3": MP3, ".pdf": _DOCUMENT, ".docx": _DOCUMENT}
"""What the blobs hold that jobs of the docs name."""
CONTRACT_ONLY = {"customer_unknown", "budget_exceeded", "cancelled"}


@pytest_asyncio.fixture(scope="module")
async def docs_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """A harness whose container of inputs has the name that the docs use."""
    async with open_harness(azurite, vault, endpoint, INPUT_CONTAINERS="inputs") as opened:
        yield opened


async def write_named_blobs(harness: Harness, job_input: Mapping[str, Any]) -> None:
    """Write the blobs that an action's input names: images and recordings, by their extensions."""
    named = [job_input.get("blob"), job_input.get("mask"), *job_input.get("images", []), *job_input.get("blobs", [])]
    for container, _, name in (path.partition("/") for path in named if path):
        await harness.blobs.get_blob_client(container, name).upload_blob(SAMPLES[Path(name).suffix], overwrite=True)


@pytest.mark.parametrize(
    "page",
    [
        ROOT / "docs/submit.md",
        *(pytest.param(page, marks=pytest.mark.long) if page.stem == "summarize" else page for page in ACTIONS),
    ],
    ids=lambda page: page.stem,
)
async def test_jobs_in_the_docs_run(docs_harness: Harness, page: Path):
    """
    Each job of a page, copied as it is, succeeds. The output on an action's page has members that the real output of
    one of the page's jobs has.
    """
    samples = [(block, json.loads(block)) for block in blocks(str(page.relative_to(ROOT)), "json")]
    harness, results = docs_harness, []
    customer = harness.customer(connection=None)
    for block, job in samples:
        if "action" in job and "status" not in job:
            customer.name = job["customer"]
            harness.connect(customer)
            await write_named_blobs(harness, job["input"])
            results.append(await customer.run(block.encode()))

    assert [] == [result["error"] for result in results if result["status"] != "succeeded"]
    for shown in (sample["output"] for _, sample in samples if "output" in sample and "action" not in sample):
        assert any(members_of(shown) <= members_of(result["output"]) for result in results)


async def test_result_in_the_docs_is_the_real_one(harness: Harness):
    """The result that the docs show has the members, and the members of members, that a real one has."""
    (shown,) = [json.loads(block) for block in blocks("docs/submit.md", "json") if '"status"' in block]
    customer = harness.customer()
    customer.account.will_answer(completion())

    result = await customer.run(metadata={"order": "4711"})

    optional = {"id", "created", "model"}
    received = {path for path in members_of(result) if path.rpartition(".")[2] not in optional}
    assert members_of(shown) == received | {"model"}


def test_result_members_are_described():
    """Every member of a result is on the page about submitting."""
    page = (ROOT / "docs/submit.md").read_text()

    assert [] == [name for name in Result.__struct_fields__ if f'"{name}"' not in page and f"`{name}`" not in page]


def test_error_codes_are_all_listed():
    """The table of error codes has every code that a result can bear, and no other."""
    page = section("docs/operate.md", "Error codes")
    shown = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    raised = {
        cls.code
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.JobError) and cls.__name__ not in {"JobError", "CustomerUnknown"}
    }

    assert raised == shown
    assert all(f"`{code}`" in page for code in CONTRACT_ONLY)


def test_connection_in_the_docs_is_valid():
    """The connection that the docs show decodes, its endpoint is understood, and every member is described."""
    (block,) = blocks("docs/onboard.md", "json")
    page = (ROOT / "docs/onboard.md").read_text()

    record = decode_connection(block)

    assert parse_endpoint(record.endpoint).style == "v1"
    assert [] == [name for name in ConnectionRecord.__struct_fields__ if f"`{name}`" not in page]


def test_endpoints_in_the_docs_are_understood():
    """Every endpoint in the table of what people paste is understood."""
    table = (ROOT / "docs/onboard.md").read_text().partition("| pasted |")[2].partition("\n\n")[0]
    pasted = re.findall(r"`(https://[^`]+)`", table)

    assert len(pasted) > 8
    for text in pasted:
        parse_endpoint(text, provider="azure_openai" if "gateway" in text else None)


async def test_columns_of_usage_are_described(harness: Harness):
    """Every column of a usage record stands on the billing page; its samples are run by test_statements."""
    customer = harness.customer()
    await customer.run()
    (record,) = await customer.usage()

    assert {name for name in record if name not in {"PartitionKey", "RowKey"}} <= set(
        re.findall(r"`(\w+)`", (ROOT / "docs/bill.md").read_text())
    )


async def test_credential_store_in_the_docs_serves(harness: Harness):
    """The store on the extension page gives connections like Key Vault does."""
    (block,) = blocks("docs/extend.md", "python")
    names: dict[str, Any] = {}
    exec(block, names)
    row = {
        "value": '{"api_key": "sk-x", "endpoint": "https://api.openai.com"}',
        "version": "7",
        "enabled": True,
    }
    store = names["DatabaseCredentials"]({("acme", "default"): row})
    connections = Connections(read_settings(harness.environment), store)

    connection = await connections.resolve("acme", "default")

    assert ("openai", "7") == (connection.endpoint.provider, connection.version)
    with pytest.raises(errors.ConnectionNotFound):
        await connections.resolve("acme", "other")


@every_row("page", PAGES, ids=lambda page: page.name)
def test_no_page_has_two_versions_of_a_text(page: Path):
    """Git leaves its marks where two versions met and nobody has chosen."""
    assert [] == re.findall(r"(?m)^(?:<{7}|={7}|>{7})(?: .*)?$", page.read_text())


@every_row("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    """Every link to a file of the project leads to one, and to a heading that it has."""
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if heading else []
        anchors = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
        assert not heading or heading in anchors, target


CONNECTORS_INPUTS = {
    "Connection": ["Connection", "API Key", "Organization / Azure Resource Name", "Is OpenAI Key", "API Version"],
    "Create Chat Completion": ["Model / Deployment Name", "Messages", "Temperature", "Top P", "Number of Choices"],
    "Create Multiple Chat Completions": ["Model / Deployment Name", "Messages"],
    "Create Image": ["Model / Deployment Name", "Prompt", "Number of Images", "Image Size"],
    "Summarize Text": ["Model / Deployment Name", "Text to Summarize"],
    "Raw Request": [
        *("URL", "Method", "Data", "Form Data", "File Data", "File Data File Names"),
        *("Query Parameter", "Header", "Response Type"),
    ],
    "Options": [
        *("Timeout", "Max Retry Count", "Retry Delay (ms)", "Use Exponential Backoff", "Retry On All Errors"),
        "Debug Request",
    ],
}
"""By action, those of Prismatic's component `azure-openai-service`; the options are its raw request's."""


def test_connectors_inputs_are_members_here():
    """Every input of the connector's actions stands on the left; every name on the right is a member of ours."""
    page = (ROOT / "docs/coming-from.md").read_text()
    sections = dict(re.findall(r"^#{2,3} ([^\n]+)\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL))
    rows = {
        name: re.findall(r"^\| (?!there|---)(.+?) \| (.*) \|$", text, re.MULTILINE) for name, text in sections.items()
    }
    shown = {name: [there.removesuffix(" (of every action)") for there, _ in pairs] for name, pairs in rows.items()}
    named = {name for pairs in rows.values() for _, here in pairs for name in re.findall(r"`(\w+)`", here)}
    inputs = [ChatInput, MultiChatInput, ImageInput, SummarizeInput, EmbedInput, RawInput, FileInput]
    members = {name for kind in (*inputs, Job, Options, ConnectionRecord) for name in kind.__struct_fields__}
    parameters = {"temperature", "top_p", "n"}

    assert {name: shown.get(name) for name in CONNECTORS_INPUTS} == CONNECTORS_INPUTS
    assert set(ACTION_NAMES) - NOT_THE_CONNECTORS == set(re.findall(r"^Here \[`(\w+)`\]", page, re.MULTILINE))
    assert set() == named - members - parameters
    assert {"timeout_s", "max_retries", "retry_delay_ms", "exponential_backoff", "retry_on_all_errors"} <= named

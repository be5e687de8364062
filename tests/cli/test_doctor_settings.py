"""`doctor` on every setting that is missing, empty, garbage or plausible but wrong: a sentence, and no traceback."""

from __future__ import annotations

import asyncio
import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from azure.core.exceptions import ResourceExistsError
from azure.data.tables.aio import TableServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from aijobs import model_retirements
from aijobs.setting_checks import check_settings
from shared.services import build
from shared.settings import find_faults, read_settings
from tests.support.cli_runner import CliResult, CliRunner
from tests.support.deployment import ROOT, TEST
from tests.support.harness import Harness
from tests.support.rows import every_row
from tests.support.wrong_settings import ACCOUNT, SETTINGS, URLS, Wrong, environment_with, wrong_cases

HOST = {
    "FUNCTIONS_WORKER_RUNTIME": "python",
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "16842752",
    "AzureWebJobsStorage": ACCOUNT,
}


@pytest.fixture(autouse=True)
def _no_model_is_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time before any model of the list is retired: the vault has other tests' customers."""
    monkeypatch.setattr(model_retirements, "now", lambda: datetime(2024, 1, 1, tzinfo=UTC))


@pytest.fixture
async def _default_names(harness: Harness) -> None:
    """Storage has the queues, containers and the table that have their default names."""
    for queue in ("jobs", "jobs-poison", "results", "callbacks", "callbacks-poison", "batches", "batches-poison"):
        with suppress(ResourceExistsError):
            await harness.queues.create_queue(queue)
    for container in ("results", "inputs", "templates", "statements"):
        with suppress(ResourceExistsError):
            await harness.blobs.create_container(container)
    async with TableServiceClient.from_connection_string(harness.environment["JobStorage"]) as tables:
        await tables.create_table_if_not_exists("jobs")


def base(cli: CliRunner) -> dict[str, str]:
    """Settings of a sound deployment."""
    identity = {name: os.environ[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
    storage = {"AzureWebJobsStorage": cli.harness.environment["JobStorage"]}
    return {**HOST, **storage, **cli.harness.environment, **identity}


async def run(cli: CliRunner, values: dict[str, str]) -> CliResult:
    """Run `doctor` with these settings; a traceback fails the test."""
    cli.write("some.json", json.dumps({"IsEncrypted": False, "Values": values}))
    return await cli.run("doctor --settings some.json")


def test_the_table_has_every_setting_of_the_readme():
    """Each setting that the app or its host reads is tried, in the README's order."""
    table = (ROOT / "README.md").read_text().partition("| setting |")[2]

    assert list(SETTINGS) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


@pytest.mark.long
@pytest.mark.parametrize(("name", "wrong"), wrong_cases(by_app=False), ids=lambda part: getattr(part, "value", part))
async def test_a_wrong_value_is_a_sentence(cli: CliRunner, name: str, wrong: Wrong):
    """`doctor` names the setting and what would be right, in one finding, and shows no key."""
    values = environment_with(
        name, wrong.value, base(cli) | {"JOBS_QUEUE": "our-jobs", "TEMPLATES_CONTAINER": "our-texts"}
    )

    result = await run(cli, values)
    rows = [" ".join(row.split()) for row in result.out.splitlines()]

    assert [row for row in rows if name in row and wrong.words in row and re.search(" (error|warning) ", row)], rows
    assert "YQ==" not in result.text
    assert wrong.by == "doctor" or 1 == result.code


@pytest.mark.long
@every_row("name", [name for name, setting in SETTINGS.items() if setting.missing is not None])
async def test_what_is_not_set_and_has_no_default_is_named(cli: CliRunner, name: str):
    """With a sentence."""
    values = environment_with(name, "", base(cli))
    del values[name]

    rows = [" ".join(row.split()) for row in (await run(cli, values)).out.splitlines()]

    named = [row for row in rows if name in row and re.search(" (error|warning) ", row)]
    assert named, rows
    assert all(str(SETTINGS[name].missing) in row for row in named)


@pytest.mark.long
@pytest.mark.usefixtures("_default_names")
async def test_about_what_has_a_default_there_is_nothing_to_say(cli: CliRunner):
    """If none of it is set."""
    defaults = [name for name, setting in SETTINGS.items() if setting.missing is None]
    values = {name: text for name, text in base(cli).items() if name not in defaults}

    rows = [" ".join(row.split()) for row in (await run(cli, values)).out.splitlines()]

    assert len(defaults) > 30
    assert [] == [row for row in rows if re.search(" (error|warning) ", row) and any(name in row for name in defaults)]


@every_row("text", ["", " \t"])
@every_row("name", SETTINGS)
def test_an_empty_value_is_none(name: str, text: str):
    """A setting that is empty or blank is as good as missing."""
    base = {"JobStorage": ACCOUNT, **HOST}
    missing, empty = (environment_with(name, value, base) for value in ("", text))
    del missing[name]

    assert check_settings(missing) == check_settings(empty)
    assert (not find_faults(missing)) == (not find_faults(empty))


NAMES = [*SETTINGS, *(f"AzureWebJobsStorage__{part}" for part in ("accountName", "blobServiceUri", "tableServiceUri"))]
TEXTS = st.one_of(
    st.text(max_size=20),
    st.text("ab[]{}:/.=;,@*\"'\\ 1", max_size=20),
    st.builds("https://{}".format, st.text("ab[]:/.@?#%", max_size=8)),
    st.builds('{{"endpoint": "{}", "api_key": "k", "provider": "openai"}}'.format, st.text("ab[]:/.", max_size=8)),
)


@given(st.dictionaries(st.sampled_from(NAMES), TEXTS, max_size=3), st.booleans())
@settings(max_examples=300)
def test_no_text_is_a_traceback(texts: dict[str, str], by_url: bool):
    """Whatever the texts are, they are findings; without an error among them, the app's services can be built."""
    storage = {"JobStorage": "", **URLS} if by_url else {"JobStorage": ACCOUNT}
    values = {**HOST, **storage, **texts}

    findings = check_settings(values)

    assert all(finding.message.endswith((".", "?")) for finding in findings)
    if not any(finding.verdict == "error" for finding in findings if finding.check == "settings"):
        asyncio.run(build_and_close(values))


async def build_and_close(values: dict[str, str]) -> None:
    """Build the app's services, and close them."""
    await build(read_settings(values)).close()


@every_row(
    ("values", "verdict", "words"),
    [
        ({"AzureWebJobsStorage__accountName": "hostacct"}, "ok", "names a storage account"),
        ({"azurewebjobsstorage__ACCOUNTNAME": "hostacct"}, "ok", "names a storage account"),
        ({"AzureWebJobsStorage__accountName": "https://hostacct.blob.core.windows.net"}, "error", "not its URL"),
        ({"AzureWebJobsStorage__blobServiceUri": URLS["JobStorage__blobServiceUri"]}, "ok", "names a storage account"),
        ({"AzureWebJobsStorage__blobServiceUri": "https://["}, "error", "AzureWebJobsStorage__blobServiceUri must be"),
        (
            {"AzureWebJobsStorage__accountName": "hostacct", "AzureWebJobsStorage__clientId": "x"},
            "error",
            "AzureWebJobsStorage__clientId must be a client id",
        ),
        ({"AzureWebJobsStorage": "@Microsoft.KeyVault(SecretUri=https://x)"}, "ok", "names a storage account"),
        ({}, "error", "neither is AzureWebJobsStorage__accountName"),
        ({"FUNCTIONS_WORKER_RUNTIME": "node"}, "error", "FUNCTIONS_WORKER_RUNTIME must be python."),
        ({"FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "1048576"}, "warning", "lets the host refuse bodies"),
    ],
)
def test_the_hosts_own_settings(values: dict[str, str], verdict: str, words: str):
    """The host's storage account may be named in each of its forms; what the host would not start with is an error."""
    host = {name: text for name, text in HOST.items() if name != "AzureWebJobsStorage"}

    findings = check_settings({"JobStorage": ACCOUNT, **host, **values})

    assert [each for each in findings if each.check == "host" and each.verdict == verdict and words in each.message]


@pytest.mark.parametrize(
    "text", ["https://[", pytest.param("AccountName=host;AccountKey=my key", marks=pytest.mark.long)]
)
async def test_a_wrong_host_account_hides_nothing_else(cli: CliRunner, text: str):
    """It is one error; Storage, Key Vault and the connections are checked all the same."""
    result = await run(cli, base(cli) | {"AzureWebJobsStorage": text})

    rows = [" ".join(row.split()) for row in result.out.splitlines()]
    assert (1, "1 error") == (result.code, rows[-1].partition(",")[0])
    assert 1 == sum("AzureWebJobsStorage" in row for row in rows)
    assert any("Blobs can be written" in row for row in rows)
    assert any("Secrets can be read." in row for row in rows)


OTHER_KEY = "AccountKey=b3RoZXI="


@pytest.mark.parametrize(
    ("pattern", "instead", "rows"),
    [
        (r"AccountKey=[^;]+", OTHER_KEY, 1),
        (r"AccountName=[^;]+", "AccountName=other", 1),
        (r"AccountName=[^;]+;AccountKey=[^;]+", "SharedAccessSignature=sv=2026-01-01&sig=YQ", 1),
        (r"(.*BlobEndpoint=)([^;]+)(.*TableEndpoint=)[^;]+", r"\1\2\3\2", None),
        pytest.param(r"(BlobEndpoint=)[^;]+(.*QueueEndpoint=)([^;]+)", r"\1\3\2\3", None, marks=pytest.mark.long),
    ],
    ids=["key", "account", "signature", "blobs for tables", "queues for blobs"],
)
async def test_an_account_that_rejects_everything_is_named(
    cli: CliRunner, pattern: str, instead: str, rows: int | None
):
    """A connection string that looks right and isn't is named, not what lies in the account; once, if that is all."""
    values = base(cli)
    wrong = re.sub(pattern, instead, values["JobStorage"])

    result = await run(cli, values | {"JobStorage": wrong})

    errors = [" ".join(row.split()) for row in result.out.splitlines() if re.search(" error +[A-Z]", row)]
    assert (1, True) == (result.code, wrong != values["JobStorage"])
    assert errors
    assert rows in {None, len(errors)}
    assert all(row.endswith("The setting is JobStorage.") for row in errors)


@pytest.mark.long
async def test_the_hosts_own_account_is_tried(cli: CliRunner):
    """Another account than that of the jobs is reached for; one that can't be is named with its setting."""
    other = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:9/a"

    result = await run(cli, base(cli) | {"AzureWebJobsStorage": other})

    rows = [" ".join(row.split()) for row in result.out.splitlines() if row.startswith("host storage")]
    assert (1, 1) == (result.code, len(rows))
    assert rows[0].startswith("host storage error Storage did not answer")
    assert rows[0].endswith("The setting is AzureWebJobsStorage.")


@every_row(
    ("name", "meant"),
    [
        ("JOB_QUEUE", "JOBS_QUEUE"),
        ("jobs_queue", "JOBS_QUEUE"),
        ("KEYVAULT_URL", "KEY_VAULT_URL"),
        ("KEY_VAULT_URI", "KEY_VAULT_URL"),
        ("Jobstorage", "JobStorage"),
        ("JobStorage__queueServiceURI", "JobStorage__queueServiceUri"),
        ("JobStorage:blobServiceUri", "JobStorage__blobServiceUri"),
        ("AzureWebJobsStorge", "AzureWebJobsStorage"),
        ("AzureWebJobsStorage__acountName", "AzureWebJobsStorage__accountName"),
        ("AzureWebJobsStorage__clintId", "AzureWebJobsStorage__clientId"),
        ("AzureWebJobsStorage__blobServiceUrl", "AzureWebJobsStorage__blobServiceUri"),
        ("ALLOWED_ENDPOINT_SUFFIX", "ALLOWED_ENDPOINT_SUFFIXES"),
        ("ALOW_STATIC_CONNECTION", "ALLOW_STATIC_CONNECTION"),
        ("LEASE_SECOND", "LEASE_SECONDS"),
        ("RETAIN_JOB_DAYS", "RETAIN_JOBS_DAYS"),
        ("APPINSIGHTS_CONNECTION_STRING", "APPLICATIONINSIGHTS_CONNECTION_STRING"),
    ],
)
def test_mistyped_names_are_suggested(name: str, meant: str):
    """A name that nobody reads, and that is much like a setting's, is named with the right one."""
    findings = check_settings({"JobStorage": ACCOUNT, **HOST, name: "x"})

    assert [f"Nothing reads {name}. Did you mean {meant}?"] == [
        each.message for each in findings if each.verdict == "warning"
    ]


NOISE = [
    *(
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "PWD",
        "TERM",
        "SHELL",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "PYTHONPATH",
        "JOBS",
        "QUEUE",
    ),
    *("AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_SUBSCRIPTION_ID", "AZURE_TOKEN_CREDENTIALS", "KEY_VAULT_NAME"),
    *("FUNCTIONS_EXTENSION_VERSION", "AzureWebJobsFeatureFlags", "AzureWebJobsSecretStorageType", "WEBSITE_SITE_NAME"),
    *("AzureWebJobsDashboard", "AZUREWEBJOBSSTORAGE", "AzureWebJobsStorage__credential", "IDENTITY_ENDPOINT"),
    *("AzureWebJobsStorage__fileServiceUri", "azurewebjobsstorage__ACCOUNTNAME", "AzureWebJobsStorage__other"),
    *("APPSETTING_JOBS_QUEUE", "APPSETTING_APPLICATIONINSIGHTS_CONNECTION_STRING", "WEBSITE_AUTH_ENABLED"),
    *("APPINSIGHTS_INSTRUMENTATIONKEY", "LOCAL_STACK_PID", "RESULTS", "CONTAINER", "HTTP_PROXY", "AI_API_KEY"),
]


def test_noise_is_not_reported():
    """The environment of a machine, of Azure and of azd has names that are like ours, and not meant to be."""
    template = {*TEST.settings, *TEST.resources["outputs"]}
    noise = dict.fromkeys({*NOISE, *os.environ, *template} - {*SETTINGS, *HOST}, "")

    names = [each.message for each in check_settings({"JobStorage": ACCOUNT, **HOST, **noise})]

    assert [] == [message for message in names if "Did you mean" in message]


@every_row(
    ("content", "words"),
    [
        ('{"Values": {"JobStorage": %s, "LEASE_SECONDS": 5}}', "LEASE_SECONDS must be a whole number from 10"),
        (
            '{"Values": {"JobStorage": %s, "ALLOW_LOCAL_ENDPOINTS": true, "KEY_VAULT_URL": null}}',
            "KEY_VAULT_URL is not",
        ),
        ('{"Values": {"JobStorage": %s, "STATIC_CONNECTION": {"api_key": "k"}}}', "STATIC_CONNECTION must be a text"),
        ('[{"name": 1, "value": "x"}, {"name": "JobStorage", "value": [%s]}]', "JobStorage must be a text in quotes"),
        ("[" * 100_000 + "%s", "is neither JSON nor lines"),
        ('{"Values": [%s]}', "has no object `Values`"),
        (
            '{"Values": {"JobStorage": %s, "IDENTITY_ENDPOINT": "a\\u0000"}}',
            "IDENTITY_ENDPOINT must be printable ASCII",
        ),
        (
            '{"Values": {"JobStorage": %s, "IDENTITY_ENDPOINT": "a", "IDENTITY_HEADER": "\\ud800"}}',
            "IDENTITY_HEADER must be printable ASCII",
        ),
    ],
)
async def test_values_that_are_no_texts(cli: CliRunner, content: str, words: str):
    """Numbers, true and false are read as Azure keeps them; what can't be a setting is named."""
    cli.write("some.json", content % json.dumps(cli.harness.environment["JobStorage"]))

    assert words in (await cli.run("doctor --settings some.json")).text

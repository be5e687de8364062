"""The pages for those who come from a gateway: their commands are run in order, and then their jobs."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from aijobs.parser import make_parser
from tests.support.cli_runner import CliRunner
from tests.support.doc_samples import PAGES, ROOT, blocks, prose
from tests.support.harness import Customer, Harness

GATEWAYS = ["docs/coming-from-litellm.md", "docs/coming-from-portkey.md"]
PROGRAM = "python -m aijobs "


@pytest.fixture
def harness(own_table: Harness) -> Harness:
    """A deployment without a price book."""
    return own_table


def commands_of(page: str) -> list[str]:
    """The commands of a page, each in one line, without the program's name and without what comes in by a pipe."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    text = re.sub(r"\s*\\\n\s*", " ", "\n".join(block for language, block in fenced if not language))
    return [line.partition(PROGRAM)[2].partition(" < ")[0] for line in text.splitlines() if PROGRAM in line]


@pytest.mark.usefixtures("bills")
@pytest.mark.parametrize("page", [GATEWAYS[0], pytest.param(GATEWAYS[1], marks=pytest.mark.long)])
async def test_a_customer_can_be_moved(cli: CliRunner, newcomer: Customer, page: str):
    """Connections, prices and a budget are made by the page's commands; then its job succeeds, within the budget."""
    for command in commands_of(page):
        words = re.sub(r"\bcontoso(?![\w-])", newcomer.name, command)
        if words.startswith("customers add"):
            words = re.sub(r"--endpoint \S+", f"--endpoint {newcomer.account.base}", words) + " --provider azure_openai"
        words += " --yes" if words.startswith("prices") else ""
        typed = newcomer.account.key if words.startswith("customers") else newcomer.name
        result = await cli.run(words, stdin=typed)
        assert 0 == result.code, (command, result.text)
    (job,) = [each for each in map(json.loads, blocks(page, "json")) if "action" in each]

    result_of_job = await newcomer.run(json.dumps(job | {"customer": newcomer.name}).encode())

    assert "succeeded" == result_of_job["status"], result_of_job
    assert job["metadata"] == result_of_job["metadata"]
    budgets = await cli.expect(f"budgets list {newcomer.name} --json")
    assert ["100"] == [each["limit"] for each in json.loads(budgets.out)["budgets"]]


def test_a_deployment_of_litellm_becomes_its_connection():
    """The command has what the entry of the model list has."""
    (text,) = blocks(GATEWAYS[0], "yaml")
    (entry,) = yaml.safe_load(text)["model_list"]
    parameters = entry["litellm_params"]
    added = make_parser().parse_args(commands_of(GATEWAYS[0])[0].split())

    assert parameters["api_base"] == added.endpoint
    assert parameters["api_version"] == added.api_version
    assert parameters["model"].removeprefix("azure/") == added.default_model


def test_a_config_of_portkey_becomes_members_of_the_job():
    """As many connections as it has targets, its retries, and its time in seconds."""
    config, job = map(json.loads, blocks(GATEWAYS[1], "json"))

    assert len(config["targets"]) == len(job["connection"])
    assert config["retry"]["attempts"] == job["options"]["max_retries"]
    assert config["request_timeout"] == 1000 * job["options"]["timeout_s"]


@pytest.mark.parametrize("page", GATEWAYS)
def test_what_stands_on_the_right_is_explained(page: str):
    """Each name of ours is on another page, too; nothing is left without a word on the right but what has no place."""
    rows = re.findall(r"^\| (?!there|---|`litellm_params`)(.+?) \| (.*?) ?\|$", (ROOT / page).read_text(), re.MULTILINE)
    others = "\n".join(prose(each) for each in PAGES if not each.name.startswith("coming-from"))
    named = {name for _, ours in rows for name in re.findall(r"`([\w.]+)[`:]", ours)}

    assert len(rows) > 25
    assert [] == [name for name in named if not re.search(rf"`[^`\n]*\b{re.escape(name)}\b[^`\n]*`", others)]

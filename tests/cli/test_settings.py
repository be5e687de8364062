"""Settings are read from every format that tools write, and what is wrong with a file is one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from aijobs.settings import OUTPUTS, read_app_settings
from shared.storage.base import Row
from tests.support.cli_runner import CliRunner, run_words
from tests.support.harness import Customer
from tests.support.rows import every_row

ROOT = Path(__file__).parents[2]


async def test_settings_come_from_the_environment(cli: CliRunner, newcomer: Customer):
    """Without `--settings`, the environment names the deployment."""
    await cli.harness.services.table.insert(Row(newcomer.name, "j_1", {"state": "done"}))

    result = await cli.run(f"erase {newcomer.name} --yes", environment=cli.harness.environment)

    assert (0, "") == (result.code, result.err)
    assert [] == await newcomer.rows()


@pytest.mark.parametrize("form", ["azd", "az"])
def test_formats_of_tools_are_equal(tmp_path: Path, form: str):
    """`azd env get-values` and `az functionapp config appsettings list` lead to the same as local.settings.json."""
    values = {
        "JobStorage": "AccountName=a;AccountKey=a2V5;EndpointSuffix=core.windows.net",
        "JOBS_QUEUE": "our-jobs",
        "STATIC_CONNECTION": '{"endpoint": "https://api.openai.com/v1", "api_key": "sk 1"}',
    }
    usual, other = tmp_path / "local.settings.json", tmp_path / "app.settings"
    usual.write_text(json.dumps({"IsEncrypted": False, "Values": values}))
    if form == "azd":
        lines = [f"{name}={json.dumps(value)}\n" for name, value in values.items()]
        other.write_text("# a comment\n\n" + "".join(lines))
    else:
        other.write_text(json.dumps([{"name": name, "slotSetting": False, "value": values[name]} for name in values]))

    assert read_app_settings(usual) == read_app_settings(other)


def test_outputs_of_the_template_are_settings(tmp_path: Path):
    """The values that azd writes after a deployment are enough to reach it; the names are the template's outputs."""
    template = (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")
    outputs = set(re.findall(r"^output (\w+) string", template, re.MULTILINE))
    file = tmp_path / "app.settings"
    hosts = {name: name.lower().replace("_", "-") for name in outputs}
    file.write_text("".join(f'{name}="https://{host}.example"\n' for name, host in hosts.items()), encoding="utf-8")

    settings = read_app_settings(file)

    assert set(OUTPUTS) | {"KEY_VAULT_URL"} <= outputs
    assert "https://job-queue-uri.example" == settings.job_storage.queue_service_uri
    assert "https://key-vault-url.example" == settings.key_vault_url


@every_row(
    ("content", "message"),
    [
        (None, "can't be read: No such file"),
        ("{", "is neither JSON nor lines"),
        ("[]", "has no object `Values`"),
        ('{"IsEncrypted": true, "Values": {"JobStorage": "x"}}', "is encrypted"),
        ('JobStorage="x\n', "the value of JobStorage has no closing quote"),
        ('{"Values": {}}', "JobStorage must be a connection string"),
        (
            '{"Values": {"JobStorage": "UseDevelopmentStorage=true", "RETAIN_JOBS_DAYS": "ever"}}',
            "RETAIN_JOBS_DAYS must be a whole number",
        ),
    ],
)
async def test_invalid_file_is_one_sentence(tmp_path: Path, content: str | None, message: str):
    """What is wrong with a settings file is one line on stderr, and the exit code is 1."""
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)

    result = await run_words(["erase", "contoso", "--yes", "--settings", str(file)], tmp_path)

    assert (1, 1) == (result.code, result.err.count("\n"))
    assert message in result.err
    assert result.err.startswith("aijobs: ")


async def test_command_that_needs_a_vault_names_the_setting(cli: CliRunner):
    """Without KEY_VAULT_URL, the commands about customers have nothing to work on."""
    result = await cli.with_settings(KEY_VAULT_URL="").run("customers list")

    assert (1, "aijobs: The settings name no Key Vault: KEY_VAULT_URL is not set.\n") == (result.code, result.err)

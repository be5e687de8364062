"""What all commands have in common: their options, their JSON, their errors, and where their settings come from."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
from pathlib import Path

import pytest

from aijobs.__main__ import main
from aijobs.diagnostics import CommandError
from aijobs.parser import make_parser
from aijobs.report import print_document
from aijobs.settings import read_app_settings
from tests.support.cli_commands import commands_of
from tests.support.cli_runner import ROOT, CliRunner
from tests.support.harness import Customer
from tests.support.rows import every_row
from tests.support.source import parse

PROGRAM = "python -m aijobs"


COMMANDS = commands_of(make_parser(PROGRAM))
IDS = [*COMMANDS]


def options(name: str) -> set[str]:
    """The options of a command."""
    return set(COMMANDS[name]._option_string_actions)


@every_row("name", IDS)
def test_every_command_has_the_common_options(name: str):
    """Each command has `--settings` and `--json`, an example of itself, and a help text for each argument."""
    parser = COMMANDS[name]

    assert {"--settings", "--json"} <= options(name)
    assert f"  {PROGRAM} {name}" in (parser.epilog or "")
    assert [] == [action.dest for action in parser._actions if not (action.help or "").strip()]


def test_only_destructive_commands_ask():
    """A command whose function asks for confirmation has `--yes`, and no other has."""
    asking = set()
    for name, parser in COMMANDS.items():
        module, _, function = parser.get_default("run").partition(".")
        tree = parse(ROOT / "aijobs" / f"{module}.py")
        (node,) = [each for each in tree.body if getattr(each, "name", "") == function]
        if any(isinstance(each, ast.Name) and each.id == "is_confirmed" for each in ast.walk(node)):
            asking.add(name)

    assert {"erase", "customers remove"} <= asking
    assert asking == {name for name in COMMANDS if "--yes" in options(name)}


def test_messages_name_commands_that_can_be_copied():
    """A message that names a command has it from `command`, which begins it with what starts the program."""
    fragment = re.compile(rf"`({'|'.join({name.split()[0] for name in COMMANDS})})\b")
    texts = [
        (path.name, text.value)
        for path in sorted((ROOT / "aijobs").rglob("*.py"))
        for tree in [parse(path)]
        for alone in [docstrings(tree)]
        for text in ast.walk(tree)
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value not in alone
    ]

    assert len(texts) > 1000
    assert [] == [(name, text) for name, text in texts if fragment.search(text)]


def docstrings(tree: ast.Module) -> set[str]:
    """The texts that stand alone as statements."""
    alone = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    return {node.value for node in alone if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_help_has_one_voice():
    """A summary is an imperative phrase, in lower case and without a full stop; so is the help of each option."""
    texts = [action.help for parser in COMMANDS.values() for action in parser._actions if action.help]
    groups = [
        (choice.help or "")
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    ]

    assert [] == [
        text for text in [*texts, *groups] if text.endswith(".") or (text[:1].isupper() and text[1:2].islower())
    ]


@every_row(
    ("line", "code", "exit_code"),
    [
        ("watch --json --evry 2", "usage", 2),
        ("customers --json", "usage", 2),
        ("usage A_B --json", "usage", 2),
        ("customers rotate nobody --json", "connection_not_found", 1),
        ("customers list nobody --json", "not_found", 1),
        ("webhooks rotate nobody --json", "not_found", 1),
        ("templates show nobody --json", "not_found", 1),
        ("poison show nothing --json", "not_found", 1),
        ("submit --customer a --action dance --prompt x --json", "invalid_job", 1),
        ("results nothing.csv --to out --json", "not_found", 1),
        ("submit nothing.csv --json", "not_found", 1),
        ("templates set contoso nothing.json --json", "not_found", 1),
        ("prices import nothing.json --json", "not_found", 1),
        ("prices list --json", "not_found", 1),
        ("usage contoso --settings nothing.json --json", "not_found", 1),
        ("customers add newcomer --endpoint https://api.openai.com --key-file nothing.txt --json", "not_found", 1),
        ("templates set contoso . --json", "invalid_request", 1),
    ],
)
async def test_error_is_a_document(cli: CliRunner, line: str, code: str, exit_code: int):
    """With `--json` an error is the only document on stdout, and a sentence on stderr as without."""
    result = await cli.run(line, stdin="sk-1")

    error = json.loads(result.out)["error"]
    assert (exit_code, code) == (result.code, error["code"])
    assert error["message"] in " ".join(result.err.split())


async def test_storage_that_does_not_answer_is_a_document(cli: CliRunner):
    """Storage that is down is `unavailable`: the command can be run again."""
    connection = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:9/a"

    result = await cli.with_settings(JobStorage=connection).run("usage contoso --json")

    assert (1, "unavailable") == (result.code, json.loads(result.out)["error"]["code"])


def test_document_has_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]):
    """A document is JSON whose texts are unchanged, and has no character that changes what a terminal shows."""
    text = "a\x1b[31m\x9b\u202e\r\u2028\U000e0001 Grüße 東京 🙂"

    print_document({"text": text, "list": [1, None]})

    out = capsys.readouterr().out
    assert {"text": text, "list": [1, None]} == json.loads(out)
    assert out.replace("\n", "").isprintable()
    assert "Grüße 東京 🙂" in out


async def test_settings_file_is_found_above(cli: CliRunner, newcomer: Customer):
    """Without `--settings`, the nearest local.settings.json is used; one that is not in this directory is named."""
    file, inner = cli.write_settings(), cli.directory / "a" / "b"
    inner.mkdir(parents=True)
    environment = {"JOBS_TABLE": cli.harness.environment["JOBS_TABLE"]}

    here = await cli.run(f"usage {newcomer.name}", environment=environment)
    below = await CliRunner(cli.harness, inner).run(f"usage {newcomer.name}", environment=environment)

    assert (0, "") == (here.code, here.err)
    assert (0, f"Settings: {file}\n", here.out) == (below.code, below.err, below.out)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with settings in the file and none in the environment."""
    for name in [name for name in os.environ if name.startswith(("JobStorage", "JOBS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    values = {"JobStorage": "AccountName=a;AccountKey=a2V5", "JOBS_QUEUE": "from-file"}
    (tmp_path / "local.settings.json").write_text(json.dumps({"Values": values}))
    return tmp_path


def test_environment_comes_before_a_file_that_is_not_named(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """`--settings` overrides the environment, and the environment a file that is only there."""
    assert "from-file" == read_app_settings(None).jobs_queue

    monkeypatch.setenv("JobStorage__accountName", "b")
    monkeypatch.setenv("JobStorage__tableServiceUri", "https://b.table.core.windows.net")
    monkeypatch.setenv("JobStorage__queueServiceUri", "https://b.queue.core.windows.net")
    monkeypatch.setenv("JobStorage__blobServiceUri", "https://b.blob.core.windows.net")
    monkeypatch.setenv("JOBS_QUEUE", "from-environment")

    assert "from-environment" == read_app_settings(None).jobs_queue
    assert "from-file" == read_app_settings(directory / "local.settings.json").jobs_queue


def test_file_of_another_user_is_not_used(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Somebody else's file in a directory above would send the jobs to somebody else's deployment."""
    monkeypatch.setattr(os, "getuid", lambda: 1234, raising=False)

    with pytest.raises(CommandError, match=r"belongs to another user\. To use it, pass --settings"):
        read_app_settings(None)

    assert "from-file" == read_app_settings(directory / "local.settings.json").jobs_queue


def test_missing_settings_are_one_sentence(directory: Path, capsys: pytest.CaptureFixture[str]):
    """Without any settings, the error says where they could come from."""
    (directory / "local.settings.json").unlink()

    assert 1 == main(["usage", "contoso"])

    assert "There are no settings: no local.settings.json in this directory or above" in capsys.readouterr().err

"""The command line as a whole: its arguments, help and version, and that every error is a sentence."""

from __future__ import annotations

import argparse
import ast
import asyncio
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aijobs import version
from aijobs.__main__ import main
from aijobs.arguments.base import Parser
from aijobs.parser import make_parser
from tests.support.cli_runner import ROOT, CliRunner, Terminal
from tests.support.harness import Customer
from tests.support.rows import every_row
from tests.support.source import parse

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)

KEY = "sk-secret"


@functools.cache
def own_parser() -> Parser:
    """The parser, which takes much longer to make than to use."""
    return make_parser()


@every_row(
    ("line", "message"),
    [
        ("", "required: COMMAND"),
        (KEY, "unknown command; `aijobs --help` lists them"),
        (f"customers {KEY}", "unknown command; `aijobs customers --help` lists them"),
        ("foo", "aijobs: unknown command: foo; `aijobs --help` lists them"),
        ("sumbit jobs.csv", "aijobs: unknown command: sumbit; did you mean submit?"),
        ("--json watch jobs.csv", "aijobs: --json belongs after the command"),
        ("--settings x.json watch jobs.csv", "aijobs: --settings belongs after the command"),
        ("customers --settings=x.json list", "aijobs customers: --settings belongs after the command"),
        (f"customers add a --auth {KEY}", "invalid choice"),
        (f"customers add a --max-concurrency {KEY}", "--max-concurrency: must be a whole number"),
        (f"customers add a --monthly-budget {KEY}", "--monthly-budget: must be an amount"),
        ("customers add a --monthly-budget inf", "--monthly-budget: must be an amount"),
        (f"customers add a --no-test={KEY}", "--no-test: takes no value"),
        ("prices set m --provider openai --input 1 --customer=", "aijobs prices set: an argument is empty"),
        (f"customers add {KEY}\udcff", "CUSTOMER: must be UTF-8"),
        (f"watch --customer a --job b --job {KEY}\udcff", "--job: must be UTF-8"),
        (f"submit --customer a --action chat --prompt {KEY}\udcff", "--prompt: must be UTF-8"),
        (f"customers add a --key {KEY}", "a key can't be an argument"),
        (f"customers add a --api-key={KEY}", "a key can't be an argument"),
        (f"customers add a {KEY}", "too many arguments"),
        (f"customers add a -k {KEY}", "too many arguments"),
        ("customers add a --endpont x", "aijobs customers add: unknown option: --endpont; did you mean --endpoint?"),
        ("watch --quickly", "aijobs watch: unknown option: --quickly"),
        ("submit jobs.csv --at-once 0", "must be a whole number from 1 to 256"),
        ("watch jobs.csv --every never", "must be a number of seconds from 0.1 to 3600"),
        ("poison retry", "required"),
    ],
)
def test_mistake_is_explained_without_the_key(capsys: pytest.CaptureFixture[str], line: str, message: str):
    """A mistake exits with 2, and a value in the wrong place, which may be a key, is not repeated."""
    with pytest.raises(SystemExit) as exit_info:
        own_parser().parse_args(line.split())

    assert 2 == exit_info.value.code
    stderr = capsys.readouterr().err
    assert message in stderr
    assert KEY not in stderr


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser, and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


def test_help_explains_every_argument_in_80_columns(monkeypatch: pytest.MonkeyPatch):
    """Every command has a help text for each argument, and none is wider than a small terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    every = list(parsers(make_parser("python -m aijobs")))
    longer = list(parsers(make_parser(".venv/bin/python -m aijobs")))

    required = [action for parser in every for action in parser._actions if action.required and action.option_strings]
    assert required
    assert [] == [action.dest for action in required if not (action.help or "").endswith("(required)")]
    unexplained = [
        (parser.prog, action.dest)
        for parser in every
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    texts = [parser.format_help() for parser in (*every, *longer)]
    wide = [line for text in texts for line in text.splitlines() if len(line) > 80]
    assert len(every) > 30
    assert ([], []) == (unexplained, wide)


@every_row(
    ("code", "line", "message"),
    [
        (2, "submit --customer a", "Name a file of jobs"),
        (2, "submit --customer a --prompt x --input {}", "Name a file of jobs"),
        (2, "submit --customer a --action chat --input {", "--input is not valid JSON"),
        (1, "submit --customer a --action chat --input '{}'", "input"),
        (1, "submit --customer a --action dance --prompt x", "`action` must be one of"),
        (2, "submit --customer a --action chat --prompt x --check", "need a file of jobs"),
        (2, "submit jobs.csv --prompt x", "--prompt can't be used with a file"),
        (2, "submit jobs.csv --batch ../x", "--batch must be"),
        (1, "submit none.csv", "can't be read"),
        (2, "watch --once", "Name either a file"),
        (2, "watch jobs.csv --customer a --once", "Name either a file"),
        (1, "watch jobs.csv --once", "was not submitted from here"),
        (2, "watch jobs.csv --job a --once", "--job needs a --customer"),
        (2, "watch --customer A_B --once", "lower-case letters"),
        (2, "watch --customer a --job a/b --once", "a job's id"),
        (1, "results jobs.csv --to out", "was not submitted from here"),
        (2, "usage a --month 2026-13", "--month must be"),
        (2, "usage a --from 2026-11-31 --to 2026-12-01", "--from must be a day"),
        (2, "usage a --from 2026-11-30", "--from and --to need each other"),
        (2, "usage --by day", "--by needs a customer"),
        (2, "usage a --by day,price", "--by must be one or more of"),
        (2, "usage A_B", "lower-case letters"),
        (2, "poison retry --customer A_B", "lower-case letters"),
        (1, "watch . --once", "was not submitted from here"),
        (1, "results / --to out", "was not submitted from here"),
        (1, "submit .", "must end in"),
        (2, "erase A_B --yes", "lower-case letters"),
        (1, "export a --to full", "full is not empty"),
        (2, "customers add No_Customer --endpoint https://api.openai.com", "lower-case letters"),
        (2, "customers add a--b --endpoint https://api.openai.com", "lower-case letters"),
        (2, "customers add a --connection A_B", "The connection's name must be"),
        (1, "customers rotate a", "customers add"),
        (1, "customers test a", "no connection named default"),
        (1, "customers list a", "no connection"),
    ],
)
async def test_error_is_one_sentence(cli: CliRunner, code: int, line: str, message: str):
    """A command that can't run says why in one line, and queues nothing; an invalid command line exits with 2."""
    cli.write("jobs.csv", "customer,action,input.prompt\na,chat,x\n")
    (cli.directory / "full").mkdir(exist_ok=True)
    cli.write("full/file", "")

    result = await cli.run(line, stdin="sk-1")

    assert (code, "", True) == (result.code, result.out, message in result.err)
    assert 1 == len(result.err.splitlines())
    assert not line.startswith(("submit", "poison")) or [] == await cli.queued()


def test_command_line_is_apart_from_the_app():
    """It imports only `shared`, itself and its own requirements, and is not deployed with the app."""
    imported = {
        (node.module or "").split(".")[0]
        for path in (ROOT / "aijobs").rglob("*.py")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom)
    }

    packages = {"azure", "msgspec", "rich", "standardwebhooks"}
    assert {"aijobs", "shared"} == imported - packages - set(sys.stdlib_module_names)
    assert "aijobs/" in (ROOT / ".funcignore").read_text().splitlines()
    own, dev, app = (_pins(directory) for directory in ("aijobs/", "local/", ""))
    assert "rich" in own
    assert own.items() <= dev.items()
    assert set() == set(own) & set(app)


def _pins(directory: str) -> dict[str, str]:
    lines = (ROOT / f"{directory}requirements.txt").read_text().splitlines()
    return dict(line.removesuffix("\\").strip().split("==", 1) for line in lines if re.match(r"[A-Za-z]", line))


@pytest.mark.parametrize(("line", "command"), [("", "watch"), ("customers", "customers list")])
def test_help_of_commands_says_how_to_get_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, command: str
):
    """The help of the program, and of a group of commands, has examples, and a line that prints a command's help."""
    monkeypatch.setattr(sys, "argv", ["/x/aijobs/__main__.py"])
    monkeypatch.setattr(sys, "orig_argv", [".venv/bin/python", "-m", "aijobs"])
    with pytest.raises(SystemExit):
        main([*line.split(), "--help"])

    text = capsys.readouterr().out
    assert text.startswith(f"usage: .venv/bin/python -m aijobs {line}".rstrip())
    assert "\nexamples:\n  .venv/bin/python -m aijobs " in text
    assert f"\n  .venv/bin/python -m aijobs {command} --help\n" in text


def test_invalid_command_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch):
    """The sentence about an invalid command line is broken between words."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with pytest.raises(SystemExit):
        make_parser().parse_args(["usage", "--quickly", "--thoroughly", *(f"--{'x' * 20}-{n}" for n in range(4))])

    lines = terminal.getvalue().splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80


def test_help_loads_no_sdk():
    """`--help`, also of a command, doesn't wait for an SDK."""
    code = (
        "import sys, aijobs.__main__; from aijobs.parser import make_parser; make_parser().format_help(); "
        "print(*sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {name.split(".")[0] for name in process.stdout.split()}
    assert set() == loaded & {"aiohttp", "azure", "httpx", "msgspec", "rich"}


def test_version_of_a_checkout_is_in_pyproject(capsys: pytest.CaptureFixture[str]):
    """From a checkout, the version is the one in pyproject.toml."""
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (0, f"aijobs {project['version']}\n") == (exit_info.value.code, capsys.readouterr().out)
    assert "aijobs.__main__:main" == project["scripts"]["aijobs"]


@pytest.mark.parametrize("pyproject", [None, '[project]\nname = "another"\nversion = "1.0"\n'])
def test_version_of_an_installed_package_is_in_its_metadata(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pyproject: str | None
):
    """Without a checkout the package's metadata has the version, and another project's file is ignored."""
    metadata = tmp_path / "customer_ai_jobs-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: customer-ai-jobs\nVersion: 9.8.7\n")
    if pyproject is not None:
        (tmp_path / "pyproject.toml").write_text(pyproject)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(version, "_PYPROJECT", tmp_path / "pyproject.toml")

    assert "9.8.7" == version.project_version()


@every_row(
    "line",
    [
        "prices set m --provider openai --input 1 --customer ''",
        "prices list --customer ''",
        "usage contoso --month ''",
        "submit --customer a --action chat --prompt x --job-id ''",
        "watch '' --once",
        "export contoso --to ''",
        "usage contoso --settings ''",
    ],
)
def test_empty_argument_is_no_default(capsys: pytest.CaptureFixture[str], line: str):
    """A variable of the shell that is not set makes nobody's price everybody's, and no job another one."""
    with pytest.raises(SystemExit) as exit_info:
        own_parser().parse_args(shlex.split(line))

    assert 2 == exit_info.value.code
    assert "an argument is empty, such as a variable of the shell that is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "stream"),
    [
        ("--version", 0, "stdout"),
        pytest.param("watch --onc", 2, "stderr", marks=pytest.mark.long),
        pytest.param("watch --onc", 2, "stdout", marks=pytest.mark.long),
        pytest.param("usage nobody --json", 0, "stderr", marks=pytest.mark.long),
    ],
)
async def test_closed_stream_is_no_error(cli: CliRunner, line: str, code: int, stream: str):
    """A command whose caller has closed a stream, as `aijobs … >&-` does, writes to the other alone."""
    cli.write_settings()
    descriptor = {"stdout": 1, "stderr": 2}[stream]
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'exec "$@" {descriptor}>&-', "sh", sys.executable, "-m", "aijobs", *line.split()),
        cwd=cli.directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    out, err = await process.communicate()

    assert code == process.returncode
    assert b"Traceback" not in out + err
    assert b"" == (out if stream == "stdout" else err)


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
async def test_pipe_gets_utf_8(cli: CliRunner, customer: Customer, encoding: str):
    """Whatever the locale, as on Windows, a document is the same, and a sentence can be written."""
    cli.write("template.json", '{"action": "chat", "input": {"prompt": "日本 é 🙂"}}\n')
    await cli.expect(f"templates set {customer.name} template.json")
    line = f"templates show {customer.name}"

    shown, document = await cli.run(line), await cli.run(f"{line} --json")
    error = await cli.run_process("submit 日本.csv --settings x --json", PYTHONIOENCODING=encoding)

    assert (0, 0, 1) == (shown.code, document.code, error.code)
    assert shown.out == (cli.directory / "template.json").read_text() == json.loads(document.out)["template"]
    message = "日本.csv can't be read: No such file or directory."
    assert (f"aijobs: {message}\n", message) == (error.err, json.loads(error.out)["error"]["message"])
    assert "日本" in error.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device is Linux's")
@pytest.mark.long
@pytest.mark.parametrize("line", ["usage nobody", "usage nobody --json"])
async def test_full_disk_is_one_sentence(cli: CliRunner, line: str):
    """A report that can't be written is an error, not a success and no traceback."""
    cli.write_settings()
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", *line.split()),
        cwd=cli.directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=full,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(full)

    _, err = await process.communicate()

    assert (1, b"aijobs: stdout can't be written: No space left on device.\n") == (process.returncode, err)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("--help", marks=pytest.mark.long),
        "--version",
        pytest.param("usage nobody --json", marks=pytest.mark.long),
        pytest.param("usage nobody", marks=pytest.mark.long),
    ],
)
async def test_reader_that_has_enough_is_no_error(cli: CliRunner, line: str):
    """If nobody reads stdout any more, as after `aijobs … | head`, the command ends without a complaint."""
    cli.write_settings()
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aijobs", *line.split()),
        cwd=cli.directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)

    _, err = await process.communicate()

    assert (0, b"") == (process.returncode, err)

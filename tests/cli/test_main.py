"""The command line as a whole: errors are sentences, `--help` is quick, and the app doesn't know it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli_runner import CliRunner

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("submit --customer a", "Name a file of jobs"),
        ("submit --customer a --prompt x --input {}", "Name a file of jobs"),
        ("submit --customer a --action chat --input {", "--input is not valid JSON"),
        ("submit --customer a --action chat --input '{}'", "input"),
        ("submit --customer a --action dance --prompt x", "`action` must be one of"),
        ("submit --customer a --action chat --prompt x --check", "need a file of jobs"),
        ("submit jobs.csv --prompt x", "--prompt can't be used with a file"),
        ("submit jobs.csv --batch ../x", "--batch must be"),
        ("submit none.csv", "can't be read"),
        ("watch --once", "Name either a file"),
        ("watch jobs.csv --customer a --once", "Name either a file"),
        ("watch jobs.csv --once", "was not submitted from here"),
        ("watch jobs.csv --job a --once", "--job needs a --customer"),
        ("watch --customer A_B --once", "lower-case letters"),
        ("watch --customer a --job a/b --once", "a job's id"),
        ("watch --customer nobody-at-all --once", "There are no jobs"),
        ("results jobs.csv --to out", "was not submitted from here"),
        ("usage a --month 2026-13", "--month must be"),
        ("usage a --by day,price", "--by must be one or more of"),
        ("usage A_B", "lower-case letters"),
        ("erase A_B --yes", "lower-case letters"),
        ("export a --to full", "full is not empty"),
        ("customers add No_Customer --endpoint https://api.openai.com", "lower-case letters"),
        ("customers add a--b --endpoint https://api.openai.com", "lower-case letters"),
        ("customers add a --connection A_B", "The connection's name must be"),
        ("customers rotate a", "customers add"),
        ("customers test a", "no connection named default"),
        ("customers list a", "no connection"),
    ],
)
async def test_error_is_one_sentence(cli: CliRunner, line: str, message: str):
    """A command that can't run says why in one line, exits with 1, and queues nothing."""
    cli.write("jobs.csv", "customer,action,input.prompt\na,chat,x\n")
    (cli.directory / "full").mkdir()
    cli.write("full/file", "")

    result = await cli.run(line, stdin="sk-1")

    assert (1, "", True) == (result.code, result.out, message in result.err)
    assert 1 == len(result.err.splitlines())
    assert [] == await cli.harness.messages(cli.harness.environment["JOBS_QUEUE"])


def test_command_line_is_apart_from_the_app():
    """It imports only `shared`, itself and its own requirements, and is not deployed with the app."""
    imported = {
        (node.module or "").split(".")[0]
        for path in (ROOT / "aijobs").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }

    packages = {"azure", "msgspec", "rich"}
    assert {"aijobs", "shared"} == imported - packages - set(sys.stdlib_module_names)
    assert "aijobs/" in (ROOT / ".funcignore").read_text().splitlines()
    own, dev, app = (_pins(directory) for directory in ("aijobs/", "local/", ""))
    assert "rich" in own
    assert own.items() <= dev.items()
    assert set() == set(own) & set(app)


def _pins(directory: str) -> dict[str, str]:
    lines = (ROOT / f"{directory}requirements.txt").read_text().splitlines()
    return dict(line.removesuffix("\\").strip().split("==", 1) for line in lines if re.match(r"[A-Za-z]", line))


def test_help_loads_no_sdk():
    """`--help`, also of a command, doesn't wait for an SDK."""
    code = (
        "import sys, aijobs.__main__; from aijobs.parser import make_parser; make_parser().format_help(); "
        "print(*sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {name.split(".")[0] for name in process.stdout.split()}
    assert set() == loaded & {"aiohttp", "azure", "httpx", "msgspec", "rich"}

"""The operator's command line, run as a process on Storage, and the commands that the docs show."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aijobs.__main__ import main
from aijobs.settings import OUTPUTS, read_app_settings
from shared.storage.base import Row
from tests.support.harness import Customer, World

ROOT = Path(__file__).parents[2]
SHOWN = [
    line
    for block in re.findall(r"^```\n(.*?)^```", (ROOT / "docs/retention.md").read_text(), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python -m aijobs")
]


@dataclass
class Ended:
    """How a command ended, and all that it said."""

    code: int | None
    out: str
    err: str


async def run(world: World, cwd: Path, *arguments: str, said: str = "", **environment: str) -> Ended:
    """Runs a command beside the world's local.settings.json."""
    (cwd / "local.settings.json").write_text(json.dumps({"IsEncrypted": False, "Values": world.environment}))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "aijobs", *arguments),
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(said.encode())
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def customer(world: World) -> Customer:
    """A customer of whom a row and a blob are kept."""
    made = world.customer(connection=None)
    await world.services.table.insert(Row(made.name, "j_1", {"state": "done"}))
    await world.services.blobs.write(world.environment["RESULTS_CONTAINER"], f"{made.name}/1/x.txt", b"x", "text/plain")
    return made


async def test_commands_in_the_docs_run(world: World, customer: Customer, tmp_path: Path):
    """Each command that the page on retention shows does what the page says, with a customer that there is."""
    assert ["export", "erase"] == [shlex.split(line)[3] for line in SHOWN]
    for line in SHOWN:
        ended = await run(
            world, tmp_path, *shlex.split(line.replace("contoso ", f"{customer.name} "))[3:], said=f"{customer.name}\n"
        )

        assert (0, "") == (ended.code, ended.err)

    assert [] == await customer.rows()
    listed = {path.name for path in (tmp_path / "contoso-data").iterdir()}
    page = (ROOT / "docs/retention.md").read_text()
    assert {"rows.jsonl", "blobs.jsonl", "manifest.json", "blobs"} == listed
    assert all(f"`{name}`" in page or f"`{name}/`" in page for name in listed)


async def test_counts_are_told(world: World, customer: Customer, tmp_path: Path):
    """Both commands say how much it was, container by container."""
    results, inputs = world.environment["RESULTS_CONTAINER"], world.environment["INPUT_CONTAINERS"]
    exported = await run(world, tmp_path, "export", customer.name, "--to", "out", "--settings", "local.settings.json")
    erased = await run(world, tmp_path, "erase", customer.name, "--yes", "--settings", "local.settings.json")

    templates = world.environment["TEMPLATES_CONTAINER"]
    counted = f"1 rows, 1 blobs in {results}, 0 blobs in {templates}, 0 blobs in {inputs}.\n"
    assert f"Exported {customer.name} to out: {counted}" == exported.out
    assert f"Erased {customer.name}: {counted}" == erased.out


@pytest.mark.parametrize("said", ["", "\n", "yes\n", "someone-else\n"])
async def test_erasing_wants_the_name_again(world: World, customer: Customer, tmp_path: Path, said: str):
    """Anything but the customer's name deletes nothing, and ends with 1."""
    ended = await run(world, tmp_path, "erase", customer.name, "--settings", "local.settings.json", said=said)

    assert 1 == ended.code
    assert ended.out.endswith("Nothing was deleted.\n")
    assert 1 == len(await customer.rows())


async def test_unfinished_jobs_are_told(world: World, customer: Customer, tmp_path: Path):
    """Erasing says that jobs had not ended."""
    await world.services.table.insert(Row(customer.name, "j_2", {"state": "waiting"}))

    ended = await run(world, tmp_path, "erase", customer.name, "--yes", "--settings", "local.settings.json")

    assert 0 == ended.code
    assert "1 of its jobs had not ended" in ended.out


async def test_settings_come_from_the_environment(world: World, customer: Customer, tmp_path: Path):
    """Without `--settings`, the environment says where Storage is."""
    ended = await run(world, tmp_path, "erase", customer.name, "--yes", **world.environment)

    assert (0, "") == (ended.code, ended.err)
    assert [] == await customer.rows()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read: No such file"),
        ("{", "is not JSON"),
        ("[]", "has no object `Values`"),
        ('{"IsEncrypted": true, "Values": {"JobStorage": "x"}}', "is encrypted"),
        ('{"Values": {}}', "JobStorage must be a connection string"),
        ('{"Values": {"JobStorage": "x", "RETAIN_JOBS_DAYS": "ever"}}', "RETAIN_JOBS_DAYS must be a whole number"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, told: str
):
    """What is wrong with a settings file is said, with its name, and ends with 1."""
    file = tmp_path / "settings.json"
    if content is not None:
        file.write_text(content)

    code = main(["erase", "contoso", "--yes", "--settings", str(file)])

    err = capsys.readouterr().err
    assert 1 == code
    assert told in err
    assert err.startswith("aijobs: ")
    assert 1 == err.count("\n")


async def test_other_errors_are_told_in_a_sentence(world: World, customer: Customer, tmp_path: Path):
    """A full directory, a name that is none, a table that is not there: a sentence and 1, no traceback."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").touch()
    settings = ("--settings", "local.settings.json")
    full = await run(world, tmp_path, "export", customer.name, "--to", "out", *settings)
    nobody = await run(world, tmp_path, "erase", "No Customer", "--yes", *settings)
    missing = await run(
        world, tmp_path, "erase", customer.name, "--yes", **{**world.environment, "JOBS_TABLE": "neverMade"}
    )

    assert (1, "aijobs: out is not empty: an export needs a directory of its own.\n") == (full.code, full.err)
    assert (1, True) == (nobody.code, "is no customer" in nobody.err)
    assert (1, True) == (missing.code, "table neverMade: query: 404 TableNotFound" in missing.err)
    assert "Traceback" not in full.err + nobody.err + missing.err


def test_usage_is_explained(capsys: pytest.CaptureFixture[str]):
    """Without a command, the usage is shown and the code is 2; `--help` names the commands."""
    with pytest.raises(SystemExit) as wrong:
        main([])
    with pytest.raises(SystemExit) as asked:
        main(["--help"])

    shown = capsys.readouterr()
    assert (2, 0) == (wrong.value.code, asked.value.code)
    assert "export" in shown.out
    assert "erase" in shown.out


def test_the_command_line_stands_outside():
    """Of the project it imports `shared` and itself only, it is not published with the app, and has its own pins."""
    imported = {
        (node.module or "").split(".")[0]
        for path in (ROOT / "aijobs").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
    }

    outside = {"azure", "msgspec", "rich"}
    assert {"aijobs", "shared"} == imported - outside - set(sys.stdlib_module_names)
    assert "aijobs/" in (ROOT / ".funcignore").read_text().splitlines()
    own, dev, app = (_pins(name) for name in ("aijobs/", "local/", ""))
    assert "rich" in own
    assert own.items() <= dev.items()
    assert set() == set(own) & set(app)


def _pins(folder: str) -> dict[str, str]:
    lines = (ROOT / f"{folder}requirements.txt").read_text().splitlines()
    return dict(line.removesuffix("\\").strip().split("==", 1) for line in lines if re.match(r"[A-Za-z]", line))


def test_help_loads_nothing_that_does_work():
    """`--help`, of a command too, is there before any SDK is."""
    told = (
        "import sys; from aijobs.parser import make_parser; import aijobs.__main__; make_parser().format_help(); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert set() == loaded & {"aiohttp", "azure", "httpx", "msgspec", "rich"}


def test_the_outputs_of_the_template_are_settings(tmp_path: Path):
    """What azd writes of a deployment is enough to reach it, and the names are the template's."""
    template = (Path(__file__).parents[2] / "infra" / "main.bicep").read_text(encoding="utf-8")
    outputs = set(re.findall(r"^output (\w+) string", template, re.MULTILINE))
    file = tmp_path / "app.settings"
    file.write_text("".join(f'{name}="https://{name.lower()}.example"\n' for name in outputs), encoding="utf-8")

    settings = read_app_settings(file)

    assert set(OUTPUTS) | {"KEY_VAULT_URL"} <= outputs
    assert "https://job_queue_uri.example" == settings.job_storage.queue_service_uri
    assert "https://key_vault_url.example" == settings.key_vault_url

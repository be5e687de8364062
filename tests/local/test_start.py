"""`python -m local start`, as a user runs it: when the settings file exists, and that nothing is left behind."""

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from azure.storage.queue.aio import QueueServiceClient

from local.__main__ import fitted, make_parser
from local.paths import PROJECT
from local.stack import node, settings_file
from local.stack.processes import running
from tests.support.cli_runner import Terminal

READY = r"^Ctrl-C stops everything"


@pytest.fixture
def settings(tmp_path):
    return tmp_path / "local.settings.json"


def command(settings, *more):
    return [sys.executable, "-u", "-m", "local", "start", "--no-host", "--settings", settings, *more]


def started(settings, *more, **options):
    return running("The stack", command(settings, *more), ready=[READY], cwd=PROJECT, **options)


async def failed_start(settings, *more):
    """The exit code and the output of a start that fails."""
    child = await asyncio.create_subprocess_exec(
        *map(str, command(settings, *more)),
        cwd=PROJECT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(child.communicate(), 90)
    return child.returncode, output.decode()


def children(pid):
    """The processes whose parent is `pid`, from /proc."""
    pids = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            pids.append(int(status.parent.name))
    return pids


@pytest.mark.skipif(sys.platform != "linux", reason="Children are found in /proc.")
@pytest.mark.long  # the acceptance tests start a stack within their own process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_stack_starts_and_leaves_nothing_behind(settings, number):
    """
    The settings are written, in Core Tools' format, when all parts are ready; a signal removes everything. The summary
    has the customers and the settings file, but no key of a customer or of the identity.
    """
    output: list[str] = []
    async with started(settings, "--port", "7999", on_line=output.append) as (stack, _):
        document = json.loads(settings.read_text())
        values = document["Values"]
        assert (document["IsEncrypted"], document["Host"]) == (False, {"LocalHttpPort": 7999})
        assert {value for value in values.values() if not isinstance(value, str)} == set()
        assert settings.stat().st_mode & 0o077 == 0
        async with QueueServiceClient.from_connection_string(values["AzureWebJobsStorage"]) as queues:
            assert values["JOBS_QUEUE"] in {queue.name async for queue in queues.list_queues()}
        authority = Path(values["KEY_VAULT_CA_FILE"])
        nodes = children(stack.pid)
        assert len(nodes) == 2

        os.kill(stack.pid, number)

        assert await stack.ended() == "exited with code 0"
        assert not settings.exists()
        assert not authority.parent.exists()
        assert [pid for pid in nodes if cmdline(pid)] == []
        text = "\n".join(output)
        assert all(name in text for name in ("contoso", "fabrikam", "northwind", str(settings)))
        assert set(re.findall(r"=(http://[^;]+)", values["JobStorage"])) == set(re.findall(r"http://\S+count1", text))
        assert [] == [line for line in output if len(line) > 80 and str(settings) not in line]
        assert not any(secret in text for secret in (values["IDENTITY_HEADER"], "AccountKey", "local-"))
        assert list(settings.parent.iterdir()) == []


@pytest.mark.long
async def test_a_second_stack_does_not_start(settings):
    """Two stacks can't share a settings file: the second one reports that, and the first one keeps running."""
    async with started(settings) as (first, _):
        code, output = await failed_start(settings)

        assert code == 1
        assert f"A local stack is already running, as process {first.pid}." in output
        assert json.loads(settings.read_text())["Values"][settings_file.PID_SETTING] == str(first.pid)


def test_no_word_of_an_error_is_broken(settings, monkeypatch):
    """In a terminal, an error has its line breaks between words; lines that are given stay lines."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    with settings_file.written(settings, {}, 7071), pytest.raises(settings_file.SettingsFileInUse) as raised:
        settings_file.check(settings)

    lines = fitted(f"{raised.value}\n  x{'-' * 90}").splitlines()

    assert f"{raised.value}".split() == " ".join(lines[:-1]).split()
    assert [81] < [len(line) for line in lines[-1:]]
    assert max(map(len, lines[:-1])) <= 80 < len(str(raised.value))


@pytest.mark.skipif(sys.platform != "linux", reason="Children are found in /proc.")
@pytest.mark.long
async def test_a_part_that_ends_stops_the_stack(settings):
    """If Storage dies, the stack reports it, exits with 1 and removes its settings."""
    async with started(settings) as (stack, _):
        azurite = next(pid for pid in children(stack.pid) if b"azurite" in cmdline(pid))
        os.kill(azurite, signal.SIGKILL)

        assert await stack.ended() == "exited with code 1"
        assert "Azurite was killed by SIGKILL." in stack.last_lines
        assert not settings.exists()


@pytest.mark.parametrize("number", [2**22 + 1, os.getppid()], ids=["unused", "used by another process"])
def test_the_file_of_a_killed_stack_is_replaced(settings, number):
    """It is replaced even if another process has the stack's number now."""
    settings.write_text(json.dumps({"Values": {settings_file.PID_SETTING: str(number)}}))

    with settings_file.written(settings, {"A": "b"}, 7071):
        assert json.loads(settings.read_text())["Values"]["A"] == "b"

    assert not settings.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        *(
            (("--port", port), 2, f"{port} is not a port: a number from 1 to 65535.")
            for port in ("0", "65536", "99999", "http")
        ),
        (("--workers", "3"), 1, "--workers sets the number of Functions hosts and --no-host starts none"),
        ((), 1, "was not written by the local stack, so it is left unchanged."),
    ],
)
async def test_an_invalid_start_is_an_error(settings, capsys, arguments, code, message):
    """The message is a sentence, and nothing is started; a settings file from another source is not changed."""
    settings.write_text('{"IsEncrypted": false, "Values": {}}')

    try:
        start = make_parser().parse_args(["start", "--no-host", "--settings", str(settings), *arguments])
        ended_with = await start.run(start)
    except SystemExit as exc:
        ended_with = exc.code

    output = capsys.readouterr()
    assert code == ended_with
    assert message in " ".join(output.err.split())
    assert "Starting" not in output.out
    assert settings.read_text() == '{"IsEncrypted": false, "Values": {}}'


def test_a_file_that_was_overwritten_stays(settings):
    """If someone replaces the file while the stack runs, the stack doesn't delete it."""
    with settings_file.written(settings, {}, 7071):
        settings.write_text("{}")

    assert settings.read_text() == "{}"


def test_a_missing_node_package_is_an_error(tmp_path, monkeypatch):
    """The message names what is missing and the command that installs it."""
    monkeypatch.setattr(node, "LOCAL", tmp_path)

    with pytest.raises(node.NotInstalled, match=r"azurite\.js is missing\. `python3 dev\.py start`, or"):
        node.script("azurite/dist/src/azurite.js")


def cmdline(pid):
    """The command line of a process; nothing for one that ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""

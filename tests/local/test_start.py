"""`python -m local start`, as a user runs it: when the settings appear, and that nothing is left behind."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from azure.storage.queue.aio import QueueServiceClient

from local.stack import node, settings_file
from local.stack.processes import running

PROJECT = Path(__file__).parents[2]
READY = r"^Ctrl-C stops everything"


@pytest.fixture
def settings(tmp_path):
    return tmp_path / "local.settings.json"


def command(settings, *more):
    return [sys.executable, "-u", "-m", "local", "start", "--no-host", "--settings", settings, *more]


def started(settings, *more):
    return running("The stack", command(settings, *more), ready=[READY], cwd=PROJECT)


async def refused(settings, *more):
    """The exit code and the whole output of a start that does not come up."""
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
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="Children are found in /proc.")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_stack_comes_up_and_leaves_nothing_behind(settings, number):
    """The settings appear in Core Tools' format when all is ready; a signal takes everything away again."""
    async with started(settings, "--port", "7999") as (stack, _):
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

        assert await stack.ended() == "ended with exit code 0"
        assert not settings.exists()
        assert not authority.parent.exists()
        assert [pid for pid in nodes if cmdline(pid)] == []
        assert list(settings.parent.iterdir()) == []


async def test_no_key_is_printed(settings):
    """The summary names the customers and the places, and no key of theirs nor the identity's."""
    output = []
    async with running("The stack", command(settings), ready=[READY], cwd=PROJECT, tell=output.append):
        header = json.loads(settings.read_text())["Values"]["IDENTITY_HEADER"]

    text = "\n".join(output)
    assert all(name in text for name in ("contoso", "fabrikam", "northwind", str(settings)))
    assert not any(secret in text for secret in (header, "AccountKey", "local-"))


async def test_a_second_stack_is_refused(settings):
    """Two stacks do not share one settings file: the second says so, and the first goes on."""
    async with started(settings) as (first, _):
        code, output = await refused(settings)

        assert code == 1
        assert f"A local stack is running already, as process {first.pid}." in output
        assert json.loads(settings.read_text())["Values"][settings_file.MARK] == str(first.pid)


async def test_settings_of_somebody_else_are_left_alone(settings):
    """A local.settings.json that we did not write is neither used nor changed."""
    settings.write_text('{"IsEncrypted": false, "Values": {}}')

    code, output = await refused(settings)

    assert code == 1
    assert "was not written by the local stack, so it is left alone." in output
    assert "Traceback" not in output
    assert settings.read_text() == '{"IsEncrypted": false, "Values": {}}'


@pytest.mark.skipif(sys.platform != "linux", reason="Children are found in /proc.")
async def test_a_part_that_breaks_ends_the_stack(settings):
    """When Storage dies the stack says so, stops with exit code 1 and takes its settings away."""
    async with started(settings) as (stack, _):
        azurite = next(pid for pid in children(stack.pid) if b"azurite" in cmdline(pid))
        os.kill(azurite, signal.SIGKILL)

        assert await stack.ended() == "ended with exit code 1"
        assert "Azurite was ended by SIGKILL." in stack.last_lines
        assert not settings.exists()


@pytest.mark.parametrize("number", [2**22 + 1, os.getppid()], ids=["nobody's", "somebody else's now"])
def test_what_a_killed_stack_left_is_replaced(settings, number):
    """A file of ours whose stack is gone is nobody's, whoever has got its process number since."""
    settings.write_text(json.dumps({"Values": {settings_file.MARK: str(number)}}))

    with settings_file.written(settings, {"A": "b"}, 7071):
        assert json.loads(settings.read_text())["Values"]["A"] == "b"

    assert not settings.exists()


@pytest.mark.parametrize("port", ["0", "65536", "99999", "http"])
async def test_what_is_no_port_is_refused(settings, port):
    """A number that no port has is told in a sentence, and nothing is started."""
    code, output = await refused(settings, "--port", port)

    assert code == 2
    assert f"{port} is not a port: a number from 1 to 65535." in output


async def test_workers_without_hosts_are_refused(settings):
    """`--workers` beside `--no-host` contradicts it, and is not passed over."""
    code, output = await refused(settings, "--workers", "3")

    assert code == 1
    assert "--workers is the number of Functions hosts, and --no-host leaves them out" in output


def test_a_file_that_changed_hands_stays(settings):
    """What somebody wrote over our file while the stack ran is not deleted with it."""
    with settings_file.written(settings, {}, 7071):
        settings.write_text("{}")

    assert settings.read_text() == "{}"


def test_missing_node_packages_are_told(tmp_path, monkeypatch):
    """The error names what is missing and the command that brings it."""
    monkeypatch.setattr(node, "LOCAL", tmp_path)

    with pytest.raises(node.Missing, match=r"azurite\.js is missing\. `python dev\.py start`"):
        node.script("azurite/dist/src/azurite.js")


def cmdline(pid):
    """The command line of a process; nothing for one that ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""

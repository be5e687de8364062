"""Child processes: readiness, errors in sentences, and that none outlives its parent."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from local.paths import PROJECT
from local.stack.processes import ProcessFailed, running


def python(code):
    return [sys.executable, "-u", "-c", code]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_process_is_returned_when_it_is_ready():
    """The matches are in the order of the patterns, and the process ends with the block."""
    code = "print('two 2'); print('one 1'); import time; time.sleep(60)"
    async with running("It", python(code), ready=[r"one (\d)", r"two (\d)"]) as (process, matches):
        assert [match[1] for match in matches] == ["1", "2"]
        assert alive(process.pid)

    assert not alive(process.pid)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (python("print('no luck'); raise SystemExit(3)"), r"(?s)^It exited with code 3 before it was ready\..*no luck"),
        (["/no/such"], r"^It could not be started: /no/such: No such file or directory\.$"),
    ],
)
async def test_a_process_that_does_not_start_is_an_error(command, message):
    """The message is a sentence with the process's name, and its exit code and last output if it has run."""
    with pytest.raises(ProcessFailed, match=message):
        async with running("It", command, ready=["never"]):
            pass


async def test_a_process_that_is_never_ready_is_stopped():
    """After the timeout it is an error, and the process is gone."""
    code = "import os, time; print(os.getpid()); time.sleep(60)"
    message, within = "nothing.", 0.25
    while message.endswith("nothing."):  # a slow machine has not even started it by then
        within *= 2
        with pytest.raises(ProcessFailed, match=f"was not ready within {within:g} s") as failed:
            async with running("It", python(code), ready=["never"], within=within):
                pass
        message = str(failed.value)

    assert not alive(int(message.split()[-1]))


async def test_a_process_that_ignores_sigterm_is_killed():
    """SIGKILL follows if it doesn't end in time."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    async with running("It", python(code), ready=["ready"]) as (process, _):
        await process.stop(grace_s=0.3)

        assert await process.ended() == "was killed by SIGKILL"


async def test_the_children_of_a_process_end_with_it():
    """A grandchild is in the same process group."""
    code = (
        "import subprocess, sys, time; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "print('ready', p.pid); time.sleep(60)"
    )
    async with running("It", python(code), ready=[r"ready (\d+)"]) as (_, (ready,)):
        grandchild = int(ready[1])
        assert alive(grandchild)

    await wait_until_gone(grandchild)


async def test_long_lines_and_invalid_utf_8_are_read():
    """No output blocks the process or breaks the reader."""
    output = "b'x' * 300000 + b'\\xff\\n'"
    code = f"import sys, time; sys.stdout.buffer.write({output}); print('ready'); time.sleep(60)"
    async with running("It", python(code), ready=["ready"]) as (process, _):
        assert len(process.last_lines) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux kills the children of a parent that was killed.")
async def test_a_child_dies_with_a_parent_that_was_killed():
    """A parent that gets SIGKILL can't stop its children: the kernel does it."""
    code = (
        "import asyncio, sys\n"
        "from local.stack.processes import running\n"
        "async def main():\n"
        "    child = [sys.executable, '-u', '-c', 'import time; print(1); time.sleep(60)']\n"
        "    async with running('It', child, ready=['1']) as (process, _):\n"
        "        print('child', process.pid, flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    async with running("It", python(code), ready=[r"child (\d+)"], cwd=PROJECT) as (parent, (ready,)):
        os.kill(parent.pid, signal.SIGKILL)

        await wait_until_gone(int(ready[1]))


async def wait_until_gone(pid):
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, f"Process {pid} still runs."
        await asyncio.sleep(0.02)

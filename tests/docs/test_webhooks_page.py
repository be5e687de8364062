"""What a newcomer follows on docs/webhooks.md: typed into a shell as it is, beside the local stack."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from local.stack.hosts import free_port
from local.stack.processes import running
from tests.support.doc_samples import ROOT, WEBHOOK_EVENT, WEBHOOK_TEMPLATE, section

TRY_IT = section("docs/webhooks.md", "Try it in five minutes")
TEMPLATES = section("docs/webhooks.md", "Webhooks").partition("\n### Templates\n")[2]
APP, RECEIVER = "7071", "8765"


class Terminal:
    """A shell in a folder, in which a reader types what the page says."""

    def __init__(self, shell: asyncio.subprocess.Process, ports: dict[str, str]) -> None:
        self._shell = shell
        self._ports = ports
        self._typed = 0

    async def type(self, text: str) -> str:
        """What the shell prints until it has run the text."""
        assert self._shell.stdin is not None
        self._typed += 1
        done = f"exit code of {self._typed}: "
        self._shell.stdin.write(f"{self.adapt(text)}\necho {done}$?\n".encode())
        output = await self.printed(done)
        assert output.endswith(f"{done}0\n"), output
        return output.removesuffix(f"{done}0\n")

    async def printed(self, text: str) -> str:
        """What is printed up to the line with this text, which the receiver may print later."""
        assert self._shell.stdout is not None
        output = ""
        async with asyncio.timeout(60):
            while text not in output:
                line = await self._shell.stdout.readline()
                assert line, output
                output += line.decode()
        return output

    def adapt(self, text: str) -> str:
        """The text with ports that are free here."""
        for port, own in self._ports.items():
            text = text.replace(port, own)
        return text


@pytest_asyncio.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    """A terminal in a folder with the project's .venv and the settings of the stack that runs in the first terminal."""
    assert ("", f"python3 dev.py start --port {APP}\n") == steps(TRY_IT)[0]
    ports = {APP: str(free_port()), RECEIVER: str(free_port())}
    start = [sys.executable, "-u", "-m", "local", "start", "--port", ports[APP]]
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    settings = tmp_path / "local.settings.json"
    async with running("The stack", [*start, "--settings", settings], ready=["^Ctrl-C stops everything"], cwd=ROOT):
        shell = await asyncio.create_subprocess_exec(
            "bash",
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Terminal(shell, ports)
        finally:
            os.killpg(shell.pid, 9)  # the receiver, too
            await shell.wait()


@pytest.mark.long
async def test_a_newcomer_gets_from_a_secret_to_a_verified_callback(terminal: Terminal, tmp_path: Path):
    """Each step works as the page says, in its order: receiver, signed event, replay, a wrong secret, template."""
    outputs: dict[str, str] = {}
    for kind, block in steps(TRY_IT)[1:]:
        await follow(terminal, tmp_path, kind, block, outputs)

    result = documents(next(text for block, text in outputs.items() if block.endswith('msg_4711/result"\n')))[-1]
    rejected = next(text for block, text in outputs.items() if block.startswith("SECRET="))
    assert ("msg_4711", "succeeded") == (result["job_id"], result["status"])
    assert result["output"]["text"]
    assert "401" in rejected

    (tmp_path / "event.json").write_text(WEBHOOK_EVENT)
    (tmp_path / "template.json").write_text(terminal.adapt(WEBHOOK_TEMPLATE))
    (replay,) = [block for block in outputs if block.startswith("send_event msg_4711")]
    for kind, block in steps(TEMPLATES)[2:]:
        if "templates remove" in block:
            assert "order.id" in await terminal.type(replay)
        await follow(terminal, tmp_path, kind, block, outputs)
    again = documents(await terminal.type(replay))[-1]

    assert "The event becomes this job:" in outputs[next(block for block in outputs if "templates set" in block)]
    assert ("msg_4711", "succeeded") == (again["job_id"], again["status"])


async def follow(terminal: Terminal, folder: Path, kind: str, block: str, outputs: dict[str, str]) -> None:
    """Do what a block says. JSON is a part of what was printed last, other text the next that is printed."""
    last = next(reversed(outputs.values()), "")
    if kind == "python":
        (folder / "receiver.py").write_text(terminal.adapt(block))
    elif kind == "bash":
        outputs[block] = await terminal.type(block)
    elif kind == "text":
        if block not in last:
            await terminal.printed(block)
        await asyncio.sleep(1)  # until the app has recorded the receiver's response
    else:
        assert terminal.adapt(block) in last or any(is_part(json.loads(block), each) for each in documents(last)), last


def steps(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a text, each with its language."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def documents(output: str) -> list[dict[str, Any]]:
    """The JSON objects that have a line of their own."""
    return [json.loads(line) for line in re.findall(r"^{.*}$", output, re.MULTILINE)]


def is_part(shown: object, printed: object) -> bool:
    """Whether all that is shown was printed."""
    if isinstance(shown, dict) and isinstance(printed, dict):
        return all(name in printed and is_part(value, printed[name]) for name, value in shown.items())
    return shown == printed

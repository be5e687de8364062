"""The section of docs/webhooks.md that a newcomer follows: typed into a shell as it is, beside the local stack."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from local.stack.hosts import free_port
from local.stack.processes import running
from tests.support.doc_samples import ROOT, blocks, section

TRY_IT = section("docs/webhooks.md", "Try it in five minutes")
STEPS = re.findall(r"^```(\w*)\n(.*?)^```", TRY_IT, re.MULTILINE | re.DOTALL)
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
    assert ("", f"python3 dev.py start --port {APP}\n") == STEPS[0]
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


async def test_a_newcomer_gets_from_a_secret_to_a_verified_callback(terminal: Terminal, tmp_path: Path):
    """Secret, receiver, signed event, callback, result: each step of the page works as the page says, in its order."""
    secret, outputs = "", []
    for kind, block in STEPS[1:]:
        if kind == "python":
            (tmp_path / "receiver.py").write_text(terminal.adapt(block))
        elif kind == "text":
            assert block in await terminal.printed(block.strip())
        else:
            outputs.append(await terminal.type(block.replace("whsec_…", secret or "whsec_…")))
            if not secret:
                (secret,) = re.findall(r"^whsec_\S+$", outputs[-1], re.MULTILINE)
    event = next(block for _, block in STEPS if "openssl" in block)
    again = await terminal.type(event)
    changed = await terminal.type(event.replace('-d "$BODY"', "-d '{}' -o body.json -s -w '%{http_code}'"))

    documents = [re.findall(r"^{.*}$", text, re.MULTILINE) for text in (*outputs[-2:], again)]
    status, result, repeated = (json.loads(document) for (document,) in documents)
    assert ("msg_4711", "contoso", "queued") == tuple(status[name] for name in ("job_id", "customer", "status"))
    assert ("msg_4711", "succeeded") == (result["job_id"], result["status"])
    assert result["output"]["text"]
    assert ("msg_4711", status["submitted_at"]) == (repeated["job_id"], repeated["submitted_at"])
    assert "401" in changed


async def test_an_event_of_another_system_becomes_a_job(terminal: Terminal, tmp_path: Path):
    """The page's template and event, in files: the command prints the job that is made of a signed event, too."""
    event, template, job = blocks("docs/webhooks.md", "json")[:3]
    (tmp_path / "event.json").write_text(event)
    (tmp_path / "template.json").write_text(template)
    (store,) = [block for block in blocks("docs/webhooks.md", "bash") if "templates set" in block]
    (create, *_, send) = [
        block for kind, block in STEPS if kind == "bash" and ("create" in block or "openssl" in block)
    ]

    (secret,) = re.findall(r"^whsec_\S+$", await terminal.type(create), re.MULTILINE)
    stored = await terminal.type(store)
    await terminal.type(f"export SECRET={secret}")
    sent = await terminal.type(re.sub(r"^BODY=.*$", "BODY=$(cat event.json)", send, flags=re.MULTILINE))

    made, shown = (json.loads(re.search(r"^{.*^}", text, re.MULTILINE | re.DOTALL)[0]) for text in (stored, job))
    assert shown["input"] == made["input"]
    assert (shown["job_id"], "queued") == (json.loads(sent[sent.index("{") :])["job_id"], "queued")

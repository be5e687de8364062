"""
The code generators that the OpenAPI document is tested with, in an environment of their own within .venv.

The long tests alone need them, so nobody's set-up waits for them.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local.stack.node import node
from tests.support import authorities
from tests.support.doc_samples import ROOT

FOLDER = ROOT / "tests/openapi/generators"
DOCUMENT = ROOT / "shared/http/static/openapi.json"
_TOOLS = (ROOT / ".venv").resolve() / "generators"
_PYTHON = _TOOLS / "bin/python"
_STAMP = _TOOLS / "installed.txt"
_PINS = [FOLDER / name for name in ("requirements.txt", "package.json", "package-lock.json")]


@dataclass(frozen=True)
class Client:
    """A generated client in a folder, beside programs that use it."""

    folder: Path
    command: tuple[str, ...]
    """What runs a program."""
    suffix: str
    """Of a program's file."""
    output: str
    """What generating and compiling it printed."""

    async def run(self, program: str, *arguments: str) -> str:
        """The output of a program, which is named without its suffix."""
        return await run(*self.command, f"{program}{self.suffix}", *arguments, folder=self.folder)


async def install() -> None:
    """Install what the folder of the generators pins, unless it is. Fails with what is missing, and never skips."""
    with _TOOLS.with_suffix(".lock").open("w") as lock:  # two runs of the tests may share .venv
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        await _install()


async def _install() -> None:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _PINS)).hexdigest()
    pins = f"{digest} {sys.version.split()[0]} {_TOOLS}"
    if _STAMP.is_file() and _STAMP.read_text() == pins:
        return
    await run(sys.executable, "-m", "venv", "--clear", str(_TOOLS))
    for file in _PINS:
        shutil.copy(file, _TOOLS)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
    await run(str(_PYTHON), *pip, "-r", "requirements.txt", folder=_TOOLS)
    await run(*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", folder=_TOOLS)
    _STAMP.write_text(pins)


async def python_client(folder: Path, programs: Mapping[str, str]) -> Client:
    """The Python client, generated and compiled with the texts of programs that use it."""
    output = await run(
        str(_PYTHON.parent / "openapi-python-client"),
        *("generate", "--fail-on-warning", "--path", str(DOCUMENT), "--output-path", str(folder), "--overwrite"),
        folder=folder,
    )
    _write(folder, programs, ".py")
    output += await run(str(_PYTHON), "-W", "error", "-m", "compileall", "-q", str(folder), folder=folder)
    return Client(folder, (str(_PYTHON), "-W", "error"), ".py", output)


async def typescript_client(folder: Path, programs: Mapping[str, str]) -> Client:
    """
    The TypeScript client, generated and compiled with the texts of programs that use it, with all strict checks.
    TypeScript's own library alone is not checked.
    """
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(FOLDER / name, folder)
    _write(folder, programs, ".ts")
    (folder / "node_modules").symlink_to(_TOOLS / "node_modules")
    bin_folder = folder / "node_modules/.bin"
    output = await run(
        *(node(), str(bin_folder / "openapi-typescript"), str(DOCUMENT), "--output", "customer-ai-jobs.d.ts"),
        folder=folder,
    )
    output += await run(node(), str(bin_folder / "tsc"), "--project", ".", folder=folder)
    return Client(folder, (node(),), ".js", output)


async def run(*command: str, folder: Path = ROOT) -> str:
    """What a command prints. Fails with that if its exit code is not 0."""
    path = f"{_PYTHON.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**authorities.environment(), "PATH": path, "NO_PROXY": "127.0.0.1", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert 0 == process.returncode, f"{' '.join(command)}\n{output.decode()}"
    return output.decode()


def _write(folder: Path, programs: Mapping[str, str], suffix: str) -> None:
    for name, text in programs.items():
        (folder / f"{name}{suffix}").write_text(text, encoding="utf-8")


def _npm() -> tuple[str, ...]:
    """The npm on PATH, or the one beside the Node.js that `dev.py` installed."""
    if npm := shutil.which("npm"):
        return (npm,)
    script = Path(node()).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    assert script.is_file(), "The TypeScript client can't be built: there is no npm on PATH, and none beside Node.js."
    return (node(), str(script))

"""PostgreSQL on a free port of loopback, with its data in a folder of its own, until the block ends."""

import asyncio
import contextlib
import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateways.installs import Absent
from local.stack.hosts import free_port
from local.stack.processes import running

_USER = "benchmark"
DEBIAN = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"  # Debian's; PostgreSQL refuses to run as root
_READY = "database system is ready to accept connections"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running PostgreSQL."""

    url: str
    _psql: Path

    async def query(self, sql: str) -> list[str]:
        """The rows of a query of one column."""
        return (await _output([self._psql, self.url, "-At", "-v", "ON_ERROR_STOP=1", "-c", sql])).splitlines()

    async def run(self, files: Sequence[Path]) -> None:
        """Run files of SQL, in their order."""
        commands = [argument for file in files for argument in ("-f", str(file))]
        await _output([self._psql, self.url, "-q", "-v", "ON_ERROR_STOP=1", *commands])


@contextlib.asynccontextmanager
async def start() -> AsyncIterator[Postgres]:
    """Raises Absent, ProcessFailed."""
    initdb, server, psql = map(_program, ("initdb", "postgres", "psql"))
    as_user = _drop_root()
    with tempfile.TemporaryDirectory(prefix="customer-ai-jobs-") as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, _ACCOUNT)
        data, port = folder / "data", free_port()
        await _output([*as_user, initdb, "-D", data, "-A", "trust", "-U", _USER, "-E", "UTF8"])
        command: list[str | Path] = [
            *as_user,
            server,
            "-D",
            data,
            "-p",
            str(port),
            "-k",
            folder,
            "-h",
            "127.0.0.1",
        ]
        async with running("PostgreSQL", command, ready=[_READY], cwd=folder):
            yield Postgres(f"postgresql://{_USER}@127.0.0.1:{port}/postgres", psql)


def _program(name: str) -> Path:
    """A program of PostgreSQL. Debian has most of them beside the path, in a folder for each version."""
    if program := shutil.which(name):
        return Path(program)
    versions = sorted(DEBIAN.glob(f"*/bin/{name}"))
    if not versions:
        raise Absent(f"PostgreSQL is not installed: there is no {name}")
    return versions[-1]


def _drop_root() -> list[str]:
    """What runs a command as another user than root; nothing for another user."""
    if sys.platform == "win32" or os.getuid():
        return []
    with contextlib.suppress(KeyError):
        return ["setpriv", f"--reuid={pwd.getpwnam(_ACCOUNT).pw_uid}", "--clear-groups", "--pdeathsig=KILL", "--"]
    raise Absent(f"PostgreSQL does not run as root, and there is no user {_ACCOUNT}")


async def _output(command: Sequence[str | Path]) -> str:
    child = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
    )
    printed, errors = await child.communicate()
    if child.returncode:
        raise Absent(f"{Path(command[0]).name} failed: {errors.decode(errors='replace').strip()[-200:]}")
    return printed.decode()

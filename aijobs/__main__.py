"""`python -m aijobs`: reads the command line, runs one command, and says what went wrong in a sentence."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from aijobs.diagnostics import Refused, mended
from aijobs.parser import make_parser
from shared.errors import JobError, RetryLater, SettingInvalid

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives 0, or 1 where it failed. Wrong usage exits with 2."""
    asked = make_parser().parse_args(arguments)
    # What is wrong is said in a sentence; azure-identity alone would log a page for each login that it tries.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(run(asked))
    except KeyboardInterrupt:
        sys.stderr.write("aijobs: stopped.\n")
        return 130


async def run(asked: argparse.Namespace) -> int:
    """Runs a command that the parser has read; as `main`."""
    room, _, command = asked.run.partition(".")
    try:
        code: int = await getattr(import_module(f"aijobs.{room}"), command)(asked)
    except (Refused, SettingInvalid, JobError, RetryLater) as exc:
        sys.stderr.write(f"aijobs: {mended(str(exc))}\n")
        return 1
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        sys.stderr.write(f"aijobs: {where}{exc.strerror or exc}\n")
        return 1
    except ModuleNotFoundError as exc:
        sys.stderr.write(
            f"aijobs: the package {exc.name} is not installed: `pip install -r aijobs/requirements.txt` brings it.\n"
        )
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())

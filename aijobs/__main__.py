"""`aijobs`, also as `python -m aijobs`: parse the command line, run one command, report an error as one sentence."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aijobs.diagnostics import CommandError, with_remedy
from aijobs.parser import make_parser
from shared.errors import JobError, RetryLater, SettingInvalid

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, 1 if it failed, or 130 after Ctrl-C. Wrong usage exits with 2."""
    args = make_parser(_program_name()).parse_args(arguments)
    # Without a handler, azure-identity would log a page for each login that it tries.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(run(args))
    except KeyboardInterrupt:
        sys.stderr.write("aijobs: stopped.\n")
        return 130


async def run(args: argparse.Namespace) -> int:
    """Run the command that the parser selected. Return its exit code, or 1 after an error that it names on stderr."""
    module, _, function = args.run.partition(".")
    try:
        code: int = await getattr(import_module(f"aijobs.{module}"), function)(args)
    except (CommandError, SettingInvalid, JobError, RetryLater) as exc:
        return _fail(with_remedy(str(exc)))
    except OSError as exc:
        file = f"{exc.filename}: " if exc.filename else ""
        return _fail(f"{file}{exc.strerror or exc}")
    except ModuleNotFoundError as exc:
        command = "pip install -r requirements.txt -r aijobs/requirements.txt"
        return _fail(f"The package {exc.name} is not installed. In the project's directory, run `{command}`.")
    return code


def _fail(message: str) -> int:
    sys.stderr.write(f"aijobs: {message}\n")
    return 1


def _program_name() -> str:
    return "python -m aijobs" if Path(sys.argv[0]).name == "__main__.py" else "aijobs"


if __name__ == "__main__":
    sys.exit(main())

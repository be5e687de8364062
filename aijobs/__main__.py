"""`aijobs`, also as `python -m aijobs`: parse the command line, run one command, report an error as one sentence."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from aijobs.diagnostics import CommandError, NotFound, with_remedy
from aijobs.parser import make_parser
from aijobs.program import program_name
from aijobs.report import print_document, print_error
from shared.errors import JobError, RetryLater, SettingInvalid

if TYPE_CHECKING:
    import argparse

    from aijobs.report import Report

_ERRORS = (CommandError, SettingInvalid, JobError, RetryLater, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, 1 if it failed, or 130 after Ctrl-C. Wrong usage exits with 2."""
    _prepare_streams()
    try:
        try:
            return _main(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # such as `aijobs … | head`, whose reader has enough; not an error of ours
        _discard_stdout()
        return 0
    except OSError as exc:  # such as a disk that is full
        _discard_stdout()
        sys.stderr.write(f"aijobs: stdout can't be written: {exc.strerror}.\n")
        return 1


def _prepare_streams() -> None:
    """Let every text be written: into a pipe or a file in UTF-8, whatever the locale is, as JSON has to be."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the caller has closed it
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="replace")


def _discard_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more


def _main(arguments: Sequence[str] | None) -> int:
    args = make_parser(program_name()).parse_args(arguments)
    # Without a handler, azure-identity would log a page for each login that it tries.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return asyncio.run(run(args))
    except KeyboardInterrupt:
        sys.stderr.write("aijobs: stopped.\n")
        return 130


async def run(args: argparse.Namespace) -> int:
    """
    Run the command that the parser selected, and print its report. Return its exit code.

    An error is a sentence on stderr and, with `--json`, a document on stdout; the code is 1, or 2 if the command line
    is invalid.
    """
    module, _, function = args.run.partition(".")
    try:
        report: Report = await getattr(import_module(f"aijobs.{module}"), function)(args)
        if args.json:
            print_document(report.document)
        else:
            from aijobs.console import print_text  # noqa: PLC0415  # `--help` needs no tables

            print_text(report.text)
    except ModuleNotFoundError as exc:
        command = "pip install -r requirements.txt -r aijobs/requirements.txt"
        sentence = f"The package {exc.name} is not installed. In the project's directory, run `{command}`."
        sys.stderr.write(f"aijobs: {sentence}\n")
        if args.json:
            print_error("invalid_request", sentence)
        return 1
    except BrokenPipeError:
        raise
    except _ERRORS as exc:
        from aijobs.console import warn  # noqa: PLC0415

        sentence = _sentence(exc)
        warn(f"aijobs: {sentence}")
        if args.json:
            print_error(_code(exc), sentence)
        return exc.exit_code if isinstance(exc, CommandError) else 1
    return report.exit_code


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        file = f"{error.filename}: " if error.filename else ""
        return f"{file}{error.strerror or error}"
    return with_remedy(str(error))


def _code(error: Exception) -> str:
    """Return the contract's code of an error, or the one that HTTP has for it."""
    if isinstance(error, JobError | CommandError):
        return error.code
    if isinstance(error, RetryLater) and not isinstance(error, SettingInvalid):
        return "unavailable"
    return NotFound.code if isinstance(error, FileNotFoundError) else "invalid_request"


if __name__ == "__main__":
    sys.exit(main())

"""Runs the command line as a person would: in the test's own process, or as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from aijobs.__main__ import run
from aijobs.arguments.base import Parser
from aijobs.parser import make_parser
from tests.support.harness import Harness

ROOT = Path(__file__).parents[2]
TRIGGER_QUEUES = tuple(
    f"{setting}{suffix}" for setting in ("JOBS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE") for suffix in ("", "-poison")
)
"""The queues with a trigger: the settings that have their names."""


@dataclass(frozen=True)
class CliResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams, with each run of white space as one blank."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass(frozen=True)
class CliRunner:
    """Runs commands in a directory, with the settings of a harness."""

    harness: Harness
    directory: Path

    def with_settings(self, **changes: str) -> CliRunner:
        """Return a runner with other settings."""
        environment = {**self.harness.environment, **changes}
        return CliRunner(replace(self.harness, environment=environment), self.directory)

    def write_settings(self) -> Path:
        """Write the settings file as the local stack does, and return its path."""
        identity = {name: os.environ[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        hosts = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "16842752",
            "AzureWebJobsStorage": self.harness.environment["JobStorage"],
        }
        values = {**hosts, **self.harness.environment, **identity}
        return self.write("local.settings.json", json.dumps({"IsEncrypted": False, "Values": values}))

    def write(self, name: str, text: str) -> Path:
        """Write a file into the directory, and return its path."""
        file = self.directory / name
        file.write_bytes(text.encode())
        return file

    async def queued(self) -> list[bytes]:
        """Take the messages out of the jobs queue, and return them."""
        return await self.harness.messages(self.harness.environment["JOBS_QUEUE"])

    async def run(
        self, line: str, *, stdin: str = "", columns: int | None = None, environment: Mapping[str, str] | None = None
    ) -> CliResult:
        """
        Run `aijobs LINE` in this process. A line without `--settings` gets the harness's, unless there is an
        `environment`, whose variables are added to this process's.

        Its output goes into a pipe or, with `columns`, to a terminal of that width and 24 lines.
        """
        words = shlex.split(line)
        if environment is None:
            words += [] if "--settings" in words else ["--settings", "local.settings.json"]
            self.write_settings()
        return await run_words(words, self.directory, stdin=stdin, columns=columns, environment=environment or {})

    async def expect(self, line: str, code: int = 0, *, out: str = "", err: str = "", stdin: str = "") -> CliResult:
        """Run a command as `run`, and check its exit code, and that its streams contain these texts."""
        result = await self.run(line, stdin=stdin)
        assert (code, True, True) == (result.code, out in result.out, err in result.err), (result.out, result.err)
        return result

    async def start(self, line: str, *python: str, **environment: str) -> asyncio.subprocess.Process:
        """
        Start `python -m aijobs LINE` with Python's own options and little else in the environment.

        A line without `--settings` gets the harness's, unless the environment has settings.
        """
        words = shlex.split(line)
        words += [] if "--settings" in words or environment else ["--settings", str(self.write_settings())]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *python, "-m", "aijobs", *words),
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run_process(self, line: str, *, stdin: str = "", **environment: str) -> CliResult:
        """Run `aijobs LINE` as a process in which each warning is an error."""
        process = await self.start(line, "-W", "error", **environment)
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return CliResult(process.returncode, out.decode(), err.decode())


async def run_words(
    words: Sequence[str],
    directory: Path,
    *,
    stdin: str = "",
    columns: int | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> CliResult:
    """Run a command in this process, in that directory; see `CliRunner.run`."""
    out, err, code = (io.StringIO(), io.StringIO(), 0) if columns is None else (Terminal(), Terminal(), 0)
    size = {} if columns is None else {"COLUMNS": str(columns), "LINES": "24"}
    with (
        _process_state(directory, stdin, {**size, **environment}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            args = _parser().parse_args(words)
        except SystemExit as exc:
            code = int(exc.code or 0)
        else:
            code = await run(args)
    assert "Traceback" not in err.getvalue()
    return CliResult(code, out.getvalue(), err.getvalue())


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@functools.cache
def _parser() -> Parser:
    """The parser, which takes as long to make as many a command takes to run."""
    return make_parser()


def current_errors() -> str:
    """Return what the command that is running has written to stderr."""
    return sys.stderr.getvalue() if isinstance(sys.stderr, io.StringIO) else ""


@contextlib.contextmanager
def _process_state(directory: Path, stdin: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Give a command its own directory, stdin and variables, and undo its changes to the environment."""
    environment, before = dict(os.environ), sys.stdin
    sys.stdin = io.StringIO(stdin)
    os.environ.update(variables)
    try:
        with contextlib.chdir(directory):
            yield
    finally:
        sys.stdin = before
        os.environ.clear()
        os.environ.update(environment)

"""The operator's command line as a person uses it, on a world, within the test's own process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aijobs.__main__ import run
from aijobs.parser import make_parser
from tests.support.harness import World


@dataclass(frozen=True)
class Ended:
    """How a command ended, and all that it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What went to either stream, with white space squeezed."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass(frozen=True)
class Operator:
    """Somebody at a terminal in a folder, whose settings lead to a world."""

    world: World
    folder: Path

    def settings(self, **changes: str) -> Path:
        """The settings file of the world, as the local stack writes it, with changes."""
        identity = {name: os.environ[name] for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")}
        file = self.folder / "local.settings.json"
        values = {**self.world.environment, **identity, **changes}
        file.write_text(json.dumps({"IsEncrypted": False, "Values": values}))
        return file

    def on(self, **changes: str) -> Operator:
        """The same with other settings."""
        environment = {**self.world.environment, **changes}
        return Operator(replace(self.world, environment=environment), self.folder)

    async def types(self, line: str, *, said: str = "") -> Ended:
        """What comes of `python -m aijobs LINE`, with `said` on stdin. A line without settings gets the world's."""
        words = shlex.split(line)
        words += [] if "--settings" in words else ["--settings", "local.settings.json"]
        self.settings()
        out, err, code = io.StringIO(), io.StringIO(), 0
        with _as_if_started(self.folder, said), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                asked = make_parser().parse_args(words)
            except SystemExit as exc:
                code = int(exc.code or 0)
            else:
                code = await run(asked)
        assert "Traceback" not in err.getvalue()
        return Ended(code, out.getvalue(), err.getvalue())

    def writes(self, name: str, text: str) -> Path:
        """A file in the folder."""
        file = self.folder / name
        file.write_bytes(text.encode())
        return file


def said_so_far() -> str:
    """What the command that runs at this moment has said."""
    return sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else ""


@contextlib.contextmanager
def _as_if_started(folder: Path, said: str) -> Iterator[None]:
    environment, stdin = dict(os.environ), sys.stdin
    sys.stdin = io.StringIO(said)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.stdin = stdin
        os.environ.clear()
        os.environ.update(environment)

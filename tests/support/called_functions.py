"""Which functions of the app are called, and by which of its own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]


def name_of(frame: FrameType) -> str | None:
    """Return `module:function` of a frame, or None if its code is not the app's."""
    return _name_in(frame.f_code.co_filename, frame.f_code.co_qualname)


@functools.cache  # few functions have many frames
def _name_in(file: str, function: str) -> str | None:
    path = Path(file)
    if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in {"shared", "function_app.py"}:
        return None
    return f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}:{function}"


def stack_of(frame: FrameType | None) -> Iterator[str]:
    """Return the app's functions on the stack, the innermost first."""
    while frame is not None:
        name = name_of(frame)
        if name is not None:
            yield name
        frame = frame.f_back


@contextmanager
def profiled() -> Iterator[list[tuple[str | None, str]]]:
    """
    Record the calls of the app's functions in the block: the caller, if it is the app's, and the function.

    A coroutine that is resumed is not called again.
    """
    calls: list[tuple[str | None, str]] = []
    frames: dict[int, FrameType] = {}  # by id; kept, so that no later frame has the same id

    def record(frame: FrameType, event: str, _: Any) -> None:
        name = name_of(frame) if event == "call" and id(frame) not in frames else None
        if name is not None and "<" not in name.rpartition(".")[2]:  # a comprehension is part of its function
            frames[id(frame)] = frame
            calls.append((next(stack_of(frame.f_back), None), name))

    sys.setprofile(record)
    try:
        yield calls
    finally:
        sys.setprofile(None)

"""How much work a call is, in numbers that no load of the machine changes."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple


class Work(NamedTuple):
    """What a call did and what it took."""

    calls: int
    """Functions that it called, those in C included: one of them is one call, however long it works."""
    peak_bytes: int
    """The memory that it had at a time, of what it allocated: copies of a text, or the values in it."""


def work(call: Callable[[], Any]) -> Work:
    """Count what a call does."""
    calls, profiler, tracer = 0, sys.getprofile(), sys.gettrace()

    def count(_: FrameType, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.settrace(None)  # coverage has a hook of its own
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(profiler)
        sys.settrace(tracer)
    tracemalloc.start()  # a second time: counted while they are traced, both take longer
    try:
        call()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return Work(calls, peak_bytes)

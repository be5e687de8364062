"""How much work a call is, in numbers that no load of the machine changes."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_calls(call: Callable[[], Any]) -> int:
    """Count the functions that a call calls, those in C included: one of them is one call, however long it works."""
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
    return calls


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the memory that a call has at a time, of what it allocates: copies of a text, or the values in it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

"""How much work a call is, in numbers that no load of the machine changes."""

from __future__ import annotations

import cProfile
import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any


def count_calls(call: Callable[[], Any]) -> int:
    """
    Count the functions that a call calls, those in C included: one of them is one call, however long it works.

    Other tests' objects are not searched for garbage meanwhile.
    """
    profiler, tracer = cProfile.Profile(), sys.gettrace()
    sys.settrace(None)  # coverage has a hook of its own
    gc.disable()
    profiler.enable()
    try:
        call()
    finally:
        profiler.disable()
        gc.enable()
        sys.settrace(tracer)
    return sum(entry.callcount for entry in profiler.getstats())


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the memory that a call has at a time, of what it allocates: copies of a text, or the values in it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

"""The windows of hours in which providers make responses in the background for less, and which of them a job gets."""

from __future__ import annotations

from typing import NamedTuple

from shared.contract.job import Options
from shared.contract.usage import Processing
from shared.jobs.lines import BUY_BEFORE_S
from shared.upstream.capabilities import ModelCapabilities

OPTIONS, LENGTH = "background_options", "completion_window"
"""The member of a request that asks for a window, and its own member that says which."""
BUY_MARKS_S = (BUY_BEFORE_S, 1500.0, 1050.0, 600.0)
"""
Before the deadline of a job that is then bought otherwise: when its response is cancelled, and when that is tried again
if nobody knows whether it is. At the last of them, it is taken for lost.
"""
_MARGIN_S = 900.0
"""By which a window is to end before its job's deadline: a response may be looked at every ten minutes alone."""
_LIST_PRICE = "standard"


class Window(NamedTuple):
    """A window."""

    length: str
    """In the provider's words."""
    processing: Processing
    seconds: float


WINDOWS = (Window("8h", "background_8h", 28_800.0), Window("2h", "background_2h", 7_200.0))
"""All of them, the cheapest first."""
_PROCESSING: dict[object, Processing] = {window.length: window.processing for window in WINDOWS}


def window_for(options: Options, left_s: float, shown: ModelCapabilities) -> Window | None:
    """
    Return the cheapest window that a job may have `left_s` seconds before its deadline; None if there is none.

    `shown`: what its model has refused, and how long it took. With `background`, the shortest window is taken even if
    it may be too long.
    """
    is_cheapest = options.processing == "cheapest"
    margin_s = BUY_BEFORE_S if is_cheapest else _MARGIN_S
    for window in WINDOWS:
        took_s = shown.capabilities.batch_seconds(*shown.key, window.processing) or 0
        fits = left_s >= max(window.seconds, took_s) + margin_s or (window is WINDOWS[-1] and not is_cheapest)
        if fits and shown.replacement_for(window.processing) == window.processing:
            return window
    return None


def expected_processing(options: Options, left_s: float, shown: ModelCapabilities) -> Processing:
    """Return in which window a job's response is to be bought: as `window_for`, or in the shortest one."""
    return (window_for(options, left_s, shown) or WINDOWS[-1]).processing


def refuse(processing: str, shown: ModelCapabilities) -> None:
    """Remember that a model has no such window."""
    shown.learn_replacement(processing, _LIST_PRICE)


def processing_of(options: object) -> Processing:
    """Return how a response is made that was asked for with these `background_options`."""
    return _PROCESSING.get(options.get(LENGTH), "standard") if isinstance(options, dict) else "standard"

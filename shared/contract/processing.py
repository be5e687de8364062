"""How a job's calls are bought: at the list price, or patiently for less (`options.processing`)."""

from __future__ import annotations

from typing import Literal

from shared.errors import InvalidJob

Processing = Literal["standard", "batch", "flex", "background", "cheapest"]
PATIENT: frozenset[Processing] = frozenset({"batch", "background", "cheapest"})
"""Those that wait for a provider's window of hours: the deadline runs whatever else the job waits for."""
LINES_ONLY: frozenset[Processing] = frozenset({"batch"})
"""Those whose calls are all lines of batches: an attempt whose worker died has bought nothing that is not on record."""
RESPONSES_ONLY: frozenset[Processing] = frozenset({"background"})
"""Those whose job creates a response that no worker waits for, whatever its action is."""
MAY_BE_RESPONSE: frozenset[tuple[str, Processing]] = frozenset({("chat", "background"), ("chat", "cheapest")})
"""Actions beside `respond` whose job may create a response that no worker waits for, if it is processed so."""
MIN_PATIENT_DEADLINE_S = 3600
"""An hour."""
DEFAULT_DEADLINES_S: dict[Processing, float] = {
    "standard": 86_400.0,
    "flex": 86_400.0,
    "batch": 90_000.0,
    "background": 90_000.0,
    "cheapest": 90_000.0,
}
"""A day; an hour more for what may take a provider a day."""

_FLEX_ACTIONS = ("chat", "multi_chat", "summarize")
_BATCH_ACTIONS = (*_FLEX_ACTIONS, "embed", "respond")
_ACTIONS: dict[Processing, tuple[str, ...]] = {
    "batch": _BATCH_ACTIONS,
    "flex": _FLEX_ACTIONS,
    "background": ("respond", "chat"),
    "cheapest": _BATCH_ACTIONS,
}


def check_processing(action: str, processing: Processing, deadline_s: float) -> None:
    """Raise InvalidJob if a job of that action can't be processed so, or not within its deadline."""
    actions = _ACTIONS.get(processing)
    if actions is not None and action not in actions:
        raise InvalidJob(
            f"`options.processing` must be standard for the action {action}: {processing} is for {', '.join(actions)}."
        )
    if processing in PATIENT and deadline_s < MIN_PATIENT_DEADLINE_S:
        raise InvalidJob(
            f"`options.deadline_s` must be at least {MIN_PATIENT_DEADLINE_S} if `options.processing` is {processing}."
        )

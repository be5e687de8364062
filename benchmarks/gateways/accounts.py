"""
What was bought, by the endpoint's journal, against what a side has on record. Pure, so that tests can pass records that
lack something.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.endpoint import call_tag


@dataclass(frozen=True, slots=True)
class Kept:
    """What a side knows of its calls afterwards."""

    answered: set[str]
    """Tags of the calls whose answers have arrived."""
    recorded: set[str] | None
    """Responses' ids on record; None if there is no record."""
    unanswered: Counter[str]
    """Records, by tag, of calls that may have been paid for, without the answer's id."""


def bought_by(name: str, journal: Mapping[str, str]) -> dict[str, str]:
    """The side's part of the endpoint's journal."""
    prefix = call_tag(name, 0)[:-6]
    return {response: tag for response, tag in journal.items() if tag.startswith(prefix)}


def account(name: str, count: int, journal: Mapping[str, str], kept: Kept) -> dict[str, Any]:
    """The figures of a side that made `count` calls. A call is `unrecorded` if no record can be of it."""
    bought = bought_by(name, journal)
    unknown = Counter(tag for response, tag in bought.items() if response not in (kept.recorded or ()))
    return {
        "calls": count,
        "bought": len(bought),
        "bought_twice": len(bought) - len(set(bought.values())),
        "durable_record": kept.recorded is not None,
        "recorded": len(bought.keys() & (kept.recorded or set())),
        "recorded_as_unanswered": (unknown & kept.unanswered).total(),
        "unrecorded": (unknown - kept.unanswered).total(),
        "without_answer": count - len(kept.answered),
    }

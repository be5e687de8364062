"""
Models that are retired, or soon will be, by `model_retirements.csv`: what the providers' pages said on REVIEWED.

Azure's dates are those of the last version of a model. A deployment there may have the name of another model, so
what follows from its name is a warning.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

from aijobs.finding import Finding
from shared.clock import now

REVIEWED = date(2026, 11, 29)
NOTICE = timedelta(days=120)
"""How long before it is retired a model is named."""
_FILE = Path(__file__).with_name("model_retirements.csv")
_SNAPSHOT = re.compile(r"-\d{4}(-\d{2}-\d{2})?\Z")
"""How the name of a version ends: `-2024-08-06` or, of older ones, `-0613`."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """When a provider no longer serves a model."""

    model: str
    retires: date
    successor: str
    """Empty if the provider names none."""
    source: str


@cache
def retirements() -> dict[tuple[str, str], Retirement]:
    """Return the retirements by provider, `openai` or `azure`, and model."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return {
            (row["provider"], row["model"]): Retirement(
                row["model"], date.fromisoformat(row["retires"]), row["successor"], row["source"]
            )
            for row in csv.DictReader(file)
        }


def check_models(check: str, provider: str, models: Iterable[str]) -> list[Finding]:
    """Return a finding for each model, or deployment with the name of a model, that is retired or soon will be."""
    is_openai = provider == "openai"
    publisher = provider if provider in {"openai", "anthropic"} else "azure"  # the file has none of Anthropic's
    today = now().date()
    findings = []
    for name in models:
        retirement = _find(publisher, name)
        if retirement is None or today < retirement.retires - NOTICE:
            continue
        is_retired = retirement.retires <= today
        subject = f"{name} " if is_openai else f"The model {retirement.model}, whose name the deployment {name} has, "
        verb = "was retired on" if is_retired else "will be retired on"
        successor = _successor(publisher, retirement)
        advice = f"Use {successor} instead." if successor else "Choose another model."
        # Without its scheme, and a period that would be copied along, the page's address fits a line of a terminal.
        page = retirement.source.removeprefix("https://")
        message = f"{subject}{verb} {retirement.retires}. {advice} See {page}"
        findings.append(Finding(check, "error" if is_openai and is_retired else "warning", message))
    return findings


def _find(provider: str, name: str) -> Retirement | None:
    """Return the retirement of a model; a version of it that has no date of its own is retired with it."""
    dated, name = retirements(), name.lower()  # Azure takes deployments in any case
    return dated.get((provider, name)) or dated.get((provider, _SNAPSHOT.sub("", name)))


def _successor(publisher: str, retirement: Retirement) -> str:
    """Return the first successor in line that is neither retired nor soon will be; empty if all are."""
    last_day = now().date() + NOTICE
    name = retirement.successor
    # Each retires later than the one before it, so the line ends.
    while (following := _find(publisher, name)) and following.retires <= last_day:
        name = following.successor
    return name

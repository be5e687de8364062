"""Samples of the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ACTIONS = sorted((ROOT / "docs/actions").glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def members_of(value: Any, at: str = "") -> set[str]:
    """The paths of all members of a JSON value; those of a list's items have the list's path."""
    if isinstance(value, dict):
        return {f"{at}.{name}".strip(".") for name in value} | set().union(
            *(members_of(inner, f"{at}.{name}") for name, inner in value.items())
        )
    return set().union(*(members_of(inner, at) for inner in value)) if isinstance(value, list) else set()


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def section(page: str, heading: str) -> str:
    """The section of a page below a heading of the second level."""
    return (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


JOBS = [
    block
    for page in (ROOT / "docs/submit.md", *ACTIONS)
    for block in blocks(str(page.relative_to(ROOT)), "json")
    if '"action"' in block and '"status"' not in block
]
WEBHOOK_EVENT, WEBHOOK_TEMPLATE, WEBHOOK_JOB = (
    next(block for block in blocks("docs/webhooks.md", "json") if text in block)
    for text in ('"event": "order.returned",\n  "order"', "{{$headers.webhook-id}}", '"webhook": "msg_example"')
)
"""An event on the page about webhooks, a template, and the job that it makes of the event from a file."""

"""Samples of the docs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


ACTIONS = sorted((ROOT / "docs/actions").glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


JOBS = [
    block
    for page in (ROOT / "docs/submit.md", *ACTIONS)
    for block in blocks(str(page.relative_to(ROOT)), "json")
    if '"action"' in block and '"status"' not in block
]

"""Long texts to summarize."""

from __future__ import annotations

import re
from typing import Any

TOO_LONG = {
    "code": "context_length_exceeded",
    "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
}
"""OpenAI's refusal of a text that exceeds the model's context window."""


def long_text(parts: int) -> str:
    """Return numbered paragraphs of 4,000 characters that are split into so many parts, of nine paragraphs each."""
    return "\n\n".join(f"[{number}] " + "word " * 798 for number in range(9 * parts))[:-2000]


def summarized_text(body: dict[str, Any]) -> str:
    """Return the text that a call's messages ask to summarize."""
    match = re.fullmatch(r"<(text\d*)>\n(.*)\n</\1>", body["messages"][1]["content"], re.DOTALL)
    assert match is not None
    return match[2]

"""Jobs of one call each that are stored in different ways."""

from __future__ import annotations

from typing import Any

JOB_KINDS: dict[str, dict[str, Any]] = {
    "chat": {},
    "chat with blob": {"output": {"blob": True}},
    "multi_chat": {"action": "multi_chat", "input": {"prompts": ["Hello?"]}},
}
"""The members of each kind beyond a chat job's: without a step, with its outcome as a step, with a step."""

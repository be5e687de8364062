"""The actions by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.actions.base import action_named
from shared.contract.job import ACTIONS
from shared.errors import InvalidJob
from tests.support.rows import every_row


@every_row("name", ACTIONS)
def test_each_action_of_the_contract_is_served(name: str):
    """Every action of the contract has a module with an action's functions."""
    action = action_named(name)

    assert all(callable(getattr(action, function)) for function in ("decode", "run", "keeps_blobs"))
    assert (name != "raw") is action.NEEDS_MODEL


def test_unknown_action_is_refused():
    """The error for an unknown action names the ones that are served."""
    with pytest.raises(InvalidJob, match=r"`action` sing is not supported\. This version supports chat, multi_chat"):
        action_named("sing")


KEEPS_BLOBS: list[tuple[str, dict[str, Any], bool]] = [
    ("chat", {"prompt": "x"}, False),
    ("multi_chat", {"prompts": ["x"]}, False),
    ("summarize", {"text": "x"}, False),
    ("summarize", {"blob": "inputs/c/a.pdf"}, False),
    ("image", {"prompt": "x"}, True),
    ("edit_image", {"images": ["inputs/c/a.png"], "prompt": "x"}, True),
    ("transcribe", {"blob": "inputs/c/a.mp3"}, False),
    ("speak", {"text": "x", "voice": "alloy"}, True),
    ("embed", {"texts": ["x"]}, False),
    ("embed", {"texts": ["x"], "format": "npy"}, True),
    ("respond", {"input": "x"}, False),
    ("raw", {"path": "x"}, False),
    ("raw", {"path": "x", "response_type": "binary"}, True),
]


def test_every_action_has_an_example():
    """Of whether its results are always in blobs."""
    assert set(ACTIONS) == {name for name, *_ in KEEPS_BLOBS}


@every_row(("name", "request_", "expected"), KEEPS_BLOBS)
def test_some_results_are_always_in_blobs(name: str, request_: dict[str, Any], expected: bool):
    """Images, audio, NumPy files and binary responses are in blobs, whatever the job's `output` says."""
    action = action_named(name)

    assert expected is action.keeps_blobs(action.decode(json.dumps(request_).encode()))

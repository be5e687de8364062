"""What the result of a refused job can still repeat of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.job import salvage
from tests.support.job_bodies import COMPLETE
from tests.support.rows import every_row


@every_row(
    ("members", "valid"),
    [
        pytest.param(COMPLETE, ["job_id", "customer", "action", "model", "metadata"], id="all valid"),
        pytest.param(COMPLETE | {"tempo": 1}, ["job_id", "customer", "action", "model", "metadata"], id="unknown"),
        pytest.param({"customer": "Acme", "action": "chat"}, ["action"], id="customer"),
        pytest.param({"job_id": "..", "customer": "acme"}, ["customer"], id="job id"),
        pytest.param({"job_id": 7, "customer": ["acme"], "action": {"chat": 1}}, [], id="types"),
        pytest.param({"model": "m" * 201, "action": "sing"}, [], id="model and action"),
        pytest.param({"model": " ", "metadata": {"a": 1}}, [], id="blank model, number in metadata"),
        pytest.param({"metadata": {"a": "b" * 4096}, "job_id": None}, [], id="large metadata, null id"),
        pytest.param({}, [], id="nothing"),
    ],
)
def test_only_valid_members_are_repeated(members: dict[str, Any], valid: list[str]):
    """The result of a refused job repeats the members that are valid by themselves, and no other."""
    assert {name: members[name] for name in valid} == salvage(json.dumps(members).encode())


def test_members_are_repeated_whatever_the_others_hold():
    """A number out of range, or bytes that are not UTF-8, in one member do not affect the others."""
    data = b'{"job_id": "a", "model": "\xff", "action": "chat", "metadata": {"b": "c"}, "input": {"seed": 1e999}}'

    assert {"job_id": "a", "action": "chat", "metadata": {"b": "c"}} == salvage(data)


@every_row("data", [b"", b"hello", b"[]", b"\xff", b"null", b"[" * 9999])
def test_nothing_is_repeated_of_other_texts(data: bytes):
    """What is not a JSON object yields nothing, and raises nothing."""
    assert {} == salvage(data)

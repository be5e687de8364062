"""The fingerprint: which jobs ask for the same, and which don't."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.contract.job import Options, decode_job
from shared.jobs.fingerprint import fingerprint, is_own_input, move_input
from tests.support.job_bodies import COMPLETE, SMALLEST, decoded


def test_fingerprint_ignores_how_a_job_is_written():
    """The id, white space, order, escapes and explicit defaults make no difference."""
    first = fingerprint(decode_job(json.dumps(COMPLETE).encode(), default_id="m-1"))
    reverse = {name: COMPLETE[name] for name in reversed(COMPLETE)} | {"job_id": "other"}
    reverse["input"] = {name: COMPLETE["input"][name] for name in reversed(COMPLETE["input"])}

    assert first == fingerprint(decode_job(json.dumps(reverse, indent=3).encode(), default_id="m-1"))
    assert first == fingerprint(decode_job(json.dumps(COMPLETE, ensure_ascii=False).encode(), default_id="m-1"))
    assert fingerprint(decoded()) == fingerprint(
        decoded(connection="default", output={"queue": True}, options={"max_retries": 4}, metadata={})
    )
    assert 64 == len(first)


CHANGES: list[dict[str, Any]] = [
    {},
    {"customer": "acme-2"},
    {"action": "image"},
    {"connection": "us"},
    {"model": "gpt-4.1"},
    {"model": "gpt-4.1-mini"},
    {"input": {}},
    {"input": {"prompt": "Hello? "}},
    {"input": {"prompt": ["Hello?"]}},
    {"input": {"prompt": "Hello?", "parameters": {}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 1}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": "1"}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 2**70}}},
    {"input": {"prompt": "Hello?", "parameters": {"seed": 2**70 + 1}}},
    {"output": {"queue": False}},
    {"output": {"queue": "results"}},
    {"output": {"blob": True}},
    {"options": {"max_retries": 5}},
    {"options": {"deadline_s": 60}},
    {"metadata": {"a": "b"}},
    {"metadata": {"b": "a"}},
]


def test_fingerprint_differs_for_any_other_difference():
    """Jobs that differ in anything but their id have different fingerprints."""
    fingerprints = {fingerprint(decoded(**change)) for change in CHANGES}

    assert len(CHANGES) == len(fingerprints)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (SMALLEST, "9a61c2664a9090f9066c547ee078d8417225b4e51fae5adcc5786ea8004fa955"),
        (COMPLETE, "1fd24c51c5c115e78047f8b944864ce654fcc20d2898fdd5328a67cf0e5fbda4"),
    ],
    ids=["smallest", "whole"],
)
def test_fingerprint_is_the_same_in_every_version(members: dict[str, Any], expected: str):
    """It is in rows that outlive a version: one that changes it makes a `conflict` of every job on record."""
    assert expected == fingerprint(decode_job(json.dumps(members).encode(), default_id="m"))


def test_a_new_option_changes_no_fingerprint():
    """A job without an option that a later version adds asks for the same as before."""
    fields = [(field.name, field.type, field.default) for field in msgspec.structs.fields(Options)]
    later = msgspec.defstruct("Later", [*fields, ("priority", int, 0)], kw_only=True)
    job = decoded(options={"deadline_s": 60})
    options = msgspec.structs.asdict(job.options)

    fingerprints = [
        fingerprint(msgspec.structs.replace(job, options=later(**options, priority=priority))) for priority in (0, 1)
    ]

    assert fingerprint(job) == fingerprints[0] != fingerprints[1]


def test_fingerprint_of_an_input_in_a_blob_is_that_of_its_name():
    """Two jobs that name the same blob ask for the same, two that name different ones do not."""

    def of_blob(name: str) -> str:
        members = {"customer": "acme", "action": "chat", "input_blob": name}
        return fingerprint(decode_job(json.dumps(members).encode(), default_id="m"))

    assert of_blob("inputs/acme/a") == of_blob("inputs/acme/a")
    assert of_blob("inputs/acme/a") != of_blob("inputs/acme/b")


def test_an_input_that_is_moved_to_a_blob_changes_nothing():
    """The job asks for the same, the blob has the input as it was written, and its name is recognized."""
    job = decode_job(json.dumps(COMPLETE, indent=2).encode(), default_id="m")

    moved, name, data = move_input(job, "results")

    assert fingerprint(job) == fingerprint(moved)
    assert moved.input is msgspec.UNSET
    assert f"results/acme/order-7/{name}" == moved.input_blob
    assert is_own_input(f"results/acme/order-7/{name}")
    assert not is_own_input("results/acme/order-7/result.json")
    assert COMPLETE["input"] == json.loads(data)

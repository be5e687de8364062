"""The fingerprint: which jobs ask for the same, and which don't."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.contract.job import Job, Options, decode_job, explicit_members
from shared.jobs.fingerprint import fingerprint, is_own_input, move_input
from tests.support.job_bodies import COMPLETE, SMALLEST, decoded
from tests.support.job_strategies import few, jobs


def shuffled(members: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return the members in another order."""
    return dict(chance.sample(list(members.items()), len(members)))


@few
@given(jobs, st.randoms(use_true_random=False))
@example(COMPLETE, random.Random(7))
def test_fingerprint_ignores_how_a_job_is_written(members: dict[str, Any], chance: random.Random):
    """The id, white space, order and escapes make no difference."""
    others = shuffled(members | {"job_id": "other", "input": shuffled(members["input"], chance)}, chance)
    spaced = json.dumps(others, indent=chance.randint(0, 4), ensure_ascii=chance.random() < 0.5)

    first = fingerprint(decode_job(json.dumps(members).encode(), default_id="m-1"))

    assert first == fingerprint(decode_job(spaced.encode(), default_id="m-2"))
    assert 64 == len(first)


def test_fingerprint_ignores_explicit_defaults():
    """A member that has its default counts as left out."""
    defaults = {"connection": "default", "output": {"queue": True}, "options": {"max_retries": 4}, "metadata": {}}

    assert fingerprint(decoded()) == fingerprint(decoded(**defaults))


def test_fingerprint_ignores_an_explicit_default_deadline():
    """The job keeps it, since it means something (see `on_budget`), and its fingerprint is that of earlier versions."""
    for others in ({}, {"max_retries": 5}):
        explicit = decoded(options={"deadline_s": 86_400, **others})
        assert fingerprint(decoded(options=others)) == fingerprint(explicit)
        assert 86_400 == explicit_members(explicit)["options"]["deadline_s"]


def test_the_default_deadline_is_that_of_the_processing():
    """Of a batch it is 25 hours, and a day is another one."""
    left_out, day, longer = (
        fingerprint(decoded(options={"processing": "batch", **deadline}))
        for deadline in ({}, {"deadline_s": 86_400}, {"deadline_s": 90_000})
    )

    assert left_out == longer != day


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
    {"options": {"processing": "flex"}},
    {"options": {"processing": "batch"}},
    {"options": {"processing": "batch", "deadline_s": 86_400}},
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
    first, same, other = (
        fingerprint(Job(customer="acme", action="chat", input_blob=f"inputs/acme/{name}")) for name in "aab"
    )

    assert first == same != other


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

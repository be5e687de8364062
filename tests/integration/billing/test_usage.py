"""What calls consumed: read as the provider counted, added over calls, never made up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.billing.usage import Call, read_usage, total
from shared.billing.usage_records import usage_rows
from shared.contract.result import ConnectionLabel, Usage
from tests.support.endpoint import reply
from tests.support.harness import World

AT = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 5, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 30, "accepted_prediction_tokens": 1},
            },
            Usage(calls=1, input_tokens=100, output_tokens=50, cached_tokens=80, reasoning_tokens=30),
            id="chat completions",
        ),
        pytest.param(
            {
                "input_tokens": 100,
                "output_tokens": 50,
                "total_tokens": 150,
                "input_tokens_details": {"cached_tokens": 80, "text_tokens": 20, "image_tokens": 80},
                "output_tokens_details": {"reasoning_tokens": 30},
            },
            Usage(calls=1, input_tokens=100, output_tokens=50, cached_tokens=80, reasoning_tokens=30),
            id="Responses and images",
        ),
        pytest.param({"prompt_tokens": 7, "total_tokens": 7}, Usage(calls=1, input_tokens=7), id="embeddings"),
        pytest.param(
            {"prompt_tokens": 7, "input_tokens": 7, "completion_tokens": 2, "output_tokens": 2},
            Usage(calls=1, input_tokens=7, output_tokens=2),
            id="both names",
        ),
        pytest.param(
            {"prompt_tokens": None, "input_tokens": 7, "completion_tokens": None, "output_tokens": 2},
            Usage(calls=1, input_tokens=7, output_tokens=2),
            id="one of two names is null",
        ),
        pytest.param(
            {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None},
            Usage(calls=1, input_tokens=7, output_tokens=2),
            id="details are null",
        ),
        pytest.param({"prompt_tokens": 0, "completion_tokens": 0}, Usage(calls=1), id="zero"),
        pytest.param(
            {"prompt_tokens": 7.0, "completion_tokens": 2.0},
            Usage(calls=1, input_tokens=7, output_tokens=2),
            id="whole numbers with a point",
        ),
    ],
)
def test_usage_is_read_as_it_was_counted(usage: dict[str, Any], expected: Usage):
    """Both ways of naming give the provider's counts; cached and reasoning tokens are not added again."""
    assert expected == read_usage(usage)


@pytest.mark.parametrize(
    "usage", [None, {}, [], "7", 7, True, {"total_tokens": 7}, {"tokens": 7}, {"prompt_tokens": None}]
)
def test_missing_usage_is_missing(usage: object):
    """A provider that did not say is not taken to have said nothing was used."""
    assert read_usage(usage) is None


@pytest.mark.parametrize("count", [-1, 1.5, "7", True, [7], {"n": 7}, 2**31, 10**30, float("inf"), float("nan")])
def test_nonsense_is_no_count(count: object):
    """Where a count is no whole number of tokens the provider has told none; a detail of that kind counts nothing."""
    details = {
        "prompt_tokens_details": {"cached_tokens": count},
        "completion_tokens_details": {"reasoning_tokens": count},
    }

    assert read_usage({"prompt_tokens": count, "completion_tokens": 2}) is None
    assert read_usage({"prompt_tokens": 7, "completion_tokens": count}) is None
    assert Usage(calls=1, input_tokens=7, output_tokens=2) == read_usage(
        {"prompt_tokens": 7, "completion_tokens": 2, **details}
    )


@pytest.mark.parametrize("details", [7, "x", [], True])
def test_nonsense_is_no_detail(details: object):
    """Details of another shape say nothing."""
    assert Usage(calls=1, input_tokens=7) == read_usage(
        {"prompt_tokens": 7, "prompt_tokens_details": details, "completion_tokens_details": details}
    )


def test_largest_count_fits_a_table():
    """The largest whole number of a table is a count."""
    assert Usage(calls=1, input_tokens=2**31 - 1) == read_usage({"prompt_tokens": 2**31 - 1})


def test_total_adds_calls_up():
    """The total adds member by member; a call whose provider said nothing is a call."""
    calls = [
        Call(Usage(calls=1, input_tokens=5, output_tokens=3, cached_tokens=2)),
        Call(None),
        Call(Usage(calls=1, input_tokens=7, reasoning_tokens=1, images=2)),
    ]

    assert Usage(calls=3, input_tokens=12, output_tokens=3, cached_tokens=2, reasoning_tokens=1, images=2) == total(
        calls
    )
    assert Usage() == total([])


def test_rows_hold_the_facts_of_each_call():
    """A row a call, in the customer's partition, with whose account it was and what was counted."""
    calls = [Call(Usage(calls=1, input_tokens=5), "gpt-4.1-2025-04-14", "req-1"), Call(None)]

    first, second = usage_rows("acme", "job-1", "chat", "gpt-4.1", LABEL, calls, AT)

    assert ("acme", "u_2026-11_job-1_0000", "") == (first.partition, first.key, first.etag)
    assert {
        "job_id": "job-1",
        "action": "chat",
        "model": "gpt-4.1",
        "connection": "default",
        "source": "key_vault",
        "provider": "openai",
        "billed_to": "customer",
        "at": AT,
        "outcome": "answered",
        "reported": True,
        "calls": 1,
        "input_tokens": 5,
        "output_tokens": 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "images": 0,
        "answered_by": "gpt-4.1-2025-04-14",
        "request_id": "req-1",
    } == first.values
    assert ("u_2026-11_job-1_0001", False, 1, 0) == (
        second.key,
        second.values["reported"],
        second.values["calls"],
        second.values["input_tokens"],
    )
    assert {"answered_by", "request_id"}.isdisjoint(second.values)


def test_what_an_endpoint_calls_things_is_cut_to_what_a_table_takes():
    """A model or a request id of any length makes a record that is kept: its beginning."""
    (row,) = usage_rows("acme", "j", "chat", "m", LABEL, [Call(None, "m" * 40_000, "r" * 40_000)], AT)

    assert ("m" * 200, "r" * 200) == (row.values["answered_by"], row.values["request_id"])


async def test_a_long_name_of_a_model_is_paid_for_once(world: World):
    """A job whose endpoint calls its model by forty thousand letters succeeds, bought once, with its record."""
    customer = world.customer()
    said = {
        "model": "m" * 40_000,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    }
    customer.account.will_answer(reply(said, headers={"x-request-id": "r" * 4000}))
    result = await customer.run()
    (record,) = await customer.usage()

    assert ("succeeded", 1) == (result["status"], len(customer.account.received))
    assert ("m" * 200, "r" * 200) == (record["answered_by"], record["request_id"])


def test_keys_are_the_same_each_time():
    """The same calls of the same job have the same keys, so that a record can't be written twice."""
    calls = [Call(None)] * 3

    once = [row.key for row in usage_rows("acme", "j", "chat", "m", LABEL, calls, AT)]

    assert once == [row.key for row in usage_rows("acme", "j", "chat", "m", LABEL, calls, AT)]
    assert ["u_2026-11_j_0000", "u_2026-11_j_0001", "u_2026-11_j_0002"] == once
    assert [] == usage_rows("acme", "j", "chat", "m", LABEL, [], AT)


def test_keys_of_different_jobs_never_meet():
    """
    An id that ends like a number of a call makes no key of another job's, and a job whose id was another's before has
    keys of its own by its nonce.
    """
    jobs = ["j", "j_0000", "j_0001", "j_0000_0000", "2026-11", "_"]
    keys = [
        row.key
        for job in jobs
        for nonce in ("0a1b2c3d", "00000000", "")
        for row in usage_rows("acme", job, "chat", "m", LABEL, [Call(None)] * 2, AT, incarnation=nonce)
    ]

    assert len(jobs) * 6 == len(set(keys))
    assert "u_2026-11_j_0a1b2c3d_0000" == keys[0]

"""What calls consumed: read as the provider counted it, and summed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.billing.usage import Call, as_lost, call_of_answer, lost_call, read_usage, total
from shared.contract.result import Usage

LARGEST = 2**31 - 1


def used(input_tokens: int = 0, output_tokens: int = 0, cached_tokens: int = 0, reasoning_tokens: int = 0) -> Usage:
    """Return the usage of a call."""
    return Usage(
        calls=1,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        reasoning_tokens=reasoning_tokens,
    )


USAGES: dict[str, tuple[dict[str, Any], Usage]] = {
    "chat completions": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 5, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30, "accepted_prediction_tokens": 1},
        },
        used(100, 50, 80, 30),
    ),
    "Responses and images": (
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "total_tokens": 150,
            "input_tokens_details": {"cached_tokens": 80, "text_tokens": 20, "image_tokens": 80},
            "output_tokens_details": {"reasoning_tokens": 30},
        },
        used(100, 50, 80, 30),
    ),
    "embeddings": ({"prompt_tokens": 7, "total_tokens": 7}, used(7)),
    "both names": (
        {"prompt_tokens": 7, "input_tokens": 8, "completion_tokens": 2, "output_tokens": 3},
        used(7, 2),
    ),
    "one of two names is null": (
        {"prompt_tokens": None, "input_tokens": 7, "completion_tokens": None, "output_tokens": 2},
        used(7, 2),
    ),
    "details are null": ({"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": None}, used(7, 2)),
    "details under the other name": (
        {"prompt_tokens": 7, "prompt_tokens_details": 1, "input_tokens_details": {"cached_tokens": 3}},
        used(7, cached_tokens=3),
    ),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0}, used()),
    "largest number of a table": ({"prompt_tokens": LARGEST}, used(LARGEST)),
    "whole numbers with a decimal point": ({"prompt_tokens": 7.0, "completion_tokens": 2.0}, used(7, 2)),
}


@pytest.mark.parametrize(("usage", "expected"), USAGES.values(), ids=USAGES)
def test_usage_has_the_providers_counts(usage: dict[str, Any], expected: Usage):
    """Both ways of naming have the provider's counts; cached and reasoning tokens are not added again."""
    assert expected == read_usage(usage)


@pytest.mark.parametrize(
    "usage",
    [
        *(None, [], "7", 7, True),
        *({}, {"total_tokens": 7}, {"tokens": 7}, {"prompt_tokens": None}, {"completion_tokens": 7}),
    ],
)
def test_missing_usage_is_none(usage: object):
    """A usage without a count of input tokens is missing, not zero."""
    assert read_usage(usage) is None


@pytest.mark.parametrize("count", [-1, 1.5, "7", True, [7], {"n": 7}, 2**31, 10**30, float("inf"), float("nan")])
def test_invalid_count_is_none(count: object):
    """
    If a count is not a whole number that a table can hold, the usage is missing; an invalid detail, or details that are
    no object, count zero.
    """
    details = {
        "prompt_tokens_details": {"cached_tokens": count},
        "completion_tokens_details": {"reasoning_tokens": count},
    }
    no_objects = {"prompt_tokens_details": count, "completion_tokens_details": count}

    assert read_usage({"prompt_tokens": count, "completion_tokens": 2}) is None
    assert read_usage({"prompt_tokens": 7, "completion_tokens": count}) is None
    assert read_usage({"prompt_tokens": 7, "output_tokens": count}) is None
    for invalid in (details, no_objects):
        assert Usage(calls=1, input_tokens=7, output_tokens=2) == read_usage(
            {"prompt_tokens": 7, "completion_tokens": 2} | invalid
        )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"usage": {"prompt_tokens": 5}, "model": "gpt-4o"}, Call(Usage(calls=1, input_tokens=5), "gpt-4o", "req-1")),
        ({"data": [{"b64_json": "AA=="}, {"url": "https://x"}]}, Call(None, None, "req-1", images=2)),
        (
            {"data": [{"b64_json": "", "url": "https://x"}, {"b64_json": ""}, {"embedding": [1]}, "url", 7, None]},
            Call(None, None, "req-1", images=1),
        ),
        ({"usage": 7, "model": "", "data": {"url": "https://x"}}, Call(None, None, "req-1")),
        ({"model": 7}, Call(None, None, "req-1")),
        (None, Call(None, None, "req-1")),
        ([{"usage": {"prompt_tokens": 5}}], Call(None, None, "req-1")),
    ],
)
def test_call_is_read_from_the_response(body: object, expected: Call):
    """A response's call has its usage, its model and its images; a usage or model that is invalid is None."""
    assert expected == call_of_answer(body, "req-1")


def test_lost_calls_keep_what_they_consumed():
    """A call whose response could not be kept is `lost`, with the consumption that its response reported."""
    body = b'{"model": "gpt-4o", "usage": {"prompt_tokens": 5, "completion_tokens": 3}}'
    answered = Call(Usage(calls=1, input_tokens=5, output_tokens=3), "gpt-4o", "req-1", images=2)
    lost = replace(answered, outcome="lost")

    assert replace(lost, images=0) == lost_call(body, "req-1")
    assert [lost, lost] == as_lost([answered, lost])
    assert answered.consumed() == lost.consumed()


def test_total_is_the_sum_over_calls():
    """Each member is summed. A call without a reported usage has one call and its images; an unanswered one nothing."""
    calls = [
        Call(Usage(calls=1, input_tokens=5, output_tokens=3, cached_tokens=2)),
        Call(None, images=2),
        Call(Usage(calls=1, input_tokens=7, reasoning_tokens=1), images=1, outcome="lost"),
        Call(Usage(calls=1, input_tokens=100), images=1, outcome="unanswered"),
    ]

    assert Usage(calls=3, input_tokens=12, output_tokens=3, cached_tokens=2, reasoning_tokens=1, images=3) == total(
        calls
    )
    assert Usage() == total([])

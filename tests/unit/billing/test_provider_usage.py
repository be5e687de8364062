"""A provider's usage object, in all the shapes that are known, as the counts that it reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.billing.provider_usage import read_usage
from shared.contract.usage import COUNTS, Usage
from tests.support.rows import every_row

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data/usage.json").read_bytes())
"""Shapes that providers' documentation and public test data show, with sums made by hand."""
LARGEST = 2**31 - 1
_counts = st.none() | st.integers(-3, 300) | st.sampled_from([LARGEST, LARGEST + 1, 1.5, 7.0, "7", True, [], {}])
_details = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "audio_tokens", "image_tokens"]),
    _counts,
)
_usages = st.dictionaries(
    st.sampled_from(
        [
            *("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens", "cached_tokens"),
            *("cache_read_input_tokens", "cache_creation_input_tokens", "prompt_cache_hit_tokens", "seconds"),
        ]
    ),
    _counts,
).flatmap(
    lambda usage: st.builds(
        lambda into, out: usage | {"prompt_tokens_details": into, "completion_tokens_details": out},
        _details | _counts,
        _details | _counts,
    )
)


@every_row("golden", GOLDEN, ids=[golden["name"] for golden in GOLDEN])
def test_counts_are_those_that_the_provider_tells(golden: dict[str, Any]):
    """Each known shape has the counts that were worked out by hand; what it does not report is unknown, not 0."""
    usage = read_usage(golden["usage"])

    assert usage is not None
    values = {name: value for name, value in msgspec.structs.asdict(usage).items() if value is not None}
    assert golden["expected"] | {"calls": 1} == values | {"derived": list(usage.derived)}


@every_row(
    "usage",
    [
        None,
        [],
        "7",
        7,
        True,
        {},
        {"tokens": 7},
        {"prompt_tokens": None},
        {"prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
def test_usage_that_tells_nothing_is_none(usage: object):
    """An object without any count is not reported, rather than zero."""
    assert read_usage(usage) is None


@every_row("count", [-1, 1.5, "7", True, [7], {"n": 7}, 2**31, 10**30, float("inf"), float("nan")])
def test_what_is_no_count_is_unknown(count: object):
    """A member that is not a whole number that a table holds is unknown, and changes no other."""
    usage = read_usage(
        {"prompt_tokens": 7, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    )

    assert Usage(calls=1, input_tokens=7, consistent=True) == usage
    assert Usage(calls=1, seconds=1.5, consistent=True) == read_usage({"seconds": 1.5, "prompt_tokens": count})
    assert LARGEST == read_usage({"prompt_tokens": LARGEST}).input_tokens  # type: ignore[union-attr]


@given(_usages)
def test_no_count_is_invented(usage: dict[str, Any]):
    """No count is negative; without a total none is derived; only reported members count; parts fit or are marked."""
    result = read_usage(usage)

    if result is None:
        return
    counts = {name: getattr(result, name) for name in COUNTS if getattr(result, name) is not None}
    assert all(0 <= count <= LARGEST for count in counts.values())
    assert not result.derived or result.total_tokens is not None
    sides = {"input_tokens": ("prompt_tokens", "input_tokens"), "output_tokens": ("completion_tokens", "output_tokens")}
    for side, members in sides.items():
        is_told = any(usage.get(member) is not None for member in members)
        assert side not in counts or side in result.derived or is_told
    if result.consistent:
        parts = [counts.get(name, 0) for name in ("cached_tokens", "cache_write_tokens", "cache_write_long_tokens")]
        assert "input_tokens" not in counts or counts["input_tokens"] - sum(parts) >= 0


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": LARGEST, "cache_read_input_tokens": 1, "output_tokens": 7},
        {"input_tokens": 7, "cache_creation": {"ephemeral_5m_input_tokens": LARGEST, "ephemeral_1h_input_tokens": 1}},
    ],
)
def test_a_sum_that_no_row_can_hold_is_unknown(usage: dict[str, Any]):
    """Counts that a table holds can add up to one that it refuses, and the model would be called again."""
    result = read_usage(usage)

    assert result is not None
    assert result.input_tokens is None
    assert usage.get("output_tokens") == result.output_tokens

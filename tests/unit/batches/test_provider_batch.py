"""A batch is read as leniently as providers write it, and holds nothing that can't be kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batches.provider_batch import (
    BatchError,
    Counts,
    NoId,
    ProviderBatch,
    check_id,
    read_batch,
    read_status,
    read_time,
)
from tests.support.rows import every_row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMES = ["status", "output_file_id", "error_file_id", "created_at", "request_counts", "errors"]


def test_openais_batch():
    """As the API reference shows it."""
    batch = {
        "id": "batch_abc123",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "errors": None,
        "input_file_id": "file-abc123",
        "completion_window": "24h",
        "status": "completed",
        "output_file_id": "file-cvaTdG",
        "error_file_id": "file-HOWS94",
        "created_at": 1711471533,
        "request_counts": {"total": 100, "completed": 95, "failed": 5},
    }

    expected = ProviderBatch(
        "batch_abc123",
        "completed",
        "file-abc123",
        "file-cvaTdG",
        "file-HOWS94",
        datetime(2024, 3, 26, 16, 45, 33, tzinfo=UTC),
        Counts(100, 95, 5),
    )
    assert expected == read_batch(batch, str)


def test_azures_batch():
    """As its guide shows it: capitals, ISO dates, empty ids."""
    batch = {
        "id": "batch_6caaf24d-54a5-46be-b1b7-518884fcbdde",
        "status": "Validating",
        "created_at": "2024-07-31T13:00:01.5Z",
        "input_file_id": "file-f006eab4",
        "error_file_id": "",
        "output_file_id": "",
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "errors": {"object": "list", "data": [{"code": "Token_Limit_Exceeded", "message": "Quota.", "line": None}]},
    }

    read = read_batch(batch, str)

    assert (None, None, "validating") == (read.error_file_id, read.output_file_id, read.status)
    assert datetime(2024, 7, 31, 13, 0, 1, 500000, tzinfo=UTC) == read.created_at
    assert (BatchError("token_limit_exceeded", "Quota."),) == read.errors
    assert (True, False) == (read.has_error("token_limit_exceeded"), read.has_error("empty_file"))


@every_row(
    ("written", "status"),
    [
        ("InProgress", "in_progress"),
        ("IN_PROGRESS", "in_progress"),
        ("in progress", "in_progress"),
        ("Canceled", "cancelled"),
        ("canceling", "cancelling"),
        ("paused_by_provider", "paused_by_provider"),
        ("", "unknown"),
        (None, "unknown"),
        ("<script>", "unknown"),
        ("x" * 101, "unknown"),
    ],
)
def test_statuses(written: Any, status: str):
    """One way to write each; a new one is kept."""
    assert status == read_status(written)


@every_row("text", ["", " ", "2024-13-01", "1e999", "nan", None, [], 1e20, -1e20, {}])
def test_a_time_that_is_none(text: Any):
    """It is not known."""
    assert read_time(text) is None


@every_row(
    "value", ["", ".", "..", "a/b", "a\\b", "a?b", "a#b", "a%2e", "a b", "a\n", "ä", "x" * 501, ".a", 5, None, ["a"]]
)
def test_ids_that_are_none(value: Any):
    """They could lead to another resource, or not be kept."""
    with pytest.raises(NoId):
        check_id(value)


@every_row("value", ["file-abc", "batch_6caaf24d-54a5", "bGl0ZWxsbQ==", "litellm_proxy:x.y", "x" * 500])
def test_ids(value: str):
    """Those of OpenAI, Azure and gateways."""
    assert value == check_id(value)


@pytest.mark.parametrize("name", ["id", "output_file_id", "error_file_id"])
def test_an_id_that_is_none_is_not_passed_over(name: str):
    """Whoever read that there is no output would lose it."""
    with pytest.raises(NoId):
        read_batch({"id": "b", "status": "completed"} | {name: "../files"}, str)


@given(values=st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_comes_is_read(values: dict[str, Any]):
    """Only an id that is none is refused."""
    try:
        batch = read_batch({"id": "b"} | values, str)
    except NoId:
        assert values.get("output_file_id") or values.get("error_file_id")
        return

    assert len(batch.errors) <= 10
    assert all(len(error.message) <= 501 and len(error.code) <= 100 for error in batch.errors)


def test_errors_show_neither_key_nor_prompt():
    """A broken line may be quoted in its error."""
    data = [
        {"code": "invalid_json_line", "message": 'Line 3: {"messages": [{"content": "MARKED", ...', "line": 3},
        {"code": "x", "message": "Key sk-MARKED99 is wrong. " + "y" * 900},
    ]

    errors = read_batch({"id": "b", "errors": {"data": data}}, lambda text: text.replace("sk-MARKED99", "***")).errors

    assert BatchError("invalid_json_line", "Line 3: …", 3) == errors[0]
    assert errors[1].message.startswith("Key *** is wrong. y")
    assert len(errors[1].message) <= 501

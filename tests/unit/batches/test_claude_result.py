"""What Anthropic says of lines and batches is read whatever it is, and what is sent has the size that was said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batches.claude_batch import AFTER, BEFORE, read_claude_batch, request_size, write_lines
from shared.batches.custom_ids import batch_of, full_id, number_of
from shared.batches.files import Answer, Unreadable, read_lines
from shared.batches.provider_batch import ENDED, Counts, NoId
from shared.errors import UpstreamError
from shared.jobs.line_calls import response_of
from shared.jobs.lines import UNDONE, LineRecord
from shared.jobs.lines import Answer as StoredAnswer

BATCH = "01795180320000-9f3c1b2a"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KINDS = st.sampled_from(["succeeded", "errored", "canceled", "expired"])
TYPES = ("invalid_request_error", "rate_limit_error", "api_error", "overloaded_error", "timeout_error", "new_error")


async def read(data: bytes | Iterable[bytes]) -> list[Answer | Unreadable]:
    """What results say that come in these chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in [data] if isinstance(data, bytes) else data:
            yield chunk

    return [each async for each in read_lines(chunks())]


def encoded(value: Any) -> bytes:
    """A value as JSON; the standard library's escapes what is not ASCII."""
    return json.dumps(value).encode()


@st.composite
def results(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[str, str, bytes]]]:
    """Results in chunks; the id, the kind and the body of each line."""
    lines, expected = [], []
    for number in draw(st.permutations(range(draw(st.integers(0, 6))))):
        kind, custom_id, body = draw(KINDS), full_id(BATCH, number), b""
        result: dict[str, Any] = {"type": kind}
        if kind == "succeeded":
            result["message"] = {"id": f"msg_{number}", "content": draw(JSON)}
            body = encoded(result["message"])
        elif kind == "errored":
            error = {"type": draw(st.sampled_from(TYPES)), "message": draw(st.text(max_size=20))}
            result["error"] = {"type": "error", "error": error}
            body = encoded(result["error"])
        lines.append(encoded({"custom_id": custom_id, "result": result}))
        expected.append((custom_id, kind, body))
    data = b"\n".join(lines) + draw(st.sampled_from([b"", b"\n", b"\r\n"]))
    chunks = []
    for size in draw(st.lists(st.integers(0, 200))):
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data], expected


@given(file=results())
async def test_every_result_is_read(file: tuple[list[bytes], list[tuple[str, str, bytes]]]):
    """In any order, wherever chunks are cut; a message and an error as they came."""
    chunks, expected = file

    answers = [each for each in await read(chunks) if isinstance(each, Answer)]

    assert expected == [(each.custom_id, _kind(each), each.body) for each in answers]
    assert all((each.request_id or "").startswith("msg_") for each in answers if each.status == 200)


def _kind(answer: Answer) -> str:
    if answer.status is not None:
        return "succeeded" if answer.status == 200 else "errored"
    return {"batch_expired": "expired", "batch_cancelled": "canceled"}[answer.code or ""]


@given(result=JSON | st.fixed_dictionaries({"type": KINDS | JSON}, optional={"message": JSON, "error": JSON}))
async def test_whatever_a_result_is_it_is_read(result: Any):
    """It is an answer of the line, or one that says nothing; and an answer that is none of a model is a refusal."""
    (line,) = await read(encoded({"custom_id": "00001", "result": result}))

    assert line.custom_id == "00001"
    if isinstance(line, Answer) and line.status != 200:
        answer = StoredAnswer(line.status or 0, line.body, "", line.code or "", line.message)
        with pytest.raises(UpstreamError) as failure:
            response_of(LineRecord(BATCH, 1, "~1", "", answer))
        assert not failure.value.facts.unanswered


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid_request_error", 400, "request_rejected"),
        ("authentication_error", 401, "credential_rejected"),
        ("billing_error", 402, "quota_exhausted"),
        ("permission_error", 403, "credential_rejected"),
        ("not_found_error", 404, "request_rejected"),
        ("request_too_large", 413, "request_rejected"),
        ("rate_limit_error", 429, "rate_limited"),
        ("api_error", 500, "provider_unavailable"),
        ("timeout_error", 504, "provider_unavailable"),
        ("overloaded_error", 529, "provider_unavailable"),
        ("a_new_error", 500, "provider_unavailable"),
    ],
)
async def test_an_error_has_the_code_that_a_call_s_has(kind: str, status: int, code: str):
    """By the status that stands for its type. It is not billed."""
    error = {"type": "error", "error": {"type": kind, "message": "No."}, "request_id": "req_1"}
    (line,) = await read(encoded({"custom_id": "1", "result": {"type": "errored", "error": error}}))

    assert Answer("1", status, "req_1", encoded(error), kind) == line
    with pytest.raises(UpstreamError) as failure:
        response_of(LineRecord(BATCH, 1, "~1", "", StoredAnswer(status, encoded(error), "", kind)))
    assert (code, False) == (failure.value.code, failure.value.facts.unanswered)


@pytest.mark.parametrize("kind", ["expired", "canceled"])
async def test_what_was_not_done_is_not_billed(kind: str):
    """It may be bought again."""
    (line,) = await read(encoded({"custom_id": "1", "result": {"type": kind}}))

    assert isinstance(line, Answer)
    assert line.code in UNDONE


@given(number=st.integers(0, 99_999), other=st.integers(0, 10**14 - 1))
def test_a_line_is_known_by_its_batch_and_its_number(number: int, other: int):
    """In no other batch."""
    custom_id = full_id(BATCH, number)

    assert len(custom_id) <= 64
    assert (BATCH, number) == (batch_of(custom_id), number_of(custom_id, BATCH))
    assert number_of(full_id(f"{other:014}-00000000", number), BATCH) == -1
    assert number_of(f"{number:05}", BATCH) == number
    assert batch_of(f"{number:05}") == ""


@pytest.mark.parametrize(
    "text",
    [
        *(
            None,
            "",
            "x",
            "-1",
            "1.0",
            "\u0663",
            "1" * 10,
            " 1",
            "1\n",
            f"{BATCH}_1",
            f"{BATCH}_000001",
            f"{BATCH}_00001\n",
        ),
        *(
            f" {BATCH}_00001",
            f"{BATCH}-00001",
            f"{BATCH.upper()}_00001",
            f"{BATCH}_0000\u0661",
            f"x{BATCH}_00001",
            BATCH,
        ),
    ],
)
def test_what_is_no_id_of_ours_names_no_line(text: str | None):
    """It answers another app's."""
    assert number_of(text, BATCH) == -1
    assert batch_of(text) == ""


@given(bodies=st.lists(JSON, min_size=1, max_size=5))
async def test_a_request_has_the_size_that_is_said_before(bodies: list[Any]):
    """And holds each body as it was encoded."""
    texts = [encoded(each) for each in bodies]

    async def numbered() -> AsyncIterator[tuple[int, bytes]]:
        for number, text in enumerate(texts):
            yield number, text

    sent = BEFORE + b"".join([each async for each in write_lines(BATCH, numbered())]) + AFTER

    assert len(sent) == request_size(BATCH, len(texts), sum(map(len, texts)))
    expected = [{"custom_id": full_id(BATCH, number), "params": body} for number, body in enumerate(bodies)]
    assert {"requests": expected} == json.loads(sent)
    assert all(text in sent for text in texts)


def described(**members: Any) -> dict[str, Any]:
    """A batch as Anthropic shows it."""
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    return (
        {"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}
        | members
        | {"request_counts": counts | members.get("request_counts", {})}
    )


@pytest.mark.parametrize(
    ("members", "status", "counts"),
    [
        ({"request_counts": {"processing": 7}}, "in_progress", Counts(7)),
        ({"processing_status": "canceling", "cancel_initiated_at": "2026-11-30T12:00:00Z"}, "cancelling", Counts()),
        (
            {"processing_status": "ended", "request_counts": {"succeeded": 5, "errored": 2}},
            "completed",
            Counts(7, 5, 2),
        ),
        ({"processing_status": "ended", "request_counts": {"succeeded": 5, "expired": 2}}, "expired", Counts(7, 5, 2)),
        (
            {
                "processing_status": "ended",
                "request_counts": {"canceled": 2, "expired": 1},
                "cancel_initiated_at": "2026-11-30T12:00:00Z",
            },
            "cancelled",
            Counts(3, 0, 3),
        ),
        ({"processing_status": "Something new"}, "something_new", Counts()),
        ({"processing_status": "ended", "request_counts": {"succeeded": 2**31}}, "completed", Counts()),
        ({"processing_status": None, "request_counts": {"succeeded": "x", "errored": -1}}, "unknown", Counts()),
    ],
)
def test_a_batch_has_the_statuses_of_others(members: dict[str, Any], status: str, counts: Counts):
    """Its results are at its own address once it has ended."""
    batch = read_claude_batch(described(**members))

    assert (status, counts) == (batch.status, batch.counts)
    assert ("msgbatch_1" if status in ENDED else None) == batch.output_file_id


def test_an_archived_batch_has_no_results():
    """They are gone after 29 days."""
    batch = read_claude_batch(described(processing_status="ended", archived_at="2026-11-30T12:00:00Z"))

    assert (batch.status, batch.output_file_id) == ("completed", None)


@given(value=JSON | st.dictionaries(st.sampled_from([*described()]), JSON))
def test_whatever_describes_a_batch_is_read(value: Any):
    """Or has no id that can be used."""
    try:
        batch = read_claude_batch(value)
    except NoId:
        return
    assert msgspec.json.encode(batch)

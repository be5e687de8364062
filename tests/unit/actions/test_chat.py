"""`chat`: responses of chat completions, and of the older completions, as outcomes. See also the golden responses."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions.chat import parse_chat
from shared.errors import ContentFiltered, ProviderUnavailable
from tests.support.memory_context import response
from tests.support.rows import every_row


@every_row(
    "body",
    [
        *(b"", b"<html>", b"\xff\xfe", b"null", b"[]", b"{}", b'{"error": {"message": "But 200."}}'),
        *(b'{"choices": [', b'{"choices": {}}', b'{"choices": []}', b'{"choices": [1]}', b"[" * 100_000),
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_response_without_choices_fails_and_is_billed(body: bytes):
    """A 2xx response that is not a chat completion fails the job; the call is recorded without tokens."""
    outcome = parse_chat(response(body, status=201))

    assert ("failed", None) == (outcome.status, outcome.output)
    assert isinstance(outcome.error, ProviderUnavailable)
    assert (201, "req-1") == (outcome.error.facts.status, outcome.error.facts.request_id)
    assert [(None, "req-1")] == [(call.usage, call.request_id) for call in outcome.calls]


@every_row(
    ("choice", "text"),
    [
        *(({"message": message}, None) for message in (None, "x", {}, {"content": None}, {"content": []})),
        pytest.param({"text": "Hello."}, "Hello.", id="completions, the older operation"),
    ],
)
def test_text_is_that_of_the_first_choice(choice: dict[str, Any], text: str | None):
    """`text` is null if the first choice's content is missing or is no string. Adaptations are beside it."""
    outcome = parse_chat(response({"choices": [choice]}), ["a became b"])

    assert {
        "text": text,
        "finish_reason": None,
        "choices": [choice],
        "adapted": ["a became b"],
    } == outcome.output


@pytest.mark.parametrize(
    ("reasons", "status"),
    [
        (["stop", "stop"], "succeeded"),
        (["stop", "content_filter"], "partial"),
        (["content_filter", "content_filter"], "failed"),
    ],
)
def test_filtered_choices_decide_the_status(reasons: list[str], status: str):
    """A chat is partial if the content filter stopped some choices, failed if it stopped all; the call was billed."""
    verdict = {"violence": {"filtered": True}}
    choices = [{"finish_reason": reason, "message": {"content": "x"}} for reason in reasons]
    choices[-1]["content_filter_results"] = verdict

    outcome = parse_chat(response({"choices": choices}))

    assert (status, 1) == (outcome.status, len(outcome.calls))
    assert (status != "succeeded") is isinstance(outcome.error, ContentFiltered)
    if isinstance(outcome.error, ContentFiltered):
        assert verdict == outcome.error.facts.detail["content_filter_result"]


def test_text_cut_within_a_character_is_kept():
    """Half a surrogate pair becomes U+FFFD; the answer and its usage are kept."""
    body = rb'{"choices": [{"message": {"content": "a\ud83d"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 9}}'

    outcome = parse_chat(response(body))

    assert outcome.output is not None
    assert "a\ufffd" == outcome.output["text"]
    assert [(1, 9)] == [(call.consumed().input_tokens, call.consumed().output_tokens) for call in outcome.calls]


def test_the_usage_of_a_stream_that_nobody_requested_is_on_record():
    """Some gateways always stream: that is no chat completion, but it was paid for."""
    body = b'data: {"choices": []}\n\ndata: {"usage": {"prompt_tokens": 5, "completion_tokens": 3}}\n\ndata: [DONE]\n\n'
    outcome = parse_chat(response(body))

    assert "failed" == outcome.status
    assert [(5, 3)] == [(call.usage.input_tokens, call.usage.output_tokens) for call in outcome.calls if call.usage]

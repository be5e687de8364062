"""`multi_chat`: the answers of several prompts as one outcome."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.actions import multi_chat
from shared.actions.base import Completed, Step
from shared.actions.multi_chat import join_answers
from shared.errors import RateLimited, RequestRejected, UpstreamFacts, UpstreamRetryLater
from tests.support.memory_context import MemoryContext, completion, in_turn, response, run_action

FILTERED = {"code": "content_filtered", "message": "Filtered."}
PARTS = st.one_of(
    st.builds(lambda text: Step({"status": "succeeded", "text": text}), st.text()),
    st.just(Step({"status": "partial", "error": FILTERED})),
    st.just(Step({"status": "failed", "error": FILTERED})),
    st.just(RequestRejected("Refused.", UpstreamFacts(400, "req-1"))),
    st.just(UpstreamRetryLater(RateLimited("Slow down.", UpstreamFacts(429)), 60)),
)


@given(st.lists(PARTS, min_size=1, max_size=20))
def test_answers_are_joined_in_the_order_of_the_prompts(parts: list[Any]):
    """There is an answer for each prompt, in order; the status says whether all, some or none of them failed."""
    joined = join_answers(parts)

    assert joined.output is not None
    answers = joined.output["answers"]
    assert list(range(len(parts))) == [answer["index"] for answer in answers]
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(part, Step):
            assert part.value == {name: value for name, value in answer.items() if name != "index"}
        else:
            error = part.reason if isinstance(part, UpstreamRetryLater) else part
            assert error.code == answer["error"]["code"]
    failed = sum(answer["status"] == "failed" for answer in answers)
    assert failed == joined.output["failed"]
    assert (joined.status == "succeeded") == all(answer["status"] == "succeeded" for answer in answers)
    assert (joined.status == "failed") == (failed == len(answers)) == (joined.error is not None)
    if joined.error is not None:
        assert answers[0]["error"]["code"] == joined.error.code


async def test_each_answer_has_its_status_and_error():
    """An answer that was filtered, in all or some of its choices, or can't be read has its own error, and is billed."""
    choices = [
        {"finish_reason": "stop", "message": {"content": "x"}},
        {"finish_reason": "content_filter", "message": {"content": ""}},
    ]
    responses = [
        completion("Fine."),
        completion("", finish_reason="content_filter"),
        completion(choices=choices),
        response(b"<html>"),
    ]
    ctx = MemoryContext(in_turn(*responses))

    outcome = await run_action(multi_chat, {"prompts": ["0", "1", "2", "3"]}, ctx)

    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert [
        ("succeeded", None),
        ("failed", "content_filtered"),
        ("partial", "content_filtered"),
        ("failed", "provider_unavailable"),
    ] == [(answer["status"], answer.get("error", {}).get("code")) for answer in outcome.output["answers"]]
    assert ("partial", 2) == (outcome.status, outcome.output["failed"])
    assert ["0000", "0001", "0002", "0003"] == list(ctx.steps)
    assert [True, True, True, False] == [call.usage is not None for call in ctx.billed]

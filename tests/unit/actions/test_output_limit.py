"""The limit of an answer that a budget needs: it is sent, and follows the model's own."""

from __future__ import annotations

from typing import Any

from shared.actions import chat
from shared.actions.output_limit import lower_limit
from shared.errors import RequestRejected, UpstreamFacts
from tests.support.memory_context import MemoryContext, completion, in_turn, run_action
from tests.support.rows import every_row

TOO_LARGE = (
    "max_tokens is too large: 1000. This model supports at most 400 completion tokens, whereas you provided 1000."
)


def refusal(message: str, status: int = 400) -> RequestRejected:
    """Return a refusal with this message."""
    return RequestRejected(message, UpstreamFacts(status=status))


@every_row(
    ("parameters", "sent"),
    [
        ({}, {"max_tokens": 1000}),
        *[({name: 5}, {name: 5}) for name in ("max_tokens", "max_completion_tokens")],
        *[({name: None}, {"max_tokens": 1000}) for name in ("max_tokens", "max_completion_tokens")],
        ({"max_completion_tokens": -1, "max_tokens": None}, {"max_tokens": 1000}),
        ({"thinking": {"type": "enabled", "budget_tokens": 500}}, {"max_tokens": 1500}),
        ({"thinking": {"type": "disabled"}}, {"max_tokens": 1000}),
    ],
)
async def test_a_limit_is_sent_if_the_job_has_none(parameters: dict[str, Any], sent: dict[str, int]):
    """A limit of the job's own stays. One that limits nothing is replaced. Claude's thinking has room beyond it."""
    ctx = MemoryContext(in_turn(completion()), output_limit=1000)

    await run_action(chat, {"prompt": "x", "parameters": parameters}, ctx)

    assert [sent] == [{name: value for name, value in body.items() if name.startswith("max")} for body in ctx.bodies]


async def test_a_models_own_limit_is_learned():
    """The refusal says it; the next call has it at once."""
    ctx = MemoryContext(in_turn(refusal(TOO_LARGE), completion(), completion()), output_limit=1000)

    for _ in range(2):
        await run_action(chat, {"prompt": "x"}, ctx)

    assert [1000, 400, 400] == [body["max_tokens"] for body in ctx.bodies]


@every_row(
    ("message", "limit"),
    [
        (TOO_LARGE, 400),
        ("`max_tokens` must be less than or equal to `512`".replace("`", ""), 512),
        ("max_tokens: 1000 > 256, which is the maximum allowed number of output tokens", 256),
        ("This model's maximum context length is 900 tokens", None),
        ("max_tokens must be at most 4096", None),
        ("The prompt is invalid.", None),
    ],
)
def test_only_a_lower_limit_is_taken(message: str, limit: int | None):
    """Of a refusal that is about the limit."""
    assert limit == lower_limit(refusal(message), 1000)
    assert lower_limit(refusal(message, 500), 1000) is None

"""`multi_chat`: many prompts side by side, one chat call each, with the answers in the order of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.base import Completed, Context, Outcome, Step
from shared.actions.chat import read_chat
from shared.actions.completion import complete_chat
from shared.actions.fan_out import Part, join, reason_of, side_by_side
from shared.contract.chat import Chat
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.multi_chat import decode_multi_chat, step_key
from shared.contract.result import Status

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> list[Chat]:
    """See Action."""
    return decode_multi_chat(data)


def keeps_blobs(_: list[Chat]) -> bool:
    """See Action."""
    return False


async def run(request: list[Chat], ctx: Context) -> Outcome:
    """See Action."""
    steps = (ctx.step(step_key(number), partial(_answer, chat, ctx)) for number, chat in enumerate(request))
    parts = await side_by_side(steps)
    return join(parts, partial(join_answers, parts))


def join_answers(parts: Sequence[Part]) -> Completed:
    """
    Return all prompts' answers as one outcome.

    Its status is the answers' own if they agree, with the first answer's error if that is `failed`; else `partial`.
    """
    answers = [
        {"index": index, **(_failed(part) if isinstance(part, Exception) else part.value)}
        for index, part in enumerate(parts)
    ]
    statuses = {answer["status"] for answer in answers}
    failed = sum(answer["status"] == "failed" for answer in answers)
    status: Status = statuses.pop() if len(statuses) == 1 else "partial"
    error = None if status != "failed" else error_from_body(answers[0]["error"])
    return Completed({"answers": answers, "failed": failed}, (), status, error)


async def _answer(chat: Chat, ctx: Context) -> Step:
    response, adapted = await complete_chat(ctx, chat.messages, chat.parameters)
    answer = await ctx.compute(read_chat, response, adapted, large=response.is_large)
    value: dict[str, Any] = {"status": answer.status, **(answer.output or {})}
    if answer.error is not None:
        value["error"] = msgspec.to_builtins(error_body(answer.error))
    return Step(value, answer.calls)


def _failed(error: Exception) -> dict[str, Any]:
    return {"status": "failed", "error": msgspec.to_builtins(error_body(reason_of(error)))}

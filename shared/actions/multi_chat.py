"""`multi_chat`: many prompts side by side, one chat call each, answers in the order of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.base import Bench, Completed, Step
from shared.actions.chat import parse_chat
from shared.actions.completion import complete
from shared.actions.fan_out import Outcome, reason_of, settle, side_by_side
from shared.contract.chat import Chat
from shared.contract.error_codec import error_body, known_error
from shared.contract.multi_chat import decode_multi_chat
from shared.contract.result import Status

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> list[Chat]:
    """See Action."""
    return decode_multi_chat(data)


def keeps_blobs(_: list[Chat]) -> bool:
    """See Action."""
    return False


async def run(asked: list[Chat], bench: Bench) -> Completed:
    """See Action."""
    works = (bench.step(f"{number:04}", partial(_ask, chat, bench)) for number, chat in enumerate(asked))
    outcomes = await side_by_side(works)
    return settle(outcomes, partial(join_answers, outcomes))


def join_answers(outcomes: Sequence[Outcome]) -> Completed:
    """All prompts' answers in one: `partial` where not all went alike, and failed, as the first did, where all did."""
    answers = [
        {"index": index, **(_failed(outcome) if isinstance(outcome, Exception) else outcome.value)}
        for index, outcome in enumerate(outcomes)
    ]
    kinds = {answer["status"] for answer in answers}
    failed = sum(answer["status"] == "failed" for answer in answers)
    status: Status = kinds.pop() if len(kinds) == 1 else "partial"
    error = None if status != "failed" else known_error(answers[0]["error"])
    return Completed({"answers": answers, "failed": failed}, (), status, error)


async def _ask(chat: Chat, bench: Bench) -> Step:
    reply, adapted = await complete(bench, chat.messages, chat.parameters)
    answer = parse_chat(reply, adapted)
    value: dict[str, Any] = {"status": answer.status, **(answer.output or {})}
    if answer.error is not None:
        value["error"] = msgspec.to_builtins(error_body(answer.error))
    return Step(value, answer.calls)


def _failed(error: Exception) -> dict[str, Any]:
    return {"status": "failed", "error": msgspec.to_builtins(error_body(reason_of(error)))}

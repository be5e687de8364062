"""Jobs that name several connections, whatever their endpoints answer: what was bought where, and who has served."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from shared.actions import transcribe
from tests.support.audio_samples import spoken, wav
from tests.support.customers import Customer
from tests.support.endpoint import Around, error, pixels, reply, reset, truncated, usual
from tests.support.loopback import Answer
from tests.support.sampled import Sampled
from tests.support.workers import Worker

NAMES = ["default", "second", "third"]
REFUSALS: dict[str, Answer] = {
    "wrong key": error(401),
    "no model": error(404, code="DeploymentNotFound"),
    "no quota": error(429, code="insufficient_quota"),
    "down": error(503),
    "wrong": error(400, message="Wrong."),
    "an hour": error(429, retry_after="3600"),
}
IN_DOUBT: dict[str, Answer] = {
    "reset": reset,
    "truncated": truncated,
    "a page": reply(b"<html>"),
    "filtered": error(400, code="content_filter"),
}
ANSWERED: dict[str, Answer | None] = {"good": None, "an error": reply({"error": {"code": "x", "message": "No."}})}
JOBS: list[dict[str, Any]] = [
    {},
    {"action": "multi_chat", "input": {"prompts": ["1", "2", "3"]}},
    {"action": "embed", "input": {"texts": ["1", "2", "3"]}},
    {"action": "speak", "input": {"text": "Hello.", "voice": "alloy"}},
    {"action": "image", "input": {"prompt": "A cat.", "n": 2}},
    {"action": "summarize", "input": {"text": "Some words. " * 3500}},
    {"action": "transcribe", "input": {"blob": "INPUTS/call.wav", "response_format": "srt"}},
    {"action": "edit_image", "input": {"images": ["INPUTS/a.png"], "prompt": "A cat.", "n": 2}},
]
RECORDING = wav(spoken([(2.0, True), (0.6, False), (2.0, True), (0.5, False), (1.0, True)]))


def answering(choose: Callable[[], str], log: Callable[[str], None]) -> Around:
    """Return an endpoint that answers as it is chosen, and logs that."""

    async def answer(request: web.Request, _: Answer) -> web.StreamResponse:
        log(name := choose())
        return await ((ANSWERED | IN_DOUBT | REFUSALS)[name] or usual(request.path))(request)

    return answer


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.get("action", "chat"))
async def test_records_are_the_journals(
    worker: Worker, job: dict[str, Any], sampled: Sampled, monkeypatch: pytest.MonkeyPatch
):
    """
    Each call is on record once, where it was made. A connection is not called after the next one, and the result names
    one, and all before it, whatever becomes of the job.
    """
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    for seed in sampled(range(25)):
        chance, journal, result = random.Random(seed), list[tuple[str, str]](), None
        customer = worker.customer(connection=None)
        for name in NAMES:
            other = Customer(customer.name, worker.endpoint.account())
            names = ["good"] * chance.randrange(1, 12) + [*ANSWERED, *IN_DOUBT, *REFUSALS]
            other.account.around = answering(
                lambda names=names, chance=chance: chance.choice(names),
                lambda kind, name=name, journal=journal: journal.append((name, kind)),
            )
            if chance.random() < 0.9:
                worker.connect(other, name, max_concurrency=1)
        options = {"max_retries": chance.randrange(2), "retry_delay_ms": 1, "deadline_s": chance.choice([60, 7200])}

        for name, data in (("call.wav", RECORDING), ("a.png", pixels())):
            await worker.memory.blobs.write("inputs", f"{customer.name}/{name}", data, "application/octet-stream")
        own = json.loads(json.dumps(job).replace("INPUTS", f"inputs/{customer.name}"))
        messages = [customer.body(job_id="job", connection=NAMES, options=options, **own)]
        for _ in range(12):
            result = await worker.deliver(customer, messages[0])
            if result is not None:
                break
            messages = [body for body, _ in worker.requeued()] or [worker.wakeup(customer, "job")]

        assert result is not None, seed
        bought = Counter(
            (name, "answered" if kind in ANSWERED else "unanswered") for name, kind in journal if kind not in REFUSALS
        )
        lost = {"lost": "answered"}
        records = [(row["connection"], lost.get(row["outcome"], row["outcome"])) for row in worker.usage(customer)]
        assert bought == Counter(records), seed
        called = [name for name, _ in journal]
        assert called == sorted(called, key=NAMES.index), seed
        skipped = [each["name"] for each in result["connection"].get("skipped", [])]
        assert [*skipped, result["connection"]["name"]] == NAMES[: len(skipped) + 1], seed
        assert result.get("error", {}).get("code") != "internal", seed

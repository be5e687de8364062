"""
Nothing of a prompt or an answer in a log line, a span, a metric or an exception that the host logs: jobs with marked
texts meet endpoints that quote them wherever they can.
"""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.contract.job import ACTIONS
from shared.telemetry.opentelemetry import OpenTelemetry
from tests.support.endpoint import Answer, reply, usual
from tests.support.fakes import MemoryQueues
from tests.support.harness import Harness, delivery
from tests.support.input_blobs import with_blobs
from tests.support.log_texts import log_texts
from tests.support.workers import without_storage

MARK = "A MARKED text, of a prompt."
JOBS: dict[str, dict[str, Any]] = {
    "chat": {"prompt": MARK, "system": MARK},
    "multi_chat": {"prompts": [MARK, f"{MARK} Again."]},
    "image": {"prompt": MARK},
    "summarize": {"text": f"{MARK} " * 20, "instructions": MARK},
    "embed": {"texts": [MARK]},
    "speak": {"text": MARK, "voice": "alloy"},
    "edit_image": {"images": ["INPUTS/a.png"], "prompt": MARK},
    "transcribe": {"blob": "INPUTS/call.wav", "prompt": MARK},
    "respond": {"input": MARK, "instructions": MARK},
    "raw": {"method": "POST", "path": "chat/completions", "json": {"messages": [{"role": "user", "content": MARK}]}},
}


async def quoting(request: web.Request) -> web.StreamResponse:
    """A success that has the text in every member that a provider fills."""
    response = await usual(request.path)(request)
    if response.content_type != "application/json":
        return response
    body = json.loads(response.body) | dict.fromkeys(("id", "model", "system_fingerprint", "service_tier"), MARK)
    body["usage"] = {**body.get("usage", {}), MARK: MARK}
    for choice in body.get("choices", []):
        choice["message"]["content"] = MARK
        choice["finish_reason"] = MARK
    for item in body.get("output", []):
        item["content"][0]["text"] = MARK
    return await reply(body, headers={"x-request-id": MARK})(request)


def refusal(status: int) -> Answer:
    """An error that has the text in every member that a provider fills."""
    error = dict.fromkeys(("message", "code", "type", "param"), MARK) | {"innererror": {"code": MARK, "message": MARK}}
    return reply({"error": error, "detail": MARK}, status=status, headers={"x-request-id": MARK})


ANSWERS: dict[str, Answer] = {
    "a success": quoting,
    **{str(status): refusal(status) for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504)},
    "a wait": reply({"error": {"message": MARK}}, status=429, headers={"retry-after": "60"}),
    "a long wait": reply({"error": {"message": MARK}}, status=429, headers={"retry-after": "600"}),
    "a text": reply(MARK.encode()),
    "a refusal that is a text": reply(MARK.encode(), status=400),
}


SHORT = ("a success", "400", "401", "429", "a wait")  # the others are handled as one of these


@pytest.mark.parametrize(
    "answer",
    [pytest.param(each, id=name, marks=() if name in SHORT else pytest.mark.long) for name, each in ANSWERS.items()],
)
async def test_no_text_of_a_job_is_reported(harness: Harness, caplog: pytest.LogCaptureFixture, answer: Answer):
    """Whatever the endpoint answers, and whichever action calls it, with retries or without, and as a dead letter."""
    caplog.set_level(logging.DEBUG)
    spans, metrics, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = OpenTelemetry(tracers, MeterProvider([metrics], shutdown_on_exit=False))
    services = harness.services
    app = without_storage(services, harness.endpoint, telemetry=telemetry)
    is_real = answer is quoting  # of the others, Storage's clients log nothing else
    worker = replace(services, telemetry=telemetry, queues=MemoryQueues()).worker if is_real else app.services.worker
    for action, job_input in JOBS.items():
        for retries in (0, 1) if action == "chat" else (1,):  # no action decides what is retried
            customer = harness.customer()
            customer.account.will_answer(*[answer] * 6)
            options = {"max_retries": retries, "retry_delay_ms": 0}
            members = await with_blobs(customer, {"input": job_input}, blobs=None if is_real else app.memory.blobs)
            job = customer.job(action=action, options=options, metadata={"a": MARK}, model=None, **members)
            job |= {"model": f"{MARK} As a model."} if retries else {}
            message = delivery(json.dumps({name: value for name, value in job.items() if value}).encode())
            await worker.process(message)
            await worker.dead_letter(message)
    data = metrics.get_metrics_data()
    metrics.shutdown()

    reported = data.to_json() if data else ""
    assert "customer_ai_jobs" in reported
    texts = [*log_texts(caplog), *(span.to_json() for span in spans.get_finished_spans()), reported]
    assert [] == [text for text in texts if "MARKED" in text]


def test_every_action_is_searched():
    """Each has a job with marked texts."""
    assert set(ACTIONS) == set(JOBS)


async def test_an_exception_for_the_host_quotes_nothing(harness: Harness):
    """A job that waits, and whose message can't be requeued: the host logs the exception that the trigger raises."""
    queues = MemoryQueues(down=True)
    worker = replace(harness.services, queues=queues).worker
    customer = harness.customer()
    customer.account.will_answer(ANSWERS["a wait"])
    with pytest.raises(Exception, match="queue") as raised:
        await worker.process(delivery(json.dumps(customer.job()).encode()))

    assert "MARKED" not in "".join(traceback.format_exception(raised.value))

"""
What the app reports: spans and metrics of jobs that really run, collected in the SDK's memory; then their export to
Application Insights, whose ingestion endpoint is a server on loopback.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from local.vault.server import Vault
from shared.clock import now, rfc3339
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.admission import Limiter
from shared.jobs.envelope import decode_queued_job
from shared.telemetry.azure_monitor import _EXPORTER_EXTRAS
from shared.telemetry.base import SILENT, Telemetry
from shared.telemetry.metrics import MAX_TEXTS, OTHER
from shared.telemetry.opentelemetry import OpenTelemetry
from shared.upstream.circuit_breaker import FAILURES, Breakers
from tests.support.endpoint import Endpoint, claude_message, completion, error, reply
from tests.support.fakes import MemoryQueues
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.loopback import serve
from tests.support.memory_harness import open_memory_harness

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT, UNSAMPLED = (f"00-{TRACE}-{PARENT}-{flags}" for flags in ("01", "00"))
QUESTION, ANSWER = "Which-question-was-it?", "Such-was-the-answer."
AT_ONCE = {"max_retries": 1, "retry_delay_ms": 0, "exponential_backoff": False}


@dataclass
class Collected:
    """Every span and metric that was reported."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def telemetry(self, *, content: bool = False) -> OpenTelemetry:
        """Return telemetry that reports to it."""
        resource = Resource({})
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        return OpenTelemetry(tracers, MeterProvider([self.reader], resource, shutdown_on_exit=False), content=content)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans by their names."""
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metrics(self, name: str) -> list[Any]:
        """Return a metric's points."""
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        metrics = [metric for resource in resources for scope in resource.scope_metrics for metric in scope.metrics]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]

    def points(self, name: str) -> list[tuple[Mapping[str, Any], Any]]:
        """Return a metric's points: attributes, and a counter's value or a histogram's sum."""
        points = self.metrics(name)
        return [(dict(point.attributes), point.sum if hasattr(point, "sum") else point.value) for point in points]

    def count(self, name: str) -> int:
        """Return how many values a histogram has recorded."""
        return sum(point.count for point in self.metrics(name))

    def as_text(self) -> str:
        """Return everything as text."""
        data = self.reader.get_metrics_data()
        spans = [span.to_json() for span in self.exporter.get_finished_spans()]
        return "\n".join([*spans, data.to_json() if data else ""])


def with_telemetry(harness: Harness, telemetry: Telemetry) -> Harness:
    """The harness, with that telemetry."""
    own = {"telemetry": telemetry, "limiter": Limiter(), "breakers": Breakers(on_change=telemetry.breaker_changed)}
    return replace(harness, services=replace(harness.services, **own))


@pytest.fixture
def collected() -> Iterator[Collected]:
    """What is reported in one test."""
    collected = Collected()
    yield collected
    collected.reader.shutdown()


@pytest.fixture
def customer(memory_harness: Harness, collected: Collected) -> Customer:
    """A customer of one test, whose jobs are reported."""
    return with_telemetry(memory_harness, collected.telemetry()).customer()


async def submit(customer: Customer, headers: Mapping[str, str] | None = None, **members: Any) -> bytes:
    """Submit a job over HTTP; return its message."""
    response = await send(customer.harness, "POST", "jobs", json_body=customer.job(**members), headers=headers)
    assert response.status == 202
    (message,) = await customer.queued()
    return message


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Return the ids of a span's trace and of its parent, in hexadecimal."""
    return f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else ""


def span_id(span: ReadableSpan) -> str:
    """The id of the span."""
    return f"{span.context.span_id:016x}"


@pytest.mark.parametrize(
    ("traceparent", "parent"), [(TRACEPARENT, (TRACE, PARENT)), (UNSAMPLED, (TRACE, PARENT)), ("nonsense", None)]
)
async def test_one_trace_from_the_request_through_the_queue_to_the_call(
    customer: Customer, collected: Collected, traceparent: str, parent: tuple[str, str] | None
):
    """
    The caller's span, the request, the job and the call are one trace, each the parent of the next, whether the caller
    samples its own or not. A request without a valid traceparent starts a trace of its own. The customer's endpoint
    gets no trace header.
    """
    await customer.deliver(await submit(customer, {"traceparent": traceparent, "tracestate": "a=b"}, job_id="one"))

    request, job, call = (collected.spans[name] for name in ("POST /api/jobs", "job chat", "chat gpt-4o"))
    trace = f"{request.context.trace_id:032x}"
    assert (parent or (trace, "")) == ids(request)
    assert (trace, span_id(request)) == ids(job)
    assert (trace, span_id(job)) == ids(call)
    assert [SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.CLIENT] == [span.kind for span in (request, job, call)]
    (received,) = customer.account.received
    assert {"traceparent", "tracestate", "baggage"}.isdisjoint(received.headers)


async def test_spans_and_metrics_of_a_job(customer: Customer, collected: Collected):
    """
    A job's span has customer, action, id, attempt and outcome; a call's span what the conventions define. A job records
    its outcome, age, tokens and duration, by customer and model; the first one the cold start.
    """
    await customer.run(job_id="order-0")
    await customer.run(job_id="order-1")

    own = {"customer_ai_jobs.customer": customer.name}
    job, call = collected.spans["job chat"].attributes, dict(collected.spans["chat gpt-4o"].attributes)
    assert dict(job) == own | {
        "customer_ai_jobs.action": "chat",
        "customer_ai_jobs.job_id": "order-1",
        "customer_ai_jobs.attempt": 1,
        "customer_ai_jobs.status": "succeeded",
    }
    assert int(customer.harness.endpoint.url.rpartition(":")[2]) == call.pop("server.port")
    assert call == own | {
        "customer_ai_jobs.connection": "default",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "azure.ai.openai",
        "gen_ai.system": "az.ai.openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "server.address": "127.0.0.1",
    }

    who, what = {"customer_ai_jobs.customer": customer.name}, {"customer_ai_jobs.action": "chat"}
    assert [(who | what | {"customer_ai_jobs.status": "succeeded"}, 2)] == collected.points("customer_ai_jobs.jobs")
    ((attributes, age),) = collected.points("customer_ai_jobs.queue_age")
    assert who | what == attributes
    assert 0 <= age < 60
    named = ("gen_ai.token.type", "customer_ai_jobs.customer", "gen_ai.request.model")
    tokens = [(count, *(by[name] for name in named)) for by, count in collected.points("gen_ai.client.token.usage")]
    assert [(14, "output", customer.name, "gpt-4o"), (22, "input", customer.name, "gpt-4o")] == sorted(tokens)
    ((attributes, seconds),) = collected.points("gen_ai.client.operation.duration")
    assert (customer.name, "chat") == (attributes["customer_ai_jobs.customer"], attributes["gen_ai.operation.name"])
    assert 0 < seconds < 60
    assert 1 == collected.count("customer_ai_jobs.cold_start")


@pytest.mark.parametrize("content", [False, True])
async def test_content_is_reported_only_if_it_is_on(memory_harness: Harness, collected: Collected, content: bool):
    """Prompts and answers are reported only if the setting is on, and then in the form of the conventions."""
    customer = with_telemetry(memory_harness, collected.telemetry(content=content)).customer()
    customer.account.will_answer(completion(ANSWER))

    await customer.run(input={"prompt": QUESTION, "system": "Be brief."})

    assert [content, content] == [text in collected.as_text() for text in (QUESTION, ANSWER)]
    if content:
        attributes = collected.spans["chat gpt-4o"].attributes
        prompts = json.loads(attributes["gen_ai.input.messages"])
        assert ["system", "user"] == [message["role"] for message in prompts]
        assert [{"type": "text", "content": QUESTION}] == prompts[1]["parts"]
        answer = {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
        assert [answer] == json.loads(attributes["gen_ai.output.messages"])


async def test_a_call_of_claude_is_reported_in_the_same_words(memory_harness: Harness, collected: Collected):
    """Provider, tokens (what a cache read among them), reasons, and the texts if they are on."""
    harness = with_telemetry(memory_harness, collected.telemetry(content=True))
    customer = harness.customer(endpoint=f"{harness.endpoint.url}/anthropic", provider="anthropic")
    usage = {"input_tokens": 3, "cache_read_input_tokens": 8, "output_tokens": 7}
    customer.account.will_answer(claude_message({"type": "text", "text": ANSWER}, usage=usage))

    await customer.run(input={"prompt": QUESTION, "system": "Be brief."})

    call = dict(collected.spans["chat gpt-4o"].attributes)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.system": "anthropic",
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
    }
    assert expected.items() <= call.items()
    prompts = json.loads(call["gen_ai.input.messages"])
    assert ["system", "user"] == [message["role"] for message in prompts]
    assert [["Be brief."], [QUESTION]] == [[part["content"] for part in message["parts"]] for message in prompts]
    answer = {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "end_turn"}
    assert [answer] == json.loads(call["gen_ai.output.messages"])


@pytest.mark.parametrize("status", [200, 400, 401])
async def test_no_key_query_or_error_text_is_reported(customer: Customer, collected: Collected, status: int):
    """Whatever the outcome, no key, no query of a URL and no text of the endpoint's is reported."""
    text = f"{QUESTION} {customer.account.key}"
    answer = completion(text) if status == 200 else error(status, "bad", text)
    customer.account.will_answer(*[answer] * 3)
    query = {"api-version": "2024-10-21", "sig": "a-signature"}

    await customer.run(
        action="raw", input={"path": "chat/completions", "method": "POST", "query": query, "json": {"a": QUESTION}}
    )

    reported = collected.as_text()
    assert customer.name in reported
    assert {"chat"} <= {span.attributes.get("gen_ai.operation.name") for span in collected.spans.values()}
    assert [] == [text for text in (QUESTION, customer.account.key, "a-signature", "2024-10-21") if text in reported]


async def test_failed_job_reports_its_code(customer: Customer, collected: Collected):
    """The contract's code is on both spans and in the metrics."""
    customer.account.will_answer(*[error(400, "bad")] * 2)

    await customer.run()

    job, call = collected.spans["job chat"], collected.spans["chat gpt-4o"]
    for span in (job, call):
        assert ["request_rejected"] * 2 == [span.attributes[name] for name in ("error.type", "customer_ai_jobs.code")]
        assert ("ERROR", None, ()) == (span.status.status_code.name, span.status.description, span.events)
    ((attributes, count),) = collected.points("customer_ai_jobs.jobs")
    assert (1, "failed", "request_rejected") == (count, attributes["customer_ai_jobs.status"], attributes["error.type"])
    ((attributes, _),) = collected.points("gen_ai.client.operation.duration")
    assert "request_rejected" == attributes["error.type"]


async def test_message_that_is_no_job_is_counted(customer: Customer, collected: Collected):
    """A message that can't be read is a failed job without a span."""
    await customer.harness.deliver(b"nonsense")

    code = "invalid_job"
    expected = {"customer_ai_jobs.status": "failed", "error.type": code, "customer_ai_jobs.code": code}
    assert ([(expected, 1)], {}) == (collected.points("customer_ai_jobs.jobs"), collected.spans)


async def test_retries_are_one_call_and_their_waits_are_recorded(customer: Customer, collected: Collected):
    """A call's span has the number of its tries, and the time between them is recorded as waiting in the call."""
    customer.account.will_answer(error(503), completion())

    await customer.run(options=AT_ONCE | {"retry_delay_ms": 50})

    assert 2 == collected.spans["chat gpt-4o"].attributes["customer_ai_jobs.tries"]
    ((attributes, waited),) = collected.points("customer_ai_jobs.wait_time")
    assert ("call", customer.name) == (
        attributes["customer_ai_jobs.waited_in"],
        attributes["customer_ai_jobs.customer"],
    )
    assert 0.02 < waited < 30


async def test_requeued_job_keeps_its_trace(customer: Customer, collected: Collected):
    """A requeued job reports its reason and its wait time."""
    message = await submit(customer, {"traceparent": TRACEPARENT})
    customer.account.will_answer(error(429, **{"retry-after": "60"}))

    assert await customer.deliver(message) is None
    ((_, waited),) = collected.points("customer_ai_jobs.wait_time")
    reasons = collected.points("customer_ai_jobs.requeues")
    assert 60 <= waited <= 66.1
    who = {"customer_ai_jobs.customer": customer.name}
    assert [(who | {"customer_ai_jobs.requeue_reason": "rate_limited"}, 1)] == reasons
    assert "rate_limited" == collected.spans["job chat"].attributes["customer_ai_jobs.requeue_reason"]


async def test_all_attempts_of_a_job_are_one_trace(memory_harness: Harness, collected: Collected):
    """A job from the queue starts a trace with its first attempt, and its message then carries it."""
    queues = MemoryQueues()
    harness = with_telemetry(memory_harness, collected.telemetry())
    harness.services = replace(harness.services, queues=queues)
    customer = harness.customer()
    customer.account.will_answer(*[error(429, **{"retry-after": "60"})] * 2)
    await customer.deliver(job_id="one")
    for _ in range(2):
        ((message, _),) = queues.sent.pop(harness.services.settings.jobs_queue)
        await customer.deliver(message)

    first, *later = [span for span in collected.exporter.get_finished_spans() if span.name == "job chat"]
    assert [1, 2, 3] == [span.attributes["customer_ai_jobs.attempt"] for span in (first, *later)]
    assert [(f"{first.context.trace_id:032x}", span_id(first))] * 2 == [ids(span) for span in later]
    assert 1 == collected.count("customer_ai_jobs.queue_age")


@pytest.mark.long
async def test_throttled_job_is_counted_and_has_no_span(customer: Customer, collected: Collected):
    """A throttled job has no span: thousands of them would be thousands of spans that say nothing."""
    services = customer.harness.services
    with services.limiter.admit(customer.name, "default"):
        services.limiter.of(customer.name, "default").jobs = 1000
        message = await submit(customer)
        assert await customer.deliver(message) is None

    assert {"POST /api/jobs"} == set(collected.spans)
    ((attributes, count),) = collected.points("customer_ai_jobs.requeues")
    assert ("throttled", 1) == (attributes["customer_ai_jobs.requeue_reason"], count)


def test_exports_report_what_became_of_events(collected: Collected):
    """A run reports each state with events, and the lag; what waits or is being sent is in the lag alone."""
    collected.telemetry().exported("stripe", {"sent": 3, "in_doubt": 1, "sending": 9, "refused": 0}, 95.0)

    own = "customer_ai_jobs"
    points = collected.points(f"{own}.export_events")
    assert [("in_doubt", 1), ("sent", 3)] == sorted((attributes[f"{own}.state"], value) for attributes, value in points)
    assert [({f"{own}.export": "stripe"}, 95.0)] == collected.points(f"{own}.export_lag")


def test_batches_report_how_they_ended(collected: Collected):
    """A batch is counted when it is sent and when it has ended, with its lines and age."""
    telemetry = collected.telemetry()
    telemetry.batch_sent("contoso")
    telemetry.batch_ended("contoso", "expired", {"answered": 3, "failed": 2}, 4000.0)

    own, by = "customer_ai_jobs", {"customer_ai_jobs.customer": "contoso"}
    counted = {name: collected.points(f"{own}.{name}") for name in ("batches", "batch_lines", "batch_age")}
    states = {
        name: sorted((attributes.pop(f"{own}.state", ""), value, attributes == by) for attributes, value in points)
        for name, points in counted.items()
    }
    assert {
        "batches": [("expired", 1, True), ("sent", 1, True)],
        "batch_lines": [("answered", 3, True), ("failed", 2, True)],
        "batch_age": [("", 4000.0, True)],
    } == states


async def test_breaker_reports_its_changes(customer: Customer, collected: Collected):
    """An endpoint that keeps failing opens its breaker once; calls that the open breaker prevents have no span."""
    customer.account.will_answer(*[error(503)] * FAILURES)
    for _ in range(FAILURES // 2 + 1):
        await customer.deliver(options=AT_ONCE)

    attributes = {
        "customer_ai_jobs.customer": customer.name,
        "customer_ai_jobs.connection": "default",
        "customer_ai_jobs.state": "open",
    }
    assert [(attributes, 1)] == collected.points("customer_ai_jobs.breaker_changes")
    calls = [span for span in collected.exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
    assert FAILURES // 2 == len(calls)


@pytest.mark.parametrize("body", [b"", b"[1]", b'"a"', b'{"choices": 1}', b"\xff", b"[" * 100_000, b'{"usage": 3}'])
async def test_unreadable_responses_do_no_harm(customer: Customer, collected: Collected, body: bytes):
    """A response that telemetry can't read doesn't change the job's outcome."""
    customer.account.will_answer(*[reply(body)] * 2)

    result = await customer.run(options=AT_ONCE)

    assert "provider_unavailable" == result["error"]["code"]
    assert "gen_ai.usage.input_tokens" not in collected.spans["chat gpt-4o"].attributes


async def test_message_with_its_trace_still_fits(customer: Customer):
    """A job that fills a message to the last byte goes into a blob if the trace makes it too large."""
    room = MESSAGE_LIMIT - len(await submit(customer, job_id="same"))
    prompt = "x" * (len("Hello?") + room + 1)

    message = await submit(customer, job_id="sane", input={"prompt": prompt})

    job = decode_queued_job(message, default_id="-")
    assert len(message) <= MESSAGE_LIMIT
    assert isinstance(job.input_blob, str)


async def test_trace_in_a_message_may_be_anything(customer: Customer, collected: Collected):
    """Anybody can write a message: an invalid traceparent is ignored."""
    envelope = {"submitted_at": rfc3339(now()), "traceparent": "nonsense"}

    await customer.run(_envelope=envelope)

    assert collected.spans["job chat"].parent is None


async def test_trace_in_a_message_switches_nothing_off(customer: Customer, collected: Collected):
    """A message whose trace is not sampled has its spans all the same."""
    await customer.run(_envelope={"submitted_at": rfc3339(now()), "traceparent": UNSAMPLED})

    assert {"job chat", "chat gpt-4o"} == set(collected.spans)
    assert (TRACE, PARENT) == ids(collected.spans["job chat"])


@pytest.mark.parametrize("traceparent", [TRACEPARENT, UNSAMPLED, "nonsense"])
@pytest.mark.parametrize(("sampler", "spans"), [("always_off", 0), ("parentbased_traceidratio", 0), ("always_on", 3)])
async def test_the_operator_alone_samples(
    memory_harness: Harness, collected: Collected, monkeypatch, traceparent: str, sampler: str, spans: int
):
    """
    OTEL_TRACES_SAMPLER decides, whatever a caller's flag says: for the request, the job and the call alike. Jobs that
    are not sampled run like any other.
    """
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    if "ratio" in sampler:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    customer = with_telemetry(memory_harness, collected.telemetry()).customer()
    result = await customer.deliver(await submit(customer, {"traceparent": traceparent}))

    assert result is not None
    assert "succeeded" == json.loads(result)["status"]
    assert spans == len(collected.exporter.get_finished_spans())


async def test_texts_that_callers_and_endpoints_choose_are_bounded(customer: Customer, collected: Collected):
    """
    However many models a caller names, or an endpoint reports, a customer's metrics distinguish a few; the rest is
    `_OTHER`, and so is a sentence. What is consumed is counted all the same.
    """
    number = MAX_TEXTS + 5
    customer.account.will_answer(*[completion(model=f"answered-{each}") for each in range(number)])
    for each in range(number):
        await customer.run(model=f"model-{each}")
    await customer.run(model="Which model answers questions?")

    points = collected.points("gen_ai.client.token.usage")
    for name in ("gen_ai.request.model", "gen_ai.response.model"):
        texts = {attributes[name] for attributes, _ in points}
        assert (MAX_TEXTS + 1, True) == (len(texts), OTHER in texts), name
    assert (number + 1) * 18 == sum(tokens for _, tokens in points)
    assert "Which model" not in collected.as_text()


async def test_message_has_no_trace_if_telemetry_is_off(memory_harness: Harness):
    """If telemetry is off, a message carries no trace, whatever the request had."""
    customer = memory_harness.customer()

    message = await submit(customer, {"traceparent": TRACEPARENT}, job_id="one")

    assert memory_harness.services.telemetry is SILENT
    assert {"submitted_at", "version"} == set(json.loads(message)["_envelope"])


# Export to Application Insights.


@dataclass
class Ingestion:
    """An ingestion endpoint that records what it receives, or refuses it, or hangs."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    status: int = 200
    silent: asyncio.Event | None = None
    """If set, responses wait for it."""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def connection_string(self) -> str:
        """The connection string, in the form of Application Insights."""
        key = "00000000-1111-2222-3333-444444444444"
        return f"InstrumentationKey={key};IngestionEndpoint={self.url}/;LiveEndpoint={self.url}/"

    async def answer(self, request: web.Request) -> web.Response:
        """Record the body of a request and answer it."""
        body = await request.read()
        self.bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        self.came.set()
        if self.silent is not None:
            await self.silent.wait()
        count = len(json.loads(self.bodies[-1]))
        taken = {"itemsReceived": count, "itemsAccepted": count, "errors": []}
        return web.json_response(taken, status=self.status)

    @property
    def items(self) -> list[dict[str, Any]]:
        """The items that were received."""
        return [item for body in self.bodies for item in json.loads(body)]


@pytest_asyncio.fixture
async def ingestion() -> AsyncIterator[Ingestion]:
    """An ingestion endpoint on loopback."""
    ingestion = Ingestion()
    async with serve(ingestion.answer) as ingestion.url:
        yield ingestion
        if ingestion.silent is not None:
            ingestion.silent.set()


@pytest.fixture
def exporter_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the exporter's environment variables after the test."""
    for name in _EXPORTER_EXTRAS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WEBSITE_SITE_NAME", "our-app")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")


def telemetry_of(harness: Harness) -> OpenTelemetry:
    """Return the telemetry of the harness's jobs."""
    telemetry = harness.services.telemetry
    assert isinstance(telemetry, OpenTelemetry)
    return telemetry


@pytest.mark.usefixtures("exporter_environment")
async def test_telemetry_reaches_application_insights(vault: Vault, endpoint: Endpoint, ingestion: Ingestion):
    """With a connection string, a job's spans and metrics arrive by the time the worker ends, and no key does."""
    string = ingestion.connection_string
    async with open_memory_harness(vault, endpoint, APPLICATIONINSIGHTS_CONNECTION_STRING=string) as harness:
        customer, down = harness.customer(), harness.customer()
        down.account.will_answer(*[error(503)] * FAILURES)
        await customer.run(input={"prompt": QUESTION})
        for _ in range(FAILURES // 2):
            await down.run(options=AT_ONCE)

    data = [(item["data"]["baseType"], item["data"]["baseData"]) for item in ingestion.items]
    (job, *_) = [base for kind, base in data if kind == "RequestData"]
    (call, *_) = [base for kind, base in data if kind == "RemoteDependencyData"]
    metrics = {base["metrics"][0]["name"] for kind, base in data if kind == "MetricData"}
    assert ("job chat", customer.name) == (job["name"], job["properties"]["customer_ai_jobs.customer"])
    assert ("chat gpt-4o", "GenAI | az.ai.openai") == (call["name"], call["type"])
    own = {f"customer_ai_jobs.{name}" for name in ("jobs", "queue_age", "wait_time", "breaker_changes", "cold_start")}
    assert own | {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} == metrics
    assert [] == [thread.name for thread in threading.enumerate() if "Otel" in thread.name]  # the exporter's own
    assert {"our-app"} == {item["tags"]["ai.cloud.role"] for item in ingestion.items}
    sent = b"".join(ingestion.bodies).decode()
    assert [] == [text for text in (QUESTION, customer.account.key) if text in sent]


@pytest.mark.usefixtures("exporter_environment")
@pytest.mark.parametrize("trouble", ["refuses", "hangs", "is unreachable", "has an invalid connection string"])
async def test_failing_export_affects_no_job(
    vault: Vault, endpoint: Endpoint, ingestion: Ingestion, trouble: str, caplog: Any
):
    """If Application Insights refuses, hangs or is unreachable, jobs run as usual, and one line reports it."""
    string = ingestion.connection_string
    if trouble == "refuses":
        ingestion.status = 400
    elif trouble == "hangs":
        ingestion.silent = asyncio.Event()
    elif trouble == "is unreachable":
        string = string.replace(ingestion.url, "http://127.0.0.1:9")
    else:
        string = "nonsense"

    async with open_memory_harness(vault, endpoint, APPLICATIONINSIGHTS_CONNECTION_STRING=string) as harness:
        customer = harness.customer()
        async with asyncio.timeout(30):
            results = []
            for _ in range(3):
                results.append(await customer.run())
                if trouble != "hangs":
                    await asyncio.to_thread(telemetry_of(harness).providers[0].force_flush)
            if trouble == "hangs":  # and go on while something hangs
                await ingestion.came.wait()
                results.append(await customer.run())
                assert ingestion.silent is not None
                ingestion.silent.set()

    assert {"succeeded"} == {result["status"] for result in results}
    lines = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert all(line.startswith("telemetry_not_exported") for line in lines)
    assert len(lines) == (0 if trouble == "hangs" else 2)  # of spans, and of metrics

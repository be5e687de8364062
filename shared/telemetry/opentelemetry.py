"""
What the app tells, as OpenTelemetry's spans and metrics. Loaded only where telemetry is on.

Knows nothing of where they go. Names follow the semantic conventions for generative AI where those have one
(opentelemetry.io/docs/specs/semconv/gen-ai), else they begin with `customer_ai_jobs.`. Texts of errors are left
out: they may quote what was sent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.billing.usage import read_usage
from shared.contract.decoding import UNREADABLE
from shared.contract.job import Job
from shared.errors import Throttled
from shared.telemetry.base import LOADED_AT, Asked, Telemetry, Watch

NAME = "customer_ai_jobs"
_CUSTOMER, _ACTION, _JOB, _CONNECTION = (f"{NAME}.{name}" for name in ("customer", "action", "job_id", "connection"))
_CODE = f"{NAME}.code"
"""As `error.type`, which Application Insights keeps for itself."""
_TURNED_AWAY = f"{NAME}.turned_away"

_OPERATIONS = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "embeddings": "embeddings",
    "images/generations": "generate_content",
    "images/edits": "generate_content",
}
_PROVIDERS = {"azure_openai": "azure.ai.openai", "foundry": "azure.ai.inference", "openai": "openai"}
_SYSTEMS = {"azure_openai": "az.ai.openai", "foundry": "az.ai.inference", "openai": "openai"}
"""The older attribute's values, by which Application Insights knows a call of a model."""
_PORTS = {"https": 443, "http": 80}
# The advice of the semantic conventions, and for what waits in a queue.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_AGES = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
_TRACE = TraceContextTextMapPropagator()

_Attributes = dict[str, Any]


class _Choice(Struct):
    finish_reason: str | None = None
    message: Any = None
    text: str | None = None


class _Said(Struct):
    """What is told of an answer; the rest is skipped, unread."""

    id: str | None = None
    model: str | None = None
    usage: Any = None
    choices: list[_Choice] = []


class Spans(Telemetry):
    """Tells the two providers. `content`: with questions and answers."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, *, content: bool = False) -> None:
        self.providers = (tracers, meters)
        self.content = content
        self.tracer, meter = tracers.get_tracer(NAME), meters.get_meter(NAME)

        def histogram(name: str, unit: str, bounds: tuple[float, ...]) -> Any:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self.duration = histogram("gen_ai.client.operation.duration", "s", _SECONDS)
        self.tokens = histogram("gen_ai.client.token.usage", "{token}", _TOKENS)
        self.waiting = histogram(f"{NAME}.waiting", "s", _AGES)
        self._age = histogram(f"{NAME}.queue_age", "s", _AGES)
        self._cold_start = histogram(f"{NAME}.cold_start", "s", _AGES)
        self._jobs = meter.create_counter(f"{NAME}.jobs", "{job}")
        self._put_backs = meter.create_counter(f"{NAME}.put_backs", "{job}")
        self._breakers = meter.create_counter(f"{NAME}.breaker_changes", "{change}")
        self._warm = False

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[None]:
        """See Telemetry."""
        about = {"http.request.method": method, "http.route": route}
        with self._span(f"{method} {route}", SpanKind.SERVER, about, _context(headers.get("traceparent"))) as span:
            try:
                yield
            finally:
                span.end()

    def responded(self, status: int) -> None:
        """See Telemetry."""
        span = get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= 500:  # noqa: PLR2004
            span.set_status(StatusCode.ERROR)

    def submitted(self, job: Job) -> str | None:
        """See Telemetry."""
        get_current_span().set_attributes(_named(job))
        return _traceparent()

    @contextmanager
    def job(self, job: Job) -> Iterator[None]:
        """See Telemetry."""
        carried = job.put_back.traceparent if job.put_back else None
        with self._span(f"job {job.action}", SpanKind.CONSUMER, _named(job), _context(carried)) as span:
            try:
                yield
            finally:
                # One that found no room did nothing; a span that never ends is never exported.
                if not (span.attributes or {}).get(_TURNED_AWAY):
                    span.end()

    def carried(self, job: Job, reason: Exception) -> str | None:
        """See Telemetry."""
        if job.put_back is not None and job.put_back.traceparent:
            return job.put_back.traceparent  # every run hangs on the request, not on the run before
        return None if isinstance(reason, Throttled) else _traceparent()

    def claimed(self, job: Job, attempt: int, age_s: float) -> None:
        """See Telemetry."""
        get_current_span().set_attribute(f"{NAME}.attempt", attempt)
        if attempt == 1:
            self._age.record(max(age_s, 0), {_CUSTOMER: job.customer, _ACTION: job.action})

    def put_back(self, job: Job, reason: Exception, delay_s: float) -> None:
        """See Telemetry."""
        code = _code(reason)
        get_current_span().set_attribute(f"{NAME}.put_back", code)
        if isinstance(reason, Throttled):
            get_current_span().set_attribute(_TURNED_AWAY, True)
        self._put_backs.add(1, {_CUSTOMER: job.customer, f"{NAME}.reason": code})
        self.waiting.record(delay_s, {_CUSTOMER: job.customer, f"{NAME}.where": "queue"})

    def ended(self, customer: str | None, action: str | None, status: str, code: str | None) -> None:
        """See Telemetry."""
        about = {f"{NAME}.status": status, **({"error.type": code, _CODE: code} if code else {})}
        span = get_current_span()
        span.set_attributes(about)
        if status == "failed":
            span.set_status(StatusCode.ERROR)
        named = {_CUSTOMER: customer, _ACTION: action}
        self._jobs.add(1, {name: text for name, text in named.items() if text} | about)
        if not self._warm:
            self._warm = True
            self._cold_start.record(time.monotonic() - LOADED_AT)

    @contextmanager
    def call(self, asked: Asked) -> Iterator[Watch]:
        """See Telemetry."""
        watch = _Call(self, asked)
        name = f"{watch.about['gen_ai.operation.name']} {asked.model}".strip()
        with self._span(name, SpanKind.CLIENT, watch.attributes()) as span:
            try:
                yield watch
            except BaseException as exc:
                watch.failed(_code(exc))
                raise
            finally:
                if watch.tries:  # else nothing was sent, as with an open breaker
                    watch.end()
                    span.end()

    def breaker(self, customer: str, connection: str, state: str) -> None:
        """See Telemetry."""
        self._breakers.add(1, {_CUSTOMER: customer, _CONNECTION: connection, f"{NAME}.state": state})

    def close(self) -> None:
        """See Telemetry."""
        for provider in self.providers:
            provider.shutdown()

    def _span(self, name: str, kind: SpanKind, about: _Attributes, context: Context | None = None) -> Any:
        return self.tracer.start_as_current_span(
            name, context, kind, about, record_exception=False, set_status_on_exception=False, end_on_exit=False
        )


class _Call(Watch):
    """One call under its span, which is the current one."""

    def __init__(self, told: Spans, asked: Asked) -> None:
        self._told, self._asked = told, asked
        address = urlsplit(asked.url)
        self.about: _Attributes = {
            _CUSTOMER: asked.customer,
            "gen_ai.operation.name": _operation(address.path),
            "gen_ai.provider.name": _PROVIDERS[asked.provider],
            "server.address": address.hostname or "",
            "server.port": address.port or _PORTS.get(address.scheme, 0),
            **({"gen_ai.request.model": asked.model} if asked.model else {}),
        }
        self.tries = 0
        self._began = time.monotonic()
        self._left = 0.0
        self._waited = 0.0

    def attributes(self) -> _Attributes:
        """The span's, at its start."""
        more = {"gen_ai.system": _SYSTEMS[self._asked.provider], _CONNECTION: self._asked.connection}
        return self.about | more

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """See Watch."""
        if self.tries:
            self._waited += time.monotonic() - self._left
        self.tries += 1
        try:
            yield
        finally:
            self._left = time.monotonic()

    def answered(self, body: bytes) -> None:
        """See Watch."""
        try:
            said = msgspec.json.decode(body, type=_Said)
        except UNREADABLE:
            return
        found: _Attributes = {"gen_ai.response.model": said.model} if said.model else {}
        self.about |= found
        if said.id:
            found["gen_ai.response.id"] = said.id
        if reasons := [one.finish_reason for one in said.choices if one.finish_reason]:
            found["gen_ai.response.finish_reasons"] = reasons
        if (usage := read_usage(said.usage)) is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                found[f"gen_ai.usage.{kind}_tokens"] = tokens
                self._told.tokens.record(tokens, self.about | {"gen_ai.token.type": kind})
        if self._told.content:
            found |= _content(self._asked.body, said)
        get_current_span().set_attributes(found)

    def failed(self, code: str) -> None:
        """The call came to nothing."""
        self.about["error.type"] = code
        get_current_span().set_attributes({"error.type": code, _CODE: code})
        get_current_span().set_status(StatusCode.ERROR)

    def end(self) -> None:
        """The call is over, and no try of it is to come."""
        self._told.duration.record(time.monotonic() - self._began, self.about)
        if self.tries > 1:
            get_current_span().set_attribute(f"{NAME}.tries", self.tries)
            self._told.waiting.record(self._waited, {_CUSTOMER: self._asked.customer, f"{NAME}.where": "call"})


def _context(traceparent: str | None) -> Context:
    # What is none gives an empty context, under which a span begins a trace of its own.
    return _TRACE.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _traceparent() -> str | None:
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    return carrier.get("traceparent")


def _named(job: Job) -> _Attributes:
    return {_CUSTOMER: job.customer, _ACTION: job.action, _JOB: job.id}


def _operation(path: str) -> str:
    last = path.rstrip("/").rpartition("/")
    return _OPERATIONS.get(f"{last[0].rpartition('/')[2]}/{last[2]}") or _OPERATIONS.get(last[2], "raw")


def _code(error: BaseException) -> str:
    """The contract's code where the error has one; else its name, in the same style."""
    reason = getattr(error, "reason", error)
    code = getattr(reason, "code", None)
    return code if isinstance(code, str) else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(reason).__name__).lower()


def _content(body: bytes, said: _Said) -> _Attributes:
    """Questions and answers, in the form of the conventions; only texts."""
    try:
        asked = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    asked = asked if isinstance(asked, dict) else {}
    messages = asked.get("messages")
    if not isinstance(messages, list):
        messages = [{"role": "user", "content": asked.get("prompt", asked.get("input"))}]
    given = [_message(one) for one in messages if isinstance(one, dict)]
    answers = [
        _message(one.message if isinstance(one.message, dict) else {"content": one.text})
        | {"role": "assistant", "finish_reason": one.finish_reason}
        for one in said.choices
    ]
    found = {"gen_ai.input.messages": given, "gen_ai.output.messages": answers}
    return {name: msgspec.json.encode(value).decode() for name, value in found.items() if value}


def _message(said: Mapping[str, Any]) -> dict[str, Any]:
    content = said.get("content")
    pieces = content if isinstance(content, list) else [content]
    texts = [one.get("text") if isinstance(one, dict) else one for one in pieces]
    parts = [{"type": "text", "content": text} for text in texts if isinstance(text, str)]
    return {"role": str(said.get("role")), "parts": parts}

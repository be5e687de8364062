"""
The app's reports as OpenTelemetry's spans and metrics. Loaded only if telemetry is on.

Doesn't know where they are sent. The texts of errors are left out: they may quote what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared import event_names as names
from shared.contract.job import Job
from shared.errors import Throttled
from shared.telemetry.base import RequestInfo, Telemetry
from shared.telemetry.call_span import CallSpan
from shared.telemetry.metrics import Attributes, Metrics

_EXPORTED = ("sent", "refused", "in_doubt")
_THROTTLED = f"{names.NAMESPACE}.throttled"
"""Marks the span of a throttled job, which is never exported."""
_TRACE = TraceContextTextMapPropagator()


class OpenTelemetry(Telemetry):
    """Reports to a tracer provider and a meter provider. `content`: with prompts and answers."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider, *, content: bool = False) -> None:
        tracers.sampler = _OwnSampler(tracers.sampler)
        self.providers = (tracers, meters)
        self._content = content
        self._tracer, self._metrics = tracers.get_tracer(names.NAMESPACE), Metrics(meters)

    @contextmanager
    def http_request(self, method: str, route: str, headers: Mapping[str, str]) -> Iterator[None]:
        """See Telemetry."""
        attributes = {"http.request.method": method, "http.route": route}
        parent = _context(headers.get("traceparent"))
        with self._span(f"{method} {route}", SpanKind.SERVER, attributes, parent) as span:
            try:
                yield
            finally:
                span.end()

    def http_responded(self, status: int) -> None:
        """See Telemetry."""
        span = get_current_span()
        span.set_attribute("http.response.status_code", status)
        if status >= 500:  # noqa: PLR2004
            span.set_status(StatusCode.ERROR)

    def job_submitted(self, job: Job) -> str | None:
        """See Telemetry."""
        get_current_span().set_attributes(_job_attributes(job))
        return _traceparent()

    @contextmanager
    def job(self, job: Job, traceparent: str | None) -> Iterator[None]:
        """See Telemetry."""
        span_context = _context(traceparent)
        with self._span(f"job {job.action}", SpanKind.CONSUMER, _job_attributes(job), span_context) as span:
            try:
                yield
            finally:
                # A throttled job did nothing; a span that never ends is never exported.
                if not (getattr(span, "attributes", None) or {}).get(_THROTTLED):  # one that is not sampled has none
                    span.end()

    def attempt_started(self, job: Job, attempt: int, age_s: float) -> None:
        """See Telemetry."""
        get_current_span().set_attribute(names.ATTR_ATTEMPT, attempt)
        if attempt == 1:
            attributes = {**self._by(job.customer), names.ATTR_ACTION: job.action}
            self._metrics.queue_age.record(max(age_s, 0), attributes)

    def job_requeued(self, job: Job, reason: Exception, delay_s: float) -> None:
        """See Telemetry."""
        code = _code(reason)
        get_current_span().set_attribute(names.ATTR_REQUEUE_REASON, code)
        if isinstance(reason, Throttled):
            get_current_span().set_attribute(_THROTTLED, True)
        self._metrics.requeues.add(1, {**self._by(job.customer), names.ATTR_REQUEUE_REASON: code})
        self._metrics.wait_time.record(delay_s, {**self._by(job.customer), names.ATTR_WAITED_IN: "queue"})

    def requeue_traceparent(self, traceparent: str | None, reason: Exception) -> str | None:
        """See Telemetry."""
        if traceparent:
            return traceparent  # each attempt's parent is the request, not the attempt before
        return None if isinstance(reason, Throttled) else _traceparent()

    def job_finished(self, customer: str | None, action: str | None, status: str, code: str | None) -> None:
        """See Telemetry."""
        outcome = {names.ATTR_STATUS: status, **({"error.type": code, names.ATTR_CODE: code} if code else {})}
        span = get_current_span()
        span.set_attributes(outcome)
        if status == "failed":
            span.set_status(StatusCode.ERROR)
        job = {**(self._by(customer) if customer else {}), **({names.ATTR_ACTION: action} if action else {})}
        self._metrics.jobs.add(1, job | outcome)
        self._metrics.record_cold_start()

    @contextmanager
    def call(self, request: RequestInfo) -> Iterator[CallSpan]:
        """See Telemetry."""
        call = CallSpan(self._metrics, request, content=self._content)
        name = f"{call.operation} {call.model}".strip()
        with self._span(name, SpanKind.CLIENT, call.first_attributes()) as span:
            try:
                yield call
            except BaseException as exc:
                call.failed(_code(exc))
                raise
            finally:
                if call.tries:  # otherwise nothing was sent, as with an open breaker
                    call.end()
                    span.end()

    def breaker_changed(self, customer: str, connection: str, state: str) -> None:
        """See Telemetry."""
        connection = self._metrics.labels.text(customer, "connection", connection)
        attributes = {**self._by(customer), names.ATTR_CONNECTION: connection, names.ATTR_STATE: state}
        self._metrics.breaker_changes.add(1, attributes)

    def exported(self, export: str, counts: Mapping[str, int], lag_s: float) -> None:
        """See Telemetry."""
        for state in _EXPORTED:
            if counts.get(state):
                self._metrics.export_events.add(counts[state], {names.ATTR_EXPORT: export, names.ATTR_STATE: state})
        self._metrics.export_lag.record(lag_s, {names.ATTR_EXPORT: export})

    def batch_sent(self, customer: str) -> None:
        """See Telemetry."""
        self._metrics.batches.add(1, {**self._by(customer), names.ATTR_STATE: "sent"})

    def batch_ended(self, customer: str, status: str, lines: Mapping[str, int], age_s: float) -> None:
        """See Telemetry."""
        by = self._by(customer)
        self._metrics.batches.add(1, {**by, names.ATTR_STATE: status})
        for state, number in lines.items():
            self._metrics.batch_lines.add(number, {**by, names.ATTR_STATE: state})
        self._metrics.batch_age.record(max(age_s, 0), by)

    def close(self) -> None:
        """See Telemetry."""
        for provider in self.providers:
            provider.shutdown()

    def _by(self, customer: str) -> Attributes:
        return {names.ATTR_CUSTOMER: self._metrics.labels.customer(customer)}

    def _span(self, name: str, kind: SpanKind, attributes: Attributes, parent: Context | None = None) -> Any:
        return self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False, end_on_exit=False
        )


class _OwnSampler(Sampler):
    """
    The operator's sampler, which decides by the trace's id: the flag in a caller's `traceparent` doesn't count.

    Otherwise a caller could have its requests and jobs leave no trace.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(self, parent_context: Context | None, *args: Any, **kwargs: Any) -> SamplingResult:
        """See Sampler."""
        if get_current_span(parent_context).get_span_context().is_remote:
            parent_context = Context()  # as for a trace that starts here
        return self._sampler.should_sample(parent_context, *args, **kwargs)

    def get_description(self) -> str:
        """See Sampler."""
        return self._sampler.get_description()


def _context(traceparent: str | None) -> Context:
    # An invalid traceparent gives an empty context, in which a span starts a trace of its own.
    return _TRACE.extract({"traceparent": traceparent} if traceparent else {}, Context())


def _traceparent() -> str | None:
    carrier: dict[str, str] = {}
    _TRACE.inject(carrier)
    return carrier.get("traceparent")


def _job_attributes(job: Job) -> Attributes:
    return {names.ATTR_CUSTOMER: job.customer, names.ATTR_ACTION: job.action, names.ATTR_JOB_ID: job.id}


def _code(error: BaseException) -> str:
    """The contract's code if the error has one; otherwise its class name, in the same style."""
    reason = getattr(error, "reason", error)
    code = getattr(reason, "code", None)
    return code if isinstance(code, str) else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(reason).__name__).lower()

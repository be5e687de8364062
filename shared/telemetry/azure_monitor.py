"""
Telemetry on its way to Application Insights: in the background, in batches, and at no job's cost.

Loaded only where the settings have a connection string. The exporter itself, which takes thrice as long to load as
all else here, is loaded by the thread that first has something to send.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared.event_names import TELEMETRY_NOT_EXPORTED
from shared.secret import Secret
from shared.telemetry.opentelemetry import NAME, Spans

TIMEOUT_S = 10
"""Of one try to send, of which there are two at most; who waits is a thread in the background, or the worker's end."""
# The exporter would also tell of itself, to Microsoft and to you, ask Microsoft for instructions, and add a row to
# each batch that says where it runs (azure-monitor-opentelemetry-exporter, `_constants.py`).
_OWN_BUSINESS = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
# A line each time that a batch does not go out; there is one of ours when that begins.
_TALKATIVE = ("azure.monitor.opentelemetry", "opentelemetry.sdk")
_DELTA: dict[type, AggregationTemporality] = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)

log = logging.getLogger("customer_ai_jobs")


def open_telemetry(connection_string: Secret, *, content: bool) -> Spans:
    """
    Telemetry to the Application Insights of that connection string.

    It signs in as APPLICATIONINSIGHTS_AUTHENTICATION_STRING says, which is the Functions host's setting as well.
    Nothing is sent yet. Telemetry of a worker that is killed is lost: of spans the last seconds, of metrics the
    last minute.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _OWN_BUSINESS:
        os.environ.setdefault(name, "true")
    about = Resource({"service.name": os.environ.get("WEBSITE_SITE_NAME") or NAME})
    tracers = TracerProvider(resource=about)

    def exporter(name: str) -> Callable[[], Any]:
        return lambda: _exporter(name, connection_string)

    tracers.add_span_processor(BatchSpanProcessor(_SpansLater(exporter("AzureMonitorTraceExporter"))))
    reader = PeriodicExportingMetricReader(_MetricsLater(exporter("AzureMonitorMetricExporter")))
    return Spans(tracers, MeterProvider([reader], about), content=content)


class _Later:
    """An exporter that is made when it is needed, and whose troubles end here."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._trouble = False

    def send(self, data: Any, succeeded: Any, failed: Any) -> Any:
        """What the exporter says of the data, or that it failed."""
        result, why = failed, "it was not taken"
        try:
            if self._made is None:
                self._made = self._make()
            result = self._made.export(data)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is telemetry's
            why = type(exc).__name__
        if result != succeeded and not self._trouble:
            log.warning(
                "%s %s: this batch is lost; the next one that arrives ends the trouble.", TELEMETRY_NOT_EXPORTED, why
            )
        self._trouble = result != succeeded
        return result

    def stop(self) -> None:
        """Ends the exporter, if there is one."""
        if self._made is not None:
            self._made.shutdown()


class _SpansLater(SpanExporter):
    def __init__(self, make: Callable[[], Any]) -> None:
        self._later = _Later(make)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result: SpanExportResult = self._later.send(spans, SpanExportResult.SUCCESS, SpanExportResult.FAILURE)
        return result

    def shutdown(self) -> None:
        self._later.stop()


class _MetricsLater(MetricExporter):
    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__(preferred_temporality=_DELTA)
        self._later = _Later(make)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002
        result: MetricExportResult = self._later.send(
            metrics_data, MetricExportResult.SUCCESS, MetricExportResult.FAILURE
        )
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ARG002
        self._later.stop()


def _exporter(name: str, connection_string: Secret) -> Any:
    from azure.monitor.opentelemetry import exporter  # noqa: PLC0415  # see above

    return getattr(exporter, name)(
        connection_string=connection_string.reveal(),
        disable_offline_storage=True,  # no customer's data on a disk
        timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retry_total=1,
    )

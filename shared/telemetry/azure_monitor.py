"""
Sends telemetry to Application Insights: in the background, in batches, and at no job's cost.

Loaded only if the settings have a connection string. The exporter itself, which takes three times as long to load
as everything else here, is loaded by the thread that first has something to send.
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

from shared.event_names import NAMESPACE, TELEMETRY_NOT_EXPORTED
from shared.secret import Secret
from shared.telemetry.opentelemetry import OpenTelemetry

TIMEOUT_S = 10
"""Of one request to Application Insights, of which there are at most two; only a background thread waits for it."""
# The exporter would also send statistics about itself to Microsoft and to you, get its configuration from Microsoft,
# and add a row to each batch that says where it runs (azure-monitor-opentelemetry-exporter, `_constants.py`).
_EXPORTER_EXTRAS = (
    "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL",
    "APPLICATIONINSIGHTS_SDKSTATS_DISABLED",
    "APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED",
    "APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED",
)
# These log a line for each batch that fails; we log one line when the failures begin.
_NOISY_LOGGERS = ("azure.monitor.opentelemetry", "opentelemetry.sdk")
_DELTA: dict[type, AggregationTemporality] = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)

log = logging.getLogger(NAMESPACE)


def open_telemetry(connection_string: Secret, *, content: bool) -> OpenTelemetry:
    """
    Return telemetry that is sent to the Application Insights of that connection string.

    It signs in as APPLICATIONINSIGHTS_AUTHENTICATION_STRING says, which is the Functions host's setting as well.
    Nothing is sent yet. A worker that is killed loses its last seconds of spans and its last minute of metrics.
    """
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in _EXPORTER_EXTRAS:
        os.environ.setdefault(name, "true")
    resource = Resource({"service.name": os.environ.get("WEBSITE_SITE_NAME") or NAMESPACE})
    tracers = TracerProvider(resource=resource)

    def exporter(name: str) -> Callable[[], Any]:
        return lambda: _open_exporter(name, connection_string)

    tracers.add_span_processor(BatchSpanProcessor(_LazySpanExporter(exporter("AzureMonitorTraceExporter"))))
    reader = PeriodicExportingMetricReader(_LazyMetricExporter(exporter("AzureMonitorMetricExporter")))
    return OpenTelemetry(tracers, MeterProvider([reader], resource), content=content)


class _LazyExporter:
    """An exporter that is created when it is first needed, and whose errors are not passed on."""

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._exporter: Any = None
        self._failing = False

    def export(self, data: Any, succeeded: Any, failed: Any) -> Any:
        """Return the exporter's result, or `failed` if it raised."""
        result, error = failed, "the exporter failed"
        try:
            if self._exporter is None:
                self._exporter = self._create()
            result = self._exporter.export(data)
        except Exception as exc:  # noqa: BLE001  # an error of telemetry must not reach the app
            error = type(exc).__name__
        if result != succeeded and not self._failing:
            log.warning(
                "%s %s: this batch and those that follow are lost until one arrives.", TELEMETRY_NOT_EXPORTED, error
            )
        self._failing = result != succeeded
        return result

    def shutdown(self) -> None:
        """Shut the exporter down, if there is one."""
        if self._exporter is not None:
            self._exporter.shutdown()


class _LazySpanExporter(SpanExporter):
    def __init__(self, create: Callable[[], Any]) -> None:
        self._lazy = _LazyExporter(create)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result: SpanExportResult = self._lazy.export(spans, SpanExportResult.SUCCESS, SpanExportResult.FAILURE)
        return result

    def shutdown(self) -> None:
        self._lazy.shutdown()


class _LazyMetricExporter(MetricExporter):
    def __init__(self, create: Callable[[], Any]) -> None:
        super().__init__(preferred_temporality=_DELTA)
        self._lazy = _LazyExporter(create)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002
        result: MetricExportResult = self._lazy.export(
            metrics_data, MetricExportResult.SUCCESS, MetricExportResult.FAILURE
        )
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ARG002
        self._lazy.shutdown()


def _open_exporter(name: str, connection_string: Secret) -> Any:
    from azure.monitor.opentelemetry import exporter  # noqa: PLC0415  # see above

    return getattr(exporter, name)(
        connection_string=connection_string.reveal(),
        disable_offline_storage=True,  # no customer's data on a disk
        timeout=TIMEOUT_S,
        read_timeout=TIMEOUT_S,
        retry_total=1,
    )

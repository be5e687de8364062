"""The app's metrics, as OpenTelemetry's instruments. Loaded only if telemetry is on."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider

from shared import event_names as names
from shared.telemetry.base import LOADED_AT

# Bucket bounds: for calls and tokens as the semantic conventions for generative AI advise
# (opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics), for waits up to a day.
_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_WAIT_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)

Attributes = dict[str, Any]

OTHER = "_OTHER"
"""Replaces a text beyond the limits below, or that does not look like a name; the semantic conventions' own value."""
MAX_CUSTOMERS = 1000
"""Customers that the metrics of a worker distinguish."""
MAX_TEXTS = 20
"""Texts of each kind (models, connections, addresses) that they distinguish of a customer."""


class Labels:
    """
    Bounds the variety of the texts that callers and endpoints choose, and that metrics are counted by.

    Each combination costs memory and a row a minute. Of each customer the first texts stand for themselves, so that
    none uses up what another has.
    """

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, set[str]]] = {}

    def customer(self, customer: str) -> str:
        """Return the customer's id, or OTHER."""
        if customer not in self._texts and len(self._texts) < MAX_CUSTOMERS:
            self._texts[customer] = {}
        return customer if customer in self._texts else OTHER

    def text(self, customer: str, kind: str, text: str) -> str:
        """Return a text of one kind, or OTHER."""
        if self.customer(customer) == OTHER:
            return OTHER
        texts = self._texts[customer].setdefault(kind, set())
        if text not in texts and len(texts) < MAX_TEXTS:
            texts.add(text)
        return text if text in texts else OTHER


class Metrics:
    """The instruments, each named after its constant in `event_names`."""

    def __init__(self, meters: MeterProvider) -> None:
        meter = meters.get_meter(names.NAMESPACE)

        def histogram(name: str, unit: str, bounds: tuple[float, ...]) -> Any:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self.call_duration = histogram(names.METRIC_CALL_DURATION, "s", _CALL_SECONDS)
        self.tokens = histogram(names.METRIC_TOKENS, "{token}", _TOKENS)
        self.wait_time = histogram(names.METRIC_WAIT_TIME, "s", _WAIT_SECONDS)
        self.queue_age = histogram(names.METRIC_QUEUE_AGE, "s", _WAIT_SECONDS)
        self.jobs = meter.create_counter(names.METRIC_JOBS, "{job}")
        self.requeues = meter.create_counter(names.METRIC_REQUEUES, "{job}")
        self.breaker_changes = meter.create_counter(names.METRIC_BREAKER_CHANGES, "{change}")
        self.batches = meter.create_counter(names.METRIC_BATCHES, "{batch}")
        self.batch_lines = meter.create_counter(names.METRIC_BATCH_LINES, "{line}")
        self.batch_age = histogram(names.METRIC_BATCH_AGE, "s", _WAIT_SECONDS)
        self.export_events = meter.create_counter(names.METRIC_EXPORT_EVENTS, "{event}")
        self.export_lag = histogram(names.METRIC_EXPORT_LAG, "s", _WAIT_SECONDS)
        self._cold_start = histogram(names.METRIC_COLD_START, "s", _WAIT_SECONDS)
        self._warm = False
        self.labels = Labels()

    def record_cold_start(self) -> None:
        """Record the seconds since the app was loaded, the first time that this is called."""
        if not self._warm:
            self._warm = True
            self._cold_start.record(time.monotonic() - LOADED_AT)

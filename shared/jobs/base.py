"""What the worker, an attempt and an action share: the part of `shared.services.Services` that jobs need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from shared.errors import RetryLater

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from shared.billing.budgets import Budgets
    from shared.billing.closing import Closing
    from shared.billing.customer_records import CustomerRecords
    from shared.billing.price_books import PriceBooks
    from shared.connections.connection import Connection
    from shared.connections.resolver import Connections
    from shared.jobs.admission import Limiter
    from shared.jobs.attempt import Attempt
    from shared.jobs.drain import Drain
    from shared.jobs.inputs import Inputs
    from shared.jobs.job_prices import JobPrices
    from shared.jobs.job_updates import JobUpdates
    from shared.jobs.ledger import Ledger
    from shared.jobs.lines import Line, LineRecord
    from shared.jobs.outputs import Outputs
    from shared.jobs.queries import JobQueries
    from shared.jobs.schedule import Schedule
    from shared.jobs.submission import Submissions
    from shared.settings import Settings
    from shared.storage.base import Queues
    from shared.telemetry.base import Telemetry
    from shared.upstream.capabilities import Capabilities
    from shared.upstream.circuit_breaker import Breakers
    from shared.upstream.client import UpstreamClient


class BatchWait(RetryLater):
    """A job's calls wait for a batch of its provider, which continues the job. `wait` ends the attempt."""

    is_requeued = True

    def __init__(self, message: str, wait: Callable[[], Awaitable[None]]) -> None:
        super().__init__(message, 0)
        self.wait = wait


class Batches(Protocol):
    """The batches that jobs' calls wait for."""

    @property
    def ledger(self) -> Ledger:
        """The jobs' rows, of which those that a batch has woken end together."""

    def refusal(self, connection: Connection, operation: str) -> str | None:
        """Return the sentence that says why a connection can't have an operation done in batches, or None."""

    async def lines(self, attempt: Attempt) -> Mapping[str, LineRecord]:
        """Return the lines that the attempt's job has, by their keys. Raises StorageUnavailable."""

    async def wait(self, attempt: Attempt, lines: Sequence[Line], pending: Collection[str], *, stepless: bool) -> None:
        """
        End an attempt: its job waits for the batches that these `lines` join, and for `pending` ones.

        `stepless`: neither this attempt nor an earlier one has stored a step.

        Raises LeaseLost, StorageUnavailable.
        """


class JobServices(Protocol):
    """The services of one worker process. All customers share them; each keeps customers apart by their ids."""

    @property
    def settings(self) -> Settings:
        """The app settings."""

    @property
    def queues(self) -> Queues:
        """The queues that results and messages of poison queues are sent to."""

    @property
    def ledger(self) -> Ledger:
        """The jobs' rows."""

    @property
    def queries(self) -> JobQueries:
        """Reads of the jobs' rows."""

    @property
    def updates(self) -> JobUpdates:
        """Changes to the rows of jobs that nobody runs."""

    @property
    def schedule(self) -> Schedule:
        """When waiting jobs continue."""

    @property
    def submissions(self) -> Submissions:
        """Puts jobs on record that have no attempt yet."""

    @property
    def batches(self) -> Batches:
        """The batches that jobs' calls wait for."""

    @property
    def budgets(self) -> Budgets:
        """What jobs reserve and settle."""

    @property
    def job_prices(self) -> JobPrices:
        """What the cost in a job's result is calculated by."""

    @property
    def price_books(self) -> PriceBooks:
        """What calls cost."""

    @property
    def customer_records(self) -> CustomerRecords:
        """The customers' profiles, states and budgets."""

    @property
    def connections(self) -> Connections:
        """The customers' connections."""

    @property
    def client(self) -> UpstreamClient:
        """The HTTP client to AI endpoints."""

    @property
    def limiter(self) -> Limiter:
        """Admission and concurrency limits, by customer and connection."""

    @property
    def drain(self) -> Drain:
        """The worker's stop."""

    @property
    def breakers(self) -> Breakers:
        """The circuit breakers, by connection."""

    @property
    def capabilities(self) -> Capabilities:
        """What refusals have taught of endpoints and models."""

    @property
    def inputs(self) -> Inputs:
        """Reads what jobs name."""

    @property
    def outputs(self) -> Outputs:
        """Writes results and blobs."""

    @property
    def closing(self) -> Closing:
        """Closes months."""

    @property
    def telemetry(self) -> Telemetry:
        """Spans and metrics."""

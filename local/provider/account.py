"""An account at the endpoint: its key, what it holds, what it is charged, and what goes wrong for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from local.provider.faults import Faults
from local.provider.journal import Entry, Journal, Prices

if TYPE_CHECKING:
    from local.provider.batch import Batch
    from local.provider.files import File
    from local.provider.responses import Response
    from local.provider.webhooks import Delivery, Subscription

Style = Literal["openai", "azure", "anthropic"]
DEFAULT_PRICES = Prices()


@dataclass(slots=True)
class Durations:
    """How long things take, in seconds of the endpoint's clock. A test may change them at any time."""

    validating_s: float = 0.5
    in_progress_s: float = 1.0
    finalizing_s: float = 0.5
    cancelling_s: float = 0.5
    window_s: float = 86_400
    """A batch that isn't done by then expires."""
    file_processing_s: float = 0
    """A new file is `pending` for so long, and no batch can have it."""
    queued_s: float = 0.5
    """Of a response in the background."""
    responding_s: float = 1.0


@dataclass(slots=True)
class Limits:
    """What the account may hold."""

    lines: int = 50_000
    file_bytes: int = 200_000_000
    embedding_inputs: int = 50_000
    enqueued_tokens: int | None = None
    """The input tokens of all its batches that have not ended; None: any number."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request of the account: the name of its route, the id in its path, and the status that was sent."""

    at: float
    route: str
    target: str
    status: int
    """0 if no answer was sent."""


@dataclass(slots=True)
class Account:
    """
    An account. Files, batches and responses of one are unknown to another.

    `models`: those that it has; None for any. `batch_models`: likewise for batches, as Azure has deployments for
    them. `azure_objects`: statuses begin with a capital, dates are ISO dates, and an id that isn't there is "".
    `status_case` has the case of statuses alone.
    """

    key: str = field(repr=False)
    endpoint_url: str
    style: Style = "openai"
    prices: Mapping[str, Prices] = field(default_factory=dict)
    """By model; `*` for all others."""
    azure_objects: bool = False
    status_case: Literal["lower", "title", "upper"] = "lower"
    models: frozenset[str] | None = None
    batch_models: frozenset[str] | None = None
    no_background: frozenset[str] = frozenset()
    """The models that make no response in the background."""
    no_windows: frozenset[str] = frozenset()
    """The windows of responses in the background, such as `8h`, that it does not have."""
    lists_cancelled_lines: bool = False
    """The error file of a cancelled batch names the lines that were not executed, as `batch_cancelled`."""
    name: str = field(default_factory=lambda: f"account-{uuid4().hex[:8]}")
    durations: Durations = field(default_factory=Durations)
    limits: Limits = field(default_factory=Limits)
    faults: Faults = field(default_factory=Faults)
    journal: Journal = field(default_factory=Journal)
    received: list[Received] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    responses: dict[str, Response] = field(default_factory=dict)
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def url(self) -> str:
        """What a connection has as its `endpoint`: the v1 API in the account's style."""
        return f"{self.endpoint_url}/openai/v1" if self.style == "azure" else f"{self.endpoint_url}/v1"

    @property
    def root_url(self) -> str:
        """The resource's root, which is Azure's older style as well."""
        return self.endpoint_url

    def calls(self, route: str) -> list[Received]:
        """Return the requests of a route, oldest first."""
        return [each for each in self.received if each.route == route]

    def prices_of(self, model: str) -> Prices:
        """Return the prices of a model."""
        return self.prices.get(model) or self.prices.get("*") or DEFAULT_PRICES

    def record(self, entry: Entry) -> None:
        """Add a call to the journal."""
        self.journal.entries.append(entry)

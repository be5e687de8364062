"""What an account's calls consumed and cost, for a test to compare with results, usage records and statements."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a model for a million tokens, and which part of them other ways of processing cost."""

    input: Decimal = Decimal(2)
    output: Decimal = Decimal(8)
    shares: Mapping[str, Decimal] = field(
        default_factory=lambda: {
            "batch": Decimal("0.5"),
            "flex": Decimal("0.5"),
            "background_2h": Decimal("0.7"),
            "background_8h": Decimal("0.6"),
        }
    )

    def cost(self, input_tokens: int, output_tokens: int, processing: str, service_tier: str) -> Decimal:
        """Return the cost of a call. A tier has its share only in standard processing."""
        share = self.shares.get(service_tier if processing == "standard" else processing, Decimal(1))
        return (self.input * input_tokens + self.output * output_tokens) * share / MILLION


@dataclass(frozen=True, slots=True)
class Entry:
    """A call that the endpoint executed or refused: a direct one, or a line of a batch."""

    at: float
    account: str
    """The account's name."""
    request_id: str
    operation: str
    model: str
    prompt: str
    """The first characters of the prompt."""
    prompt_hash: str
    """The same for the same operation, model and prompt; other parameters don't matter."""
    status: int
    code: str
    """The code of the error, if it was refused."""
    processing: str
    """`standard`, `batch`, `background_2h` or `background_8h`."""
    service_tier: str
    input_tokens: int = 0
    output_tokens: int = 0
    billed: bool = False
    cost: Decimal = Decimal(0)
    custom_id: str = ""
    batch_id: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over what was billed."""

    calls: int
    input_tokens: int
    output_tokens: int
    cost: Decimal


@dataclass(slots=True)
class Journal:
    """The calls of one account, oldest first."""

    entries: list[Entry] = field(default_factory=list)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def billed(self, processing: str | None = None) -> list[Entry]:
        """Return the calls that were billed, all or those of one way of processing."""
        return [each for each in self.entries if each.billed and processing in (None, each.processing)]

    def totals(self, processing: str | None = None) -> Totals:
        """Return the sums over what was billed."""
        return add_up(self.billed(processing))

    def bought_twice(self) -> dict[str, int]:
        """Return the prompts that were billed more than once, and how often. A test's prompts should all differ."""
        counts = Counter((each.prompt_hash, each.prompt) for each in self.entries if each.billed)
        return {prompt: count for (_, prompt), count in counts.items() if count > 1}


def add_up(entries: Iterable[Entry]) -> Totals:
    """Return the sums over entries."""
    calls = input_tokens = output_tokens = 0
    cost = Decimal(0)
    for each in entries:
        calls += 1
        input_tokens += each.input_tokens
        output_tokens += each.output_tokens
        cost += each.cost
    return Totals(calls, input_tokens, output_tokens, cost)

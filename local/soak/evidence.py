"""
What is known after a soak, side by side: what was sent, what was told, what the endpoint remembers, what the
ledger holds. Pure; only reads what the contract promises of results and usage records.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from local.soak.journal import Entry
from local.soak.plan import Piece, Planned, read_tag

Row = Mapping[str, Any]

_ANSWERED_BY = re.compile(r"soak-\d{7}")


@dataclass(frozen=True)
class Told:
    """One message of the results queue, and when it was there, on the journal's clock."""

    body: bytes = field(repr=False)
    at: float

    @cached_property
    def result(self) -> dict[str, Any]:
        """The result, decoded."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def key(self) -> tuple[str, str]:
        """Customer and job id."""
        return self.result.get("customer", ""), self.result["job_id"]


@dataclass(frozen=True, slots=True)
class Said:
    """One answer in a result: the place it stands in, and what the endpoint wrote into it about itself."""

    place: Piece
    piece: Piece | None
    request_id: str


@dataclass(frozen=True)
class Evidence:
    """Everything. `blobs` holds the blobs that results name, None for one that is missing."""

    planned: Sequence[Planned]
    told: Sequence[Told]
    journal: Sequence[Entry]
    usage: Sequence[Row]
    jobs: Sequence[Row]
    blobs: Mapping[str, bytes | None] = field(default_factory=dict)
    kills: Sequence[float] = ()
    """When workers were killed, on the journal's clock."""
    errors: Sequence[str] = ()
    """Lines of the workers' log that tell of an error."""

    @cached_property
    def results(self) -> dict[tuple[str, str], Told]:
        """The first that was told of each job."""
        first: dict[tuple[str, str], Told] = {}
        for told in self.told:
            first.setdefault(told.key, told)
        return first

    @cached_property
    def paid(self) -> dict[str, Entry]:
        """What the endpoint did and is to be paid for, by the id that its answer bears."""
        return {entry.request_id: entry for entry in self.journal if entry.paid}

    @cached_property
    def billed(self) -> list[Row]:
        """The usage records of calls that were answered, whether or not the answer could be kept."""
        return [row for row in self.usage if outcome(row) != "unanswered"]

    @cached_property
    def said(self) -> dict[tuple[str, str], list[Said]]:
        """The answers in each job's result."""
        return {key: list(_said(told.result, self.blobs)) for key, told in self.results.items()}


def outcome(row: Row) -> str:
    """What a usage record says of its call. One without the column is of a call that was answered."""
    return str(row.get("outcome") or "answered")


def owner(row: Row) -> tuple[str, str]:
    """The job that a usage record or a ledger row is of."""
    return row["PartitionKey"], row.get("job_id") or row["RowKey"].removeprefix("j_")


def named_blobs(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every blob that a result names, with its size and hash."""
    pictures = (result.get("output") or {}).get("images", ())
    named = [result.get("output_blob"), *(picture.get("blob") for picture in pictures)]
    return [blob for blob in named if blob]


def _said(result: Mapping[str, Any], blobs: Mapping[str, bytes | None]) -> Iterator[Said]:
    output = result.get("output") or {}
    key = result.get("customer", ""), result["job_id"]
    texts = [answer.get("text") for answer in output.get("answers", ())] or [output.get("text")]
    for place, text in enumerate(texts):
        if text and (by := _ANSWERED_BY.search(text)):
            yield Said((*key, place), read_tag(text), by[0])
    for place, picture in enumerate(output.get("images", ())):
        data = blobs.get(picture["blob"]["name"]) if "blob" in picture else None
        if data and (by := _ANSWERED_BY.search(data.decode("latin-1"))):
            yield Said((*key, place), (*key, place), by[0])

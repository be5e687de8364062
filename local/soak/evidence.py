"""
What is known after a soak: the jobs that were sent, the results, the endpoint's journal, and the ledger's rows.
Pure. Reads only what the contract says of results and usage records, and the ledger's state of a job.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from local.soak.journal import Entry
from local.soak.plan import CallKey, PlannedJob, parse_tag

Row = Mapping[str, Any]
Key = tuple[str, str]
"""Customer and job id, or customer and service tier."""

_REQUEST_ID = re.compile(r"soak-\d{7}")
_PLACEHOLDER = re.compile(r"_~\d+$")
_DAY = len("u_2026-11-29_")


@dataclass(frozen=True)
class ResultMessage:
    """A message of the results queue, and when it was received, on the journal's clock."""

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
class StoredBlob:
    """A blob that a result names: its size and hash, and how it begins."""

    size: int
    sha256: str
    head: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in a result: the call whose answer it should be, and what the endpoint wrote into it."""

    expected: CallKey
    call: CallKey | None
    request_id: str


@dataclass(frozen=True)
class Evidence:
    """
    All of it. `usage` has the records that count. `blobs` has those that results name, None for a missing one.
    `statements` are the documents that the app returns for the customers, of each month of the soak, by month.
    """

    planned: Sequence[PlannedJob]
    messages: Sequence[ResultMessage]
    journal: Sequence[Entry]
    usage: Sequence[Row]
    jobs: Sequence[Row]
    blobs: Mapping[str, StoredBlob | None] = field(default_factory=dict)
    statements: Sequence[Row] = ()
    kills: Sequence[float] = ()
    """When workers were killed, on the journal's clock."""
    errors: Sequence[str] = ()
    """Lines of the workers' log that report an error."""

    @cached_property
    def results(self) -> dict[tuple[str, str], ResultMessage]:
        """The first message of each job's result."""
        first: dict[tuple[str, str], ResultMessage] = {}
        for message in self.messages:
            first.setdefault(message.key, message)
        return first

    @cached_property
    def billable(self) -> dict[str, Entry]:
        """The requests that a customer pays for, by the request id in their response."""
        return {entry.request_id: entry for entry in self.journal if entry.billable}

    @cached_property
    def billed(self) -> list[Row]:
        """The usage records of calls that were answered, even if the answer could not be stored."""
        return [row for row in self.usage if outcome_of(row) != "unanswered"]

    @cached_property
    def answers(self) -> dict[tuple[str, str], list[Answer]]:
        """The answers in each job's result."""
        return {key: list(_answers(message.result, self.blobs)) for key, message in self.results.items()}


def counted_records(rows: Sequence[Row], markers: Sequence[Row]) -> list[Row]:
    """The usage records that count (docs/bill.md): no placeholder of an attempt that has a marker."""
    settled = {(row["PartitionKey"], row["RowKey"][_DAY:]) for row in markers}
    return [
        row
        for row in rows
        if not _PLACEHOLDER.search(row["RowKey"]) or (row["PartitionKey"], row["RowKey"][_DAY:]) not in settled
    ]


def outcome_of(row: Row) -> str:
    """The outcome in a usage record; a record without one is of an answered call."""
    return str(row.get("outcome") or "answered")


def job_key_of(row: Row) -> tuple[str, str]:
    """Customer and job id of a usage record or a job's row."""
    return row["PartitionKey"], row.get("job_id") or row["RowKey"].removeprefix("j_")


def name_of(key: Key) -> str:
    """The key in a sentence."""
    return "/".join(key)


def blobs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every blob that a result names, with its size and hash."""
    images = (result.get("output") or {}).get("images", ())
    blobs = [result.get("output_blob"), *(image.get("blob") for image in images)]
    return [blob for blob in blobs if blob]


def _answers(result: Mapping[str, Any], blobs: Mapping[str, StoredBlob | None]) -> Iterator[Answer]:
    output = result.get("output") or {}
    key = result.get("customer", ""), result["job_id"]
    texts = [answer.get("text") for answer in output.get("answers", ())] or [output.get("text")]
    if not output and (name := (result.get("output_blob") or {}).get("name")):
        texts = [_head(blobs.get(name))]  # the message had no room for the output
    for index, text in enumerate(texts):
        if text and (request_id := _REQUEST_ID.search(text)):
            yield Answer((*key, index), parse_tag(text), request_id[0])
    for index, image in enumerate(output.get("images", ())):
        head = _head(blobs.get(image["blob"]["name"])) if "blob" in image else ""
        if request_id := _REQUEST_ID.search(head):
            yield Answer((*key, index), (*key, index), request_id[0])


def _head(blob: StoredBlob | None) -> str:
    return "" if blob is None else blob.head.decode("latin-1")

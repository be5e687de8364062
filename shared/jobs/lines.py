"""
A job's lines in batches of its provider: what its calls ask for, and what was answered. Pure.

`l_{batch}_{number}` is a line, in the customer's partition. The job's row says which lines are its own, in its column
`lines`: `{batch}:{first}+{count}`, joined by commas.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from shared.billing.usage import Call
from shared.contract.result import ConnectionLabel
from shared.storage.base import Row

MAX_INLINE_BYTES = 60_000
"""Of a body or an answer in its line's row; a larger one is in a blob of the job's own."""
CANCEL_BEFORE_S = 1200.0
"""Before a job's deadline: to cancel a batch takes up to ten minutes, and then its answers are to be read."""
BUY_BEFORE_S = CANCEL_BEFORE_S + 900.0
"""The same for a job whose calls are then bought otherwise."""
TAKEN_OUT = "taken_out"
"""The column of a line whose job was cancelled before its batch was sent; and of the batch, how many there are."""
OK = range(200, 300)
"""The HTTP statuses of answers to what was asked."""
EXPIRED, CANCELLED = "batch_expired", "batch_cancelled"
"""The error codes of lines that the provider had not run when their batch ended."""
MISSING = "missing"
"""The error code of a line that its batch has ended without."""
UNREAD = "unread"
"""That of a line whose batch could not be read before its jobs had to go on. It may be read later."""
NOT_SENT = "not_sent"
"""That of a line whose batch could not be created."""
ABSENT = frozenset({MISSING, UNREAD})
"""The error codes of lines that the provider may have billed, although there is no answer."""
UNDONE = frozenset({EXPIRED, CANCELLED, NOT_SENT})
"""The error codes of lines that the provider has not run, and so has not billed."""
_DIGITS = 5
_METERED = "line-"


@dataclass(frozen=True, slots=True)
class Line:
    """What a call asks for. `key`: the step that makes the call, and its number there."""

    key: str
    operation: str
    body: bytes

    @property
    def digest(self) -> str:
        """Identifies the body."""
        return digest(self.body)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the provider answered. Without an HTTP `status` there is an `error_code`; one beside a refusal says that the
    provider does not bill it.
    """

    status: int = 0
    body: bytes = b""
    request_id: str = ""
    error_code: str = ""
    error: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it is what was asked for, and so is billed."""
        return self.status in OK


@dataclass(frozen=True, slots=True)
class LineRecord:
    """A line on record."""

    batch: str
    number: int
    key: str
    digest: str
    answer: Answer | None
    """None: its batch goes on."""
    label: str = ""
    """The connection that its batch was sent with, as JSON of what usage records say of it; empty: not known."""

    @property
    def metered_as(self) -> str:
        """Identifies its answer, so that it is recorded once (see `billing.usage.Call`)."""
        return metered_as(self.batch, self.number)


def served_by(lines: Collection[LineRecord]) -> Mapping[str, ConnectionLabel]:
    """Return which connection, as it was then, has served lines, by what identifies their answers."""
    labels = {text: msgspec.json.decode(text, type=ConnectionLabel) for text in {line.label for line in lines} if text}
    return {line.metered_as: labels[line.label] for line in lines if line.label}


class LineRange(NamedTuple):
    """Consecutive lines of a batch."""

    batch: str
    first: int
    number: int


def metered_as(batch: str, number: int) -> str:
    """Return what identifies a line's answer (see `billing.usage.Call`)."""
    return f"{_METERED}{batch}-{number}"


def late(own: str) -> str:
    """Return what identifies a line's answer that was read after its job had said that there is none."""
    return f"late-{own}"


def doubles_of(batch: str) -> str:
    """Return how what identifies the answers of batches begins that a provider has beside this one, of its file."""
    return f"double-{batch}-"


def placeholder_ending(own: str) -> str:
    """Return how the key of the placeholder for a line ends whose answer could not be read in time."""
    return f"~{own}"


def is_line(call: Call) -> bool:
    """Return whether a call is a line's answer."""
    return call.metered_as.startswith(_METERED)


def digest(body: bytes) -> str:
    """Return what identifies a body."""
    return hashlib.sha256(body).hexdigest()[:32]


def line_key(batch: str, number: int) -> str:
    """Return the key of a line's row."""
    return f"l_{batch}_{number:0{_DIGITS}}"


def line_number(key: str) -> int:
    """Return the number of the line whose row has this key."""
    return int(key[-_DIGITS:])


def custom_id(number: int) -> str:
    """Return what identifies a line within its batch at the provider."""
    return f"{number:0{_DIGITS}}"


def body_blob(customer: str, job_id: str, body_digest: str) -> str:
    """Return the name of the blob with a body that is too large for its row."""
    return f"{customer}/{job_id}/lines/{body_digest}.json"


def answer_blob(customer: str, job_id: str, batch: str, number: int) -> str:
    """Return the name of the blob with an answer that is too large for its row."""
    return f"{customer}/{job_id}/lines/{batch}-{custom_id(number)}.json"


def line_row(customer: str, job_id: str, batch: str, number: int, line: Line, *, message: bytes = b"") -> Row:
    """Return a line as a row. `message`: what continues the job; in one line of each time that it waits."""
    is_inline = len(line.body) <= MAX_INLINE_BYTES
    values: dict[str, Any] = {"job_id": job_id, "key": line.key, "digest": line.digest, "size": len(line.body)}
    values |= {"body": line.body} if is_inline else {}
    return Row(customer, line_key(batch, number), {**values, **({"message": message} if message else {})})


def answer_values(answer: Answer) -> dict[str, Any]:
    """Return the columns that a line gets with its answer. A large body is not among them."""
    is_inline = len(answer.body) <= MAX_INLINE_BYTES
    values: dict[str, Any] = {"status": answer.status, "in_blob": not is_inline}
    texts = {"request_id": answer.request_id, "error_code": answer.error_code, "error": answer.error}
    values |= {name: text for name, text in texts.items() if text}
    return values | ({"answer": answer.body} if is_inline and answer.body else {})


def read_answer(values: Mapping[str, Any], body: bytes) -> Answer | None:
    """Return the answer in a line's row; `body` is what its blob holds."""
    status = values.get("status")
    if status is None:
        return None
    texts = (values.get(name) or "" for name in ("request_id", "error_code", "error"))
    return Answer(status, body or values.get("answer") or b"", *texts)


def read_ranges(text: str) -> list[LineRange]:
    """Return the lines that a job's row names."""
    ranges = []
    for part in filter(None, text.split(",")):
        batch, _, numbers = part.partition(":")
        first, _, count = numbers.partition("+")
        ranges.append(LineRange(batch, int(first), int(count)))
    return ranges


def with_range(text: str, added: LineRange) -> str:
    """Return the column `lines` with more lines."""
    *others, last = read_ranges(text) or [added]
    if last.batch == added.batch and last.first + last.number == added.first:
        return ranges_text([*others, LineRange(last.batch, last.first, last.number + added.number)])
    return text if last == added and text else ranges_text([*read_ranges(text), added])


def ranges_text(ranges: Iterable[LineRange]) -> str:
    """Return the column `lines` for these lines."""
    return ",".join(f"{each.batch}:{each.first}+{each.number}" for each in ranges)

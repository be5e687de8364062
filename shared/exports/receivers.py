"""What a receiver makes of the events that it is sent: how its response is read. Pure, but for the sending itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Literal, Protocol

import msgspec

from shared.errors import ConnectionInvalid, UpstreamError
from shared.export_settings import Export
from shared.exports.events import Event
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response, UpstreamRequest
from shared.upstream.server_wait import read_retry_after

AT_ONCE = 32
"""Requests to a receiver at the same time."""
TIMEOUT_S = 15.0
"""Of one request."""
MAX_REASON_LENGTH = 200
"""Characters of a reason that are kept."""
DEFAULT_WAIT_S = 60.0
"""After a receiver asked for fewer requests and did not say when."""
MAX_WAIT_S = 3600.0
"""The longest wait that a receiver can ask for: events that it may have come in doubt meanwhile."""
_MAX_READ = 64 * 1024
_MAX_BODY = 1024 * 1024
_THROTTLED = HTTPStatus.TOO_MANY_REQUESTS
_UNCERTAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})
_KEY_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_WRONG_URL = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE})
_MESSAGES = ("message", "detail", "title", "error_description", "error")


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What became of one event.

    `taken`: the receiver has it. `known`: it had it before this request. `refused`: it has not, and does not want it as
    it is. `again`: it has not, and may take it another time. `alone`: as `again`, but the refusal may be about another
    event of the request. `unknown`: it may have it.
    """

    kind: Literal["taken", "known", "refused", "again", "alone", "unknown"]
    reason: str = ""


TAKEN = Verdict("taken")
KNOWN = Verdict("known")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the events of one request, in their order."""

    verdicts: Sequence[Verdict]
    fault: str = ""
    """What is wrong with the export or its receiver, whatever the events are."""
    wait_s: float = 0
    """How long nothing more is to be sent to the receiver."""
    key_refused: bool = False


class Receiver(Protocol):
    """Where an export's events go."""

    @property
    def max_events(self) -> int:
        """Of one request."""

    @property
    def at_once(self) -> int:
        """Requests about one customer at the same time."""

    @property
    def window(self) -> timedelta | None:
        """How long the receiver recognizes an event that it was sent before; None: forever."""

    async def send(self, events: Sequence[Event], key: Secret) -> Answer:
        """Send up to `max_events` events in one request. Raises nothing for what the receiver does."""


@dataclass(frozen=True, slots=True)
class HttpReceiver:
    """What receivers over HTTP have in common."""

    export: Export
    client: UpstreamClient
    max_events: int = 1
    at_once: int = AT_ONCE
    window: timedelta | None = None
    is_api: bool = False
    """Whether no answer of its own is a web page."""

    async def post(self, request: UpstreamRequest, events: Sequence[Event], key: Secret | None) -> Answer:
        """Send one request, and return what became of its events."""
        try:
            response = await self.client.exchange(
                request, key, name=f"(export {self.export.name})", timeout_s=TIMEOUT_S
            )
        except ConnectionInvalid as exc:
            return _all(events, Verdict("again"), fault=str(exc))
        except UpstreamError as exc:
            if exc.facts.status and not exc.facts.unanswered:  # a refusal whose body can't be read
                return judge(events, Response(exc.facts.status, {}, b"", None))
            verdict = Verdict("unknown" if exc.facts.unanswered else "again", str(exc))
            return _all(events, verdict, fault=str(exc))
        if self.is_api and _is_page(response):
            fault = "The receiver answered with a web page: the export's `url` is not that of its API."
            return _all(events, Verdict("again", fault), fault=fault, wait_s=DEFAULT_WAIT_S)
        verdicts = self.read(events, response)
        return judge(events, response) if verdicts is None else Answer(verdicts)

    def read(self, events: Sequence[Event], response: Response) -> Sequence[Verdict] | None:
        """Return what the response says of each event; None if it says no more than its status."""
        del events, response
        return None


@dataclass(frozen=True, slots=True)
class ApiReceiver(HttpReceiver, ABC):
    """A billing system's API, called with the export's key."""

    is_api: bool = True

    async def send(self, events: Sequence[Event], key: Secret) -> Answer:
        """See Receiver."""
        return await self.post(self.request(events), events, key)

    @abstractmethod
    def request(self, events: Sequence[Event]) -> UpstreamRequest:
        """Return the request that sends the events: always the same for the same events."""


def judge(events: Sequence[Event], response: Response) -> Answer:
    """Return what a response's status says of the events."""
    status, sentence = response.status, reason_of(response)
    error = f"The receiver answered {status}{f': {sentence}' if sentence else '.'}"[:MAX_REASON_LENGTH]
    if HTTPStatus(200) <= status < HTTPStatus.MULTIPLE_CHOICES:
        return _all(events, TAKEN)
    if status == _THROTTLED:
        wait_s = min(read_retry_after(response.headers) or DEFAULT_WAIT_S, MAX_WAIT_S)
        return _all(events, Verdict("again", error), fault=error, wait_s=wait_s)
    if status in _KEY_REFUSED:
        fault = f"The receiver refused the key ({status})."
        return _all(events, Verdict("again", fault), fault=fault, wait_s=DEFAULT_WAIT_S, key_refused=True)
    if status in _WRONG_URL or status < HTTPStatus.BAD_REQUEST:
        fault = f"The receiver answered {status}: the export's `url` is not that of its API."
        return _all(events, Verdict("again", fault), fault=fault, wait_s=DEFAULT_WAIT_S)
    if status in _UNCERTAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        wait_s = min(read_retry_after(response.headers) or 0, MAX_WAIT_S)
        return _all(events, Verdict("unknown", error), fault=error, wait_s=wait_s)
    return _all(events, Verdict("refused" if len(events) == 1 else "alone", error))


def reason_of(response: Response) -> str:
    """Return the sentence in a refusal: one line, bounded."""
    try:
        body = msgspec.json.decode(response.body[:_MAX_READ])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return one_line(response.body[:MAX_REASON_LENGTH].decode(errors="replace"))
    return one_line(_message(body))


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters, bounded."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_REASON_LENGTH]


def json_body(response: Response) -> dict[str, Any]:
    """Return the object in a response's body, empty if it has no object, or is larger than any answer has to be."""
    if len(response.body) > _MAX_BODY:
        return {}
    try:
        body = msgspec.json.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _is_page(response: Response) -> bool:
    return response.status < HTTPStatus.MULTIPLE_CHOICES and response.headers.get("content-type", "").startswith(
        "text/html"
    )


def _message(body: Any) -> str:
    for name in _MESSAGES if isinstance(body, dict) else ():
        if isinstance(member := body.get(name), str) and member:
            return member
        if isinstance(member, dict):
            return _message(member)
    return ""


def _all(
    events: Sequence[Event], verdict: Verdict, *, fault: str = "", wait_s: float = 0, key_refused: bool = False
) -> Answer:
    return Answer([verdict] * len(events), fault, wait_s, key_refused)

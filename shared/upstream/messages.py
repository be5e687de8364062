"""
Requests to customers' AI endpoints, their authentication, and responses: the types that the HTTP client shares with
code that never sees HTTP. Data only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from shared.contract.usage import Processing
from shared.errors import UpstreamError
from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the header that carries it: `api-key`, `x-api-key`, or `authorization` (as a bearer token)."""

    header: str
    key: Secret


@dataclass(frozen=True, slots=True)
class EntraAccess:
    """Keyless access: a token for `scope`, from the customer's own tenant if `tenant_id` names it."""

    scope: str
    tenant_id: str | None = None


Access = ApiKey | EntraAccess

LARGE_BYTES = 4 * 1024 * 1024
"""A body from here on is large, whatever it holds."""
_SMALL_BYTES = 128 * 1024
"""A body up to here is not, whatever it holds."""
_LONG_NS = 20_000_000
_QUICK = bytes(range(0x20, 0x7F)).translate(None, b"[{:,\\")
_NS_PER_OTHER = 30
"""Of a character that is not _QUICK, such as a control character, which JSON escapes, or half of broken UTF-8."""
_NS_PER_MARK = {b"[": 450, b"{": 450, b":": 100, b",": 100, b"\\": 200}
_NS_PER_LINE = {b"\n": 300, b"\r": 300, b"\ndata": 6000, b"\rdata": 6000}
"""Of a stream of events."""
_BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"


def is_large(body: bytes) -> bool:
    """
    Return whether a body is to be read in another process (see `side_process`), which takes 0.1 s to start.

    Large ones are, and smaller ones of which reading would take long: 4 MiB of empty lists take 0.6 s.
    """
    if not _SMALL_BYTES < len(body) < LARGE_BYTES:
        return len(body) >= LARGE_BYTES
    others = body.translate(None, _QUICK)
    marks = sum(cost * others.count(mark) for mark, cost in _NS_PER_MARK.items())
    is_json = body[:_SMALL_BYTES].lstrip(_BEFORE_JSON)[:1] in {b"{", b"["}
    lines = 0 if is_json else sum(cost * body.count(mark) for mark, cost in _NS_PER_LINE.items())
    return marks + lines + _NS_PER_OTHER * len(others) > _LONG_NS


class TokenSource(Protocol):
    """Gets Entra tokens."""

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """Return a bearer token for `scope`. Raises ConnectionInvalid, ProviderUnavailable."""


class FilePart(NamedTuple):
    """A file of a form, as httpx takes it."""

    filename: str
    content: bytes
    content_type: str | None = None
    """None: the type follows from the file name."""


class Body(Protocol):
    """A body that is sent in pieces, as often as the request is."""

    @property
    def size(self) -> int:
        """Its bytes."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces. What it raises ends the request."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request to an endpoint, complete except for its authentication. It has `content`, a form or a `body`."""

    method: str
    url: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The values of each field: URL-encoded if there are no `files`, else parts of a multipart form."""
    files: Mapping[str, Sequence[FilePart]] = field(default_factory=dict)
    body: Body | None = None
    """What is too large to be whole in memory."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, read to its end; one to a customer's endpoint is 2xx. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str | None
    memory: object = field(default=None, compare=False, repr=False)
    """Of a large body: counted as taken until the response is gone (see `response_body`)."""
    processing: Processing = "standard"
    """How the provider made it."""
    metered_as: str = ""
    """What its usage is recorded as, once, if it may be read more often (see `billing.usage.Call`)."""
    parts: Sequence[Response] | None = None
    """If it was joined from others, those of them that are on no record yet: each is a call."""

    @property
    def is_large(self) -> bool:
        """Whether its body is (see `is_large`)."""
        return len(self.body) > _SMALL_BYTES and is_large(self.body)

    def __reduce__(self) -> tuple[type[Response], tuple[object, ...]]:
        # In another process it is a copy, which takes nothing of this one's.
        origin = self.processing, self.metered_as, self.parts
        return Response, (self.status, dict(self.headers), self.body, self.request_id, None, *origin)


@dataclass(frozen=True, slots=True)
class DeliveryReceipt:
    """How the receiver of a callback answered. Its body is not read."""

    status: int
    retry_after_s: float | None = None


@dataclass(slots=True)
class Operation:
    """One request to call with retries. A subclass may change the request after a refusal."""

    request: UpstreamRequest

    @property
    def is_billed(self) -> bool:
        """Whether a response costs money. Everything except a POST only reads."""
        return self.request.method == "POST"

    def is_final(self, error: UpstreamError) -> bool:
        """Whether the caller handles `error` itself, so that it is not retried whatever the job's options say."""
        del error
        return False

    def adapt(self, error: UpstreamError) -> bool:
        """Change `request` as the refusal asks; it is then sent at once. Return whether anything was changed."""
        del error
        return False

"""
Requests to customers' AI endpoints, what lets them in, and what comes back: the words that `transport` shares with
those who never see HTTP. Data only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from shared.errors import UpstreamError
from shared.secret import Secret


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the header that carries it: `api-key`, or `authorization` (as a bearer)."""

    header: str
    key: Secret


@dataclass(frozen=True, slots=True)
class EntraAccess:
    """Keyless access: a token for `scope`, from the customer's own tenant where `tenant_id` names it."""

    scope: str
    tenant_id: str | None = None


Access = ApiKey | EntraAccess


Attempt = Callable[[int], AbstractContextManager[None]]
"""What stands around each try of a call; is told how many retries are used up."""


Final = Callable[[UpstreamError], bool]
"""Whether whoever called makes something of an error at once: it is not tried again, whatever the options say."""


def never(_: UpstreamError) -> bool:
    """No error is final."""
    return False


class TokenSource(Protocol):
    """What gives Entra tokens."""

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """A bearer token for `scope`. Raises ConnectionInvalid, ProviderUnavailable."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of a form."""

    filename: str
    content: bytes
    content_type: str | None = None
    """None: what the file's name tells."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One request to an endpoint, whole but for its authentication. The body is `content`, or a form."""

    method: str
    url: str
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    """Fields: URL-encoded where they stand alone, parts of a multipart form where there are `files`."""
    files: Mapping[str, FilePart] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What somebody who was told something has answered. Nobody reads what else they say."""

    status: int
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str | None

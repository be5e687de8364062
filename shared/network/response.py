"""What comes back: a response, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_OK, _REDIRECT = 200, 300


class ExchangeFailed(Exception):
    """No usable response came. The request may have been carried out."""

    @property
    def reason(self) -> str:
        """Why, with nothing of what was sent or received."""
        return str(self)


class NotReached(ExchangeFailed):
    """There is no connection, so that nothing was sent."""


class Malformed(ExchangeFailed):
    """What came is no response."""


@dataclass(slots=True)
class Head:
    """A response without its body: names of headers are lower case, and values of one that occurs twice are joined."""

    status: int
    headers: dict[str, str]

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return _OK <= self.status < _REDIRECT


@dataclass(slots=True)
class Response:
    """A response: names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as a Head has them, from the names and values that came: UTF-8, or else Latin-1."""
    try:
        texts = [(name.decode().lower(), value.decode()) for name, value in pairs]
    except UnicodeDecodeError:
        texts = [(_decode(name).lower(), _decode(value)) for name, value in pairs]
    headers = dict(texts)
    if len(headers) < len(texts):
        headers = {}
        for name, text in texts:
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")

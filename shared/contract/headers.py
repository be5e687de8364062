"""Headers that a caller adds to a request on its connection: none that authenticates, routes or frames it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shared.contract.refusals import printable
from shared.errors import InvalidJob

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # a token of RFC 9110
_TEXT = re.compile(r"[\t\x20-\x7e]*")

_SET_BY_CONNECTION = {
    *("authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "cookie"),
    *("openai-organization", "openai-project"),
}
_SET_BY_CLIENT = {
    *("host", "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "forwarded"),
    *("content-length", "transfer-encoding", "content-encoding", "accept-encoding"),
}
_CLIENT_PREFIXES = ("proxy-", "x-forwarded-")


def caller_headers(members: Mapping[str, str], *, at: str) -> dict[str, str]:
    """
    `members` with names in lower case.

    Raises InvalidJob, which names the header under `at`, for a header that the connection or the HTTP client sets,
    for an invalid name or value, and for a name that occurs twice.
    """
    headers: dict[str, str] = {}
    for member, text in members.items():
        name, here = member.lower(), f"{at}.{printable(member)}"
        if not _NAME.fullmatch(member):
            raise InvalidJob(f"`{here}` is not a valid header name.")
        if name in _SET_BY_CONNECTION:
            raise InvalidJob(f"`{here}` can't be set; the connection sets it.")
        if name in _SET_BY_CLIENT or name.startswith(_CLIENT_PREFIXES):
            raise InvalidJob(f"`{here}` can't be set; the HTTP client sets it.")
        if name in headers:
            raise InvalidJob(f"`{here}` occurs twice: header names are not case-sensitive.")
        if not _TEXT.fullmatch(text) or text != text.strip():
            raise InvalidJob(f"`{here}` must be a string of printable ASCII without spaces around it.")
        headers[name] = text
    return headers

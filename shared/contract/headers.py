"""Headers that a caller adds to a request on its connection: none that says who asks, where, or how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from shared.contract.decoding import shown
from shared.errors import InvalidJob

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # a token of RFC 9110
_TEXT = re.compile(r"[\t\x20-\x7e]*")

_CONNECTIONS = {
    *("authorization", "api-key", "x-api-key", "ocp-apim-subscription-key", "cookie"),
    *("openai-organization", "openai-project"),
}
_OURS = {
    *("host", "connection", "keep-alive", "te", "trailer", "upgrade", "expect", "forwarded"),
    *("content-length", "transfer-encoding", "content-encoding", "accept-encoding"),
}
_OURS_FROM = ("proxy-", "x-forwarded-")


def caller_headers(given: Mapping[str, Any], *, at: str) -> dict[str, str]:
    """
    `given` with names in lower case.

    Raises InvalidJob, naming the header under `at`, for one that the connection or the sending itself
    sets, for what is no header, and for a name that is given twice.
    """
    headers: dict[str, str] = {}
    for written, text in given.items():
        name, here = written.lower(), f"{at}.{shown(written)}"
        if not _NAME.fullmatch(written):
            raise InvalidJob(f"`{here}` is no name of a header.")
        if name in _CONNECTIONS:
            raise InvalidJob(f"`{here}` may not be set: the connection says who asks.")
        if name in _OURS or name.startswith(_OURS_FROM):
            raise InvalidJob(f"`{here}` may not be set: it is the sending's own.")
        if name in headers:
            raise InvalidJob(f"`{here}` is given twice: case makes no difference in a header's name.")
        if not isinstance(text, str) or not _TEXT.fullmatch(text) or text != text.strip():
            raise InvalidJob(f"`{here}` must be a string of printable ASCII, with no space around it.")
        headers[name] = text
    return headers

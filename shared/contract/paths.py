"""A path from a caller that is appended to a connection's endpoint, and can't lead out of it."""

from __future__ import annotations

import re
from urllib.parse import unquote

from shared.errors import InvalidJob

# As narrow as the paths of endpoints (`connections.endpoint_url`), so that no two servers read a path differently.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")
_SMUGGLED = re.compile(r"[\x00-\x1f\x7f/\\%\ufffd]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def relative_path(text: str, *, at: str) -> str:
    """
    `text` without a leading slash: segments that stay below the endpoint.

    Raises InvalidJob, which names the member `at`, for a full URL, a query, and whatever a server, or a gateway in
    front of it, could resolve to another path: empty, `.` and `..` segments, also encoded or before a `;`, and encoded
    slashes, backslashes and percent signs.
    """
    path = text.removeprefix("/")
    if not path:
        raise InvalidJob(f"`{at}` is empty; it must be the path of an operation, such as `responses`.")
    if _SCHEME.match(path) or text.startswith("//"):
        raise InvalidJob(f"`{at}` must be relative to the connection's endpoint, not a full URL.")
    if "?" in path or "#" in path:
        raise InvalidJob(f"`{at}` must not contain `?` or `#`: parameters belong in `query`.")
    for segment in path.split("/"):
        if not segment:
            raise InvalidJob(f"`{at}` must not contain empty segments, nor a slash at the end.")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidJob(f"`{at}` contains a character that has to be percent-encoded.")
        name = unquote(segment)
        if _SMUGGLED.search(name) or name.partition(";")[0] in {".", ".."}:
            raise InvalidJob(
                f"`{at}` must not contain . or .. segments, nor encoded slashes, backslashes, percent signs "
                "or control characters."
            )
    return path

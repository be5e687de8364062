"""A path that a caller names, to be joined to the address of its connection and to lead nowhere else."""

from __future__ import annotations

import re
from urllib.parse import unquote

from shared.errors import InvalidJob

# As narrow as the paths of endpoints are (`addresses`), so that no two servers can read one in two ways.
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")
_SMUGGLED = re.compile(r"[\x00-\x1f\x7f/\\%\ufffd]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def relative_path(text: str, *, at: str) -> str:
    """
    `text` without a leading slash: segments that stay under what they are joined to.

    Raises InvalidJob, naming `at`, for a full URL, a query, and whatever a server, or a gateway before
    it, could read as another place: empty, `.` and `..` segments, also encoded or before a `;`, and
    encoded slashes, backslashes and percent signs.
    """
    path = text.removeprefix("/")
    if not path:
        raise InvalidJob(f"`{at}` is empty; it must be the path of an operation, such as `responses`.")
    if _SCHEME.match(path) or text.startswith("//"):
        raise InvalidJob(f"`{at}` must be relative to the connection's endpoint, not a full URL.")
    if "?" in path or "#" in path:
        raise InvalidJob(f"`{at}` must hold no `?` and no `#`: parameters belong into `query`.")
    for segment in path.split("/"):
        if not segment:
            raise InvalidJob(f"`{at}` must have no empty segment: one slash between two, and none at the end.")
        if not _SEGMENT.fullmatch(segment):
            raise InvalidJob(f"`{at}` holds a character that a path has only percent-encoded.")
        name = unquote(segment)
        if _SMUGGLED.search(name) or name.partition(";")[0] in {".", ".."}:
            raise InvalidJob(
                f"`{at}` must hold no . or .. segments, nor encoded slashes, backslashes, percent signs or "
                "control characters."
            )
    return path

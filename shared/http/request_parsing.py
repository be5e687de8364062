"""What the rooms read of a request besides JSON: its body's size and kind, `Prefer`, numbers of the query."""

from __future__ import annotations

from shared.http.messages import Request
from shared.http.problems import Problem
from shared.jobs.inputs import INPUT_LIMIT

BODY_LIMIT = INPUT_LIMIT + 65_536
"""Bytes of a job over HTTP: the largest input, and the other members."""
LONGEST_WAIT_S = 200.0
"""Of `Prefer: wait`. Azure's front end gives up at 230 s (functions-scale, "Timeout")."""


def check_body(request: Request, *, code: str = "invalid_request") -> None:
    """Raises Problem: 413 for a body that is too large, 415 for what says that it is no JSON, 400 (`code`) for none."""
    if len(request.body) > BODY_LIMIT:
        raise Problem(413, "too_large", f"The body is larger than {BODY_LIMIT} bytes.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "The body must not be compressed.")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "unsupported_media_type", "The body must be application/json.")
    if not request.body:
        # Azure's host reads a body only where its length is told (its GrpcMessageConversionExtensions).
        raise Problem(400, code, "The body is empty: send it with Content-Length, not in chunks.")


def read_wait(request: Request) -> float | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most LONGEST_WAIT_S; None where there is none, or none to be read."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdecimal():
            return min(float(seconds), LONGEST_WAIT_S)
    return None


def read_number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the query, 1 to `most`. Raises Problem 400."""
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:  # noqa: PLR2004
        raise Problem(400, "invalid_request", f"`{name}` must be a whole number from 1 to {most}.")
    return int(text)

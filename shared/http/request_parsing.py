"""What the resources read of a request beside JSON: the customer, size and type of the body, `Prefer`, pages."""

from __future__ import annotations

import re
from collections.abc import Callable

from shared.contract.names import NAME_RULE, is_name
from shared.http.auth import Caller
from shared.http.messages import Request
from shared.http.problems import Problem, invalid_request, not_found
from shared.jobs.inputs import MAX_INPUT_BYTES

MAX_BODY_BYTES = MAX_INPUT_BYTES + 65_536
"""The largest input of a job, and room for its other members."""
MAX_WAIT_S = 200.0
"""The limit of `Prefer: wait`. Azure's front end gives up after 230 s (functions-scale, "Timeout")."""
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100
_MAX_DIGITS = 9
# `application/json`, or a type that ends in `+json`, as CloudEvents has (RFC 6839); no list of types.
_is_json = re.compile(r"(application/|[a-z0-9!#$&^_.-]+/[a-z0-9!#$&^_.+-]+\+)json", re.IGNORECASE).fullmatch


def customer_to_read(request: Request, caller: Caller) -> str:
    """The customer in the path. Raises Problem 404 if nobody has this id, or the caller does not reach it."""
    customer = request.params["customer"]
    caller.check_reads(customer, "customer")
    if not is_name(customer):
        raise not_found("customer")
    return customer


def customer_to_change(request: Request) -> str:
    """The customer in the path of what the operator alone does. Raises Problem 400 if nobody has this id."""
    customer = request.params["customer"]
    if not is_name(customer):
        raise invalid_request(f"The customer's id must be {NAME_RULE}.")
    return customer


def check_body(request: Request, *, code: str = "invalid_request", limit: int = MAX_BODY_BYTES) -> None:
    """Raises Problem: 413 for a body that is too large, 415 for one that is not JSON, 400 with `code` for none."""
    if len(request.body) > limit:
        raise Problem(413, "too_large", f"The body is larger than {limit} bytes.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "The body must not be compressed.")
    check_media_type(request)
    if not request.body:
        # Azure's host reads a body only if the request has its length (its GrpcMessageConversionExtensions).
        raise Problem(400, code, "The body is empty: send it with Content-Length, not in chunks.")


def check_media_type(request: Request) -> None:
    """
    Raises Problem 415 for a body that is not declared as JSON, and for another type without a body.

    A browser asks before it sends another site what is declared as JSON. Anything else, also a body without a type, any
    page can have it send in the name of its reader.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if not _is_json(media_type) and (media_type or request.body):
        message = "The body must be application/json, or of a type that ends in +json: set the header `Content-Type`."
        raise Problem(415, "unsupported_media_type", message)


def read_wait(request: Request) -> float | None:
    """Seconds of `Prefer: wait=N` (RFC 7240), at most MAX_WAIT_S; None if there is no such preference."""
    for preference in request.headers.get("prefer", "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdecimal():
            return min(float(seconds), MAX_WAIT_S)
    return None


def read_page(
    request: Request,
    is_continuation: Callable[[str], object],
    *,
    default: int = DEFAULT_PAGE_SIZE,
    largest: int = MAX_PAGE_SIZE,
) -> tuple[str, int]:
    """The `continuation` of the query, empty for the first page, and its `limit`. Raises Problem 400."""
    text = request.query.get("limit", str(default))
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    if not is_number or not 1 <= int(text) <= largest:
        raise invalid_request(f"`limit` must be a whole number from 1 to {largest}.")
    after = request.query.get("continuation", "")
    if after and not is_continuation(after):
        raise invalid_request("`continuation` must be the `continuation` of the previous page.")
    return after, int(text)

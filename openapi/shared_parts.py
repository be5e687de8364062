"""Parameters, responses and descriptions of errors that more than one operation has."""

from __future__ import annotations

from collections.abc import Mapping

from openapi.operation import Parameter, Response
from shared.http.messages import JSON as JSON  # noqa: PLC0414  # operations take all that they share from here
from shared.http.request_parsing import DEFAULT_PAGE_SIZE, MAX_BODY_BYTES, MAX_PAGE_SIZE

HEADERS: Mapping[str, str] = {
    "Location": "The path of the job's status, or of the connection.",
    "Retry-After": "Seconds to wait before the next request.",
    "ETag": "The version of the response, for `If-None-Match` and `If-Match`.",
    "Preference-Applied": "The `Prefer` that was applied.",
    "Content-Location": "The path of the result.",
    "Vary": "The request headers that the response depends on.",
    "Link": 'The next page, as `rel="next"`.',
}
"""Headers of responses, with their descriptions."""


def paging(default: int, largest: int) -> tuple[Parameter, ...]:
    """Return the parameters of a list that has pages."""
    return (
        Parameter(
            "limit",
            "query",
            f"How many a page has at most. The default is {default}.",
            {"type": "integer", "minimum": 1, "maximum": largest},
        ),
        Parameter("continuation", "query", "The `continuation` of the previous page.", {"type": "string"}),
    )


PAGING = paging(DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
IF_NONE_MATCH = Parameter(
    "If-None-Match",
    "header",
    "The `ETag` of an earlier response: 304 if nothing has changed since.",
    {"type": "string"},
)
IF_MATCH = Parameter(
    "If-Match",
    "header",
    "The `ETag` from GET, or `*`: 412 if the connection has another one, or does not exist.",
    {"type": "string"},
)
IF_MATCH_ANY = Parameter(
    "If-Match",
    "header",
    "The `ETag` from GET: 412 if it has another one by now.",
    {"type": "string"},
)
IF_ABSENT = Parameter(
    "If-None-Match",
    "header",
    "`*`, or an `ETag`: 412 if the connection exists, or has this `ETag`.",
    {"type": "string"},
)
NOT_MODIFIED = Response("Nothing has changed since the response with that `ETag`.", headers=("ETag",))

BAD_QUERY = "`invalid_request`: a query parameter is invalid."
BAD_NAME = "`invalid_request`: a name in the path is invalid."
NO_CUSTOMER = "`not_found`: no customer can have this id, or the token is tied to another customer."
NO_CONNECTION = "`not_found`: the customer has no such connection in Key Vault."
TOO_MANY = "`rate_limited`: the customer has its share of such requests in flight: repeat this one after `Retry-After`."
TOO_MANY_LISTS = "`rate_limited`: enough such requests are in flight: repeat this one after `Retry-After`."
RETRIABLE = frozenset({429, 503})
"""The errors with `Retry-After` of an operation that has TOO_MANY."""
TOO_LARGE = f"`too_large`: the body is larger than {MAX_BODY_BYTES} bytes."
COMPRESSED = "`unsupported_media_type`: the body is compressed, or its `Content-Type` is missing or not JSON."

"""The operations on connections."""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.operation import Operation, Response
from openapi.shared_parts import (
    BAD_NAME,
    COMPRESSED,
    IF_ABSENT,
    IF_MATCH,
    IF_NONE_MATCH,
    JSON,
    NO_CONNECTION,
    NO_CUSTOMER,
    NOT_MODIFIED,
    RETRIABLE,
    TOO_LARGE,
    TOO_MANY,
)
from shared.contract.connection import ConnectionRecord
from shared.contract.documents import ConnectionDocument, ConnectionList, ConnectionTest, ConnectionTestRequest

_LINKS = ("read_connection", "test_connection", "delete_connection")
_CHANGED = "`precondition_failed`: the connection does not meet `If-Match` or `If-None-Match`."

CONNECTION_OPERATIONS: Mapping[str, Operation] = {
    "list_connections": Operation(
        "Returns the names and dates of the customer's connections in Key Vault, sorted by name.",
        {
            200: Response("The connections.", {JSON: ConnectionList}, ("ETag",), example=examples.CONNECTIONS),
            304: NOT_MODIFIED,
        },
        {404: NO_CUSTOMER, 429: TOO_MANY},
        (IF_NONE_MATCH,),
        retriable=RETRIABLE,
    ),
    "put_connection": Operation(
        "Stores a new version of the whole connection, which the next job uses. One with `auth` entra has an `error` "
        "until the operator has allowed its host, scope and tenant. No response ever contains the key.",
        {
            200: Response("The connection is replaced.", {JSON: ConnectionDocument}, links=_LINKS),
            201: Response(
                "The connection is created.",
                {JSON: ConnectionDocument},
                ("Location",),
                example=examples.CONNECTION,
                links=_LINKS,
            ),
        },
        {
            400: "`invalid_request`: the body is not a JSON object, or a name in the path is invalid.",
            412: _CHANGED,
            413: "`too_large`: the body is larger than a secret may be.",
            415: COMPRESSED,
            422: "`connection_invalid`: no job could use the connection; `detail` says why. "
            "`connection_disabled`: the connection is disabled in Key Vault.",
            429: TOO_MANY,
        },
        parameters=(IF_MATCH, IF_ABSENT),
        body=ConnectionRecord,
        body_example=examples.CONNECTION_RECORD,
        retriable=RETRIABLE,
    ),
    "read_connection": Operation(
        "Returns the connection's settings as the app reads them, and in `error` what a job would now end with.",
        {
            200: Response("The connection.", {JSON: ConnectionDocument}, ("ETag",), example=examples.CONNECTION),
            304: NOT_MODIFIED,
        },
        {404: NO_CONNECTION, 429: TOO_MANY},
        (IF_NONE_MATCH,),
        retriable=RETRIABLE,
    ),
    "delete_connection": Operation(
        "Deletes the connection. It can be recovered for as long as the vault's retention of deleted secrets lasts.",
        {204: Response("The connection is deleted.")},
        {400: BAD_NAME, 404: NO_CONNECTION, 412: _CHANGED, 429: TOO_MANY},
        parameters=(IF_MATCH, IF_ABSENT),
        retriable=RETRIABLE,
    ),
    "test_connection": Operation(
        "Makes one cheap call without retries: one token from the model, or the list of models if no model is known.",
        {200: Response("The outcome, good or bad.", {JSON: ConnectionTest}, example=examples.CONNECTION_TEST)},
        {
            400: "`invalid_request`: the body or a name in the path is invalid, or the endpoint does not take the "
            "model.",
            404: NO_CONNECTION,
            413: TOO_LARGE,
            415: COMPRESSED,
            429: TOO_MANY,
        },
        retriable=RETRIABLE,
        body=ConnectionTestRequest,
        body_required=False,
        body_example={"model": "gpt-5.5"},
    ),
}

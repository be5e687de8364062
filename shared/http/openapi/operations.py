"""
What no type tells of the interface: for each route its parameters, body, answers and errors, with examples.

By the names of `shared.http.routes`. Whoever adds a route adds it here; a test holds that, and another runs
requests made from it against the app.
"""

from __future__ import annotations

from collections.abc import Mapping

from shared.billing.statements import CHOICES, USUAL
from shared.contract.connection import ConnectionRecord
from shared.contract.documents import (
    STATES,
    ConnectionDocument,
    ConnectionList,
    JobDocument,
    JobPage,
    Statement,
    TrialDocument,
    TrialRequest,
)
from shared.contract.job import Job
from shared.contract.result import Result
from shared.http.jobs import MOST
from shared.http.messages import JSON
from shared.http.openapi import examples
from shared.http.openapi.operation import Answer, Operation, Parameter
from shared.http.request_parsing import BODY_LIMIT, LONGEST_WAIT_S
from shared.http.usage import CSV

WAIT = Parameter(
    "Prefer",
    "header",
    f"`wait=N` (RFC 7240): waits up to N seconds, {LONGEST_WAIT_S:g} at most, for the result.",
    {"type": "string", "examples": ["wait=30"]},
)
IF_MATCH = Parameter(
    "If-Match", "header", "The `ETag` that GET gave, or `*`: 412 where the connection is another.", {"type": "string"}
)
IF_NOT_THERE = Parameter(
    "If-None-Match", "header", "`*`, or an `ETag`: 412 where there is such a connection.", {"type": "string"}
)
IF_NONE_MATCH = Parameter(
    "If-None-Match", "header", "An `ETag` that is known already: 304 where nothing has changed.", {"type": "string"}
)

HEADERS: Mapping[str, str] = {
    "Location": "Where what was made is: the job's status, or the connection.",
    "Retry-After": "Seconds after which to ask again.",
    "ETag": "For `If-None-Match` and `If-Match`.",
    "Preference-Applied": "The `Prefer` that was heeded.",
    "Content-Location": "Where the result stays.",
    "Vary": "What else of the request the answer depends on.",
}

_ACCEPTED = Answer(
    "The job is accepted, or was before: its status.",
    {JSON: JobDocument},
    headers=("Location", "Retry-After"),
    example=examples.QUEUED,
    links=("read_job", "read_result", "cancel_job", "list_jobs"),
)
_RESULT = Answer(
    "The result, where it was waited for and is there.",
    {JSON: Result},
    headers=("Content-Location", "Preference-Applied"),
    example=examples.RESULT,
)
_NOT_MODIFIED = Answer("Nothing has changed since that `ETag`.", headers=("ETag",))
_REFUSED_JOB = {
    400: "`invalid_job`: the body is no job, or empty, as the host makes one that comes in chunks. The sentence names "
    "the member at fault.",
    409: "`conflict`: the id belongs to a job that asked for something else.",
    413: f"`too_large`: the body is larger than {BODY_LIMIT} bytes.",
    415: "`unsupported_media_type`: the body is compressed, or no JSON by its own word.",
}
_CONNECTIONS = ("read_connection", "test_connection", "delete_connection")
_CHANGED = "`precondition_failed`: the connection is not as `If-Match` or `If-None-Match` wants it."
_NO_CUSTOMER = "`not_found`: there can be no such customer, or the token is tied to another."
_NO_CONNECTION = "`not_found`: the customer has no such connection in Key Vault."
_KEYED_503 = "`unavailable`: Storage or Key Vault gives no answer now."
_SIGNED = (
    Parameter("webhook-id", "header", "The message's id; a job without a `job_id` is named by it.", {"type": "string"}),
    Parameter("webhook-timestamp", "header", "Seconds since 1970, five minutes from now at most.", {"type": "string"}),
    Parameter("webhook-signature", "header", "`v1,` and the signature; several with spaces.", {"type": "string"}),
)
_CHOICES = "|".join(CHOICES)
_NO_JOB = {404: "`not_found`: this customer has no such job."}

OPERATIONS: Mapping[str, Operation] = {
    "submit_job": Operation(
        "Checks the job as the queue would, puts it on record and into the queue. The same id with the same "
        "content again answers with the job that exists, and buys nothing.",
        {202: _ACCEPTED, 200: _RESULT},
        _REFUSED_JOB,
        (WAIT,),
        body=Job,
        body_example=examples.JOB,
        header_example={"Prefer": "wait=30"},
    ),
    "read_job": Operation(
        "The status document. It has `links.result` once there is a result.",
        {
            200: Answer("The status.", {JSON: JobDocument}, ("ETag",), ("Retry-After",), examples.SUCCEEDED),
            304: _NOT_MODIFIED,
        },
        _NO_JOB,
        (IF_NONE_MATCH,),
    ),
    "read_result": Operation(
        "The result as the results queue has it, and whole where a message had no room for its output.",
        {
            200: Answer("The result.", {JSON: Result}, ("ETag", "Content-Location"), example=examples.RESULT),
            304: _NOT_MODIFIED,
        },
        {404: "`not_found`: this customer has no such job, or the job has no result yet."},
        parameters=(IF_NONE_MATCH,),
        waits=frozenset({404, 503}),
    ),
    "cancel_job": Operation(
        "A job that has not started is called off, and ends with the code `cancelled`. Again: the same answer.",
        {200: Answer("The job is cancelled.", {JSON: JobDocument}, example=examples.CANCELLED)},
        {**_NO_JOB, 409: "`conflict`: the job runs already, or is done."},
    ),
    "list_jobs": Operation(
        "Newest first. Pages neither repeat nor leave out a job when others come meanwhile. A page can be "
        "short, or empty, and not be the last: go on while there is a `continuation`.",
        {200: Answer("A page.", {JSON: JobPage}, example=examples.PAGE)},
        {
            400: "`invalid_request`: a parameter can't be read.",
            404: _NO_CUSTOMER,
        },
        (
            Parameter("status", "query", "Only jobs of this status.", {"enum": list(STATES)}),
            Parameter(
                "limit", "query", "Jobs on a page.", {"type": "integer", "minimum": 1, "maximum": MOST, "default": 50}
            ),
            Parameter("continuation", "query", "Where the page before ended, as it said.", {"type": "string"}),
        ),
        query_example="status=failed&limit=20",
    ),
    "receive_webhook": Operation(
        "A job signed after the Standard Webhooks specification with the customer's secret, without `customer`, "
        "or with the one of the path; or a CloudEvent whose `data` is one; or, where the customer has a template, "
        "any event. The same `webhook-id` again answers with the same job.",
        {202: _ACCEPTED, 200: _RESULT},
        {
            **_REFUSED_JOB,
            401: "`unauthorized`: the signature is missing, wrong, or older than five minutes; or there is no secret.",
            503: _KEYED_503,
        },
        (WAIT, *_SIGNED),
        body={},
        body_example=examples.WEBHOOK,
        header_example={
            "webhook-id": "msg_4711",
            "webhook-timestamp": "1795180320",
            "webhook-signature": "v1,SIGNATURE",
        },
    ),
    "read_usage": Operation(
        "What was used, added up from the usage records, as JSON, or as CSV where `Accept` asks for `text/csv`. "
        "Facts only: prices are applied by whoever reads it.",
        {
            200: Answer(
                "The statement. A month without usage has no lines.",
                {JSON: Statement, CSV: {"type": "string"}},
                ("ETag", "Vary"),
                example=examples.STATEMENT,
            ),
            304: _NOT_MODIFIED,
        },
        {
            400: "`invalid_request`: a parameter can't be read.",
            404: _NO_CUSTOMER,
            406: "`not_acceptable`: `Accept` allows neither JSON nor CSV.",
        },
        (
            Parameter(
                "month",
                "query",
                "The month, of UTC; left out: the one that is running.",
                {"type": "string", "pattern": "^([0-9]{4}-(0[1-9]|1[0-2]))?$"},
            ),
            Parameter(
                "by",
                "query",
                f"What lines are told apart by, with commas between: some of {', '.join(CHOICES)}. "
                f"Left out: {','.join(USUAL)}.",
                {"type": "string", "pattern": f"^(({_CHOICES})(,({_CHOICES}))*)?$"},
            ),
            IF_NONE_MATCH,
        ),
        query_example="month=2026-11&by=model",
    ),
    "list_connections": Operation(
        "Names and dates of all connections that the customer has in Key Vault, by name.",
        {
            200: Answer("The connections.", {JSON: ConnectionList}, ("ETag",), example=examples.CONNECTIONS),
            304: _NOT_MODIFIED,
        },
        {404: _NO_CUSTOMER},
        (IF_NONE_MATCH,),
    ),
    "put_connection": Operation(
        "Keeps a new version of the whole connection, which serves the next job. The key never comes out again.",
        {
            200: Answer("It is kept in place of the one before.", {JSON: ConnectionDocument}, links=_CONNECTIONS),
            201: Answer(
                "It is kept.",
                {JSON: ConnectionDocument},
                ("Location",),
                example=examples.CONNECTION,
                links=_CONNECTIONS,
            ),
        },
        {
            400: "`invalid_request`: the body is no JSON object, or a name in the path is none.",
            412: _CHANGED,
            413: "`too_large`: the body is larger than a secret may be.",
            415: "`unsupported_media_type`: the body is compressed, or no JSON by its own word.",
            422: "`connection_invalid`: a job could not use it; the sentence says why. "
            "`connection_disabled`: it is switched off in Key Vault.",
        },
        parameters=(IF_MATCH, IF_NOT_THERE),
        body=ConnectionRecord,
        body_example=examples.CONNECTION_GIVEN,
    ),
    "read_connection": Operation(
        "Its settings as they are understood, and in `error` what a job would end with now.",
        {
            200: Answer("The connection.", {JSON: ConnectionDocument}, ("ETag",), example=examples.CONNECTION),
            304: _NOT_MODIFIED,
        },
        {404: _NO_CONNECTION},
        (IF_NONE_MATCH,),
    ),
    "delete_connection": Operation(
        "Removes it. The vault keeps it recoverable for as long as it is set to.",
        {204: Answer("It is removed.")},
        {400: "`invalid_request`: a name in the path is none.", 404: _NO_CONNECTION, 412: _CHANGED},
        parameters=(IF_MATCH, IF_NOT_THERE),
    ),
    "test_connection": Operation(
        "One cheap call, not tried again: one token of the model, or the list of models where none is known.",
        {200: Answer("The verdict, whatever it is.", {JSON: TrialDocument}, example=examples.TRIAL)},
        {
            400: "`invalid_request`: the body, a name in the path, or the model for this endpoint, is none.",
            404: _NO_CONNECTION,
            413: _REFUSED_JOB[413],
            415: _REFUSED_JOB[415],
        },
        body=TrialRequest,
        body_required=False,
        body_example={"model": "gpt-4o"},
    ),
    "openapi": Operation(
        "This document.",
        {
            200: Answer("The document.", {JSON: {"type": "object", "required": ["openapi", "paths"]}}, ("ETag",)),
            304: _NOT_MODIFIED,
        },
        parameters=(IF_NONE_MATCH,),
    ),
    "docs": Operation(
        "This document for people. It loads nothing from elsewhere.",
        {200: Answer("The page.", {"text/html": {"type": "string"}}, ("ETag",)), 304: _NOT_MODIFIED},
        parameters=(IF_NONE_MATCH,),
    ),
    "health": Operation(
        "Says that the app is loaded. Tells nothing else.",
        {
            200: Answer(
                "It answers.",
                {JSON: {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}},
                example={"status": "ok"},
            )
        },
    ),
}

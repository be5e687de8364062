"""The operations on jobs, and the webhook that submits one."""

from __future__ import annotations

from collections.abc import Mapping

from openapi import examples
from openapi.operation import Operation, Parameter, Response
from openapi.shared_parts import (
    BAD_QUERY,
    COMPRESSED,
    IF_NONE_MATCH,
    JSON,
    NO_CUSTOMER,
    NOT_MODIFIED,
    PAGING,
    TOO_LARGE,
)
from shared.contract.documents import STATES, JobDocument, JobPage
from shared.contract.job import Job
from shared.contract.result import Result
from shared.http.request_parsing import MAX_WAIT_S

_WAIT = Parameter(
    "Prefer",
    "header",
    f"`wait=N` (RFC 7240): wait up to N seconds for the result, {MAX_WAIT_S:g} at most. Ignored for a caller that "
    "lacks the role Jobs.Read, and on webhooks if callers have tokens.",
    {"type": "string", "examples": ["wait=30"]},
)
_SIGNATURE = (
    Parameter("webhook-id", "header", "The message's id. It is the id of a job that has none.", {"type": "string"}),
    Parameter("webhook-timestamp", "header", "Seconds since 1970, at most five minutes from now.", {"type": "string"}),
    Parameter(
        "webhook-signature", "header", "`v1,` and the signature; several are separated by spaces.", {"type": "string"}
    ),
)
_ACCEPTED = Response(
    "The job is accepted, or was accepted before: its status.",
    {JSON: JobDocument},
    headers=("Location", "Retry-After"),
    example=examples.QUEUED,
    links=("read_job", "read_result", "cancel_job", "list_jobs"),
)
_RESULT = Response(
    "The result, if `Prefer` asks to wait for it and it is ready in time.",
    {JSON: Result},
    headers=("Content-Location", "Preference-Applied"),
    example=examples.RESULT,
)
_REJECTED = {
    400: "`invalid_job`: the body is not a valid job; `detail` names the member at fault. Azure's host also delivers "
    "a body that was sent in chunks as an empty one.",
    409: "`conflict`: a job with this id and other content exists.",
    413: TOO_LARGE,
    415: COMPRESSED,
}
_NO_JOB = "`not_found`: this customer has no such job."

JOB_OPERATIONS: Mapping[str, Operation] = {
    "submit_job": Operation(
        "Checks the job as the queue does, records it and queues it. Submitting the same id with the same content "
        "again returns the existing job; no model is called a second time.",
        {202: _ACCEPTED, 200: _RESULT},
        _REJECTED,
        (_WAIT,),
        body=Job,
        body_example=examples.JOB,
        header_example={"Prefer": "wait=30"},
    ),
    "read_job": Operation(
        "Returns the status document. It has `links.result` once there is a result.",
        {
            200: Response("The status.", {JSON: JobDocument}, ("ETag",), ("Retry-After",), examples.SUCCEEDED),
            304: NOT_MODIFIED,
        },
        {404: _NO_JOB},
        (IF_NONE_MATCH,),
    ),
    "read_result": Operation(
        "Returns the result as in the results queue, and complete even if a queue message had no room for its output.",
        {
            200: Response("The result.", {JSON: Result}, ("ETag", "Content-Location"), example=examples.RESULT),
            304: NOT_MODIFIED,
        },
        {404: "`not_found`: this customer has no such job, or the job has no result yet."},
        parameters=(IF_NONE_MATCH,),
        retriable=frozenset({404, 503}),
    ),
    "cancel_job": Operation(
        "Cancels a job that has not started; it ends with the code `cancelled`. Cancelling it again returns the same.",
        {200: Response("The job is cancelled.", {JSON: JobDocument}, example=examples.CANCELLED)},
        {404: _NO_JOB, 409: "`conflict`: the job is running or has ended."},
    ),
    "list_jobs": Operation(
        "Returns the customer's jobs, newest first. Pages neither repeat nor omit a job if other jobs are submitted "
        "in the meantime. A page can be short or empty without being the last: continue while there is a "
        "`continuation`.",
        {200: Response("A page.", {JSON: JobPage}, example=examples.PAGE)},
        {400: BAD_QUERY, 404: NO_CUSTOMER},
        (
            Parameter("status", "query", "Only jobs with this status.", {"enum": list(STATES)}),
            *PAGING,
        ),
        query_example="status=failed&limit=20",
    ),
    "receive_webhook": Operation(
        "Submits a job that is signed with the customer's secret as the Standard Webhooks specification says. The body "
        "is a job without `customer`, or with the customer of the path; or a CloudEvent whose `data` is a job; or any "
        "event, if the customer has a template. The same `webhook-id` again returns the same job. An id that begins "
        "with `callback_`, as those of the app's own messages do, is refused like a wrong signature. Svix's `svix-id`, "
        "`svix-timestamp` and `svix-signature` are taken if the request has none of the `webhook-` headers.",
        {202: _ACCEPTED, 200: _RESULT},
        {
            **_REJECTED,
            401: "`unauthorized`: the signature is missing, invalid or more than five minutes off, or the customer has "
            "no signing secret.",
            503: "`unavailable`: Storage or Key Vault does not respond.",
        },
        (_WAIT, *_SIGNATURE),
        body={},
        body_example=examples.WEBHOOK,
        header_example={
            "webhook-id": "msg_4711",
            "webhook-timestamp": "1795180320",
            "webhook-signature": "v1,SIGNATURE",
        },
    ),
    "receive_provider_event": Operation(
        "Takes an event that a provider sends by its own webhooks, signed as the Standard Webhooks specification says "
        "with the secret that it made for them. If a batch of the connection's jobs has ended, it is looked at within "
        "seconds instead of a minute. The response is the same whatever the event says, and nothing but the time of "
        "the next look depends on it.",
        {204: Response("The event was taken.")},
        {
            400: "`invalid_request`: the body is empty. Azure's host also delivers a body that was sent in chunks as "
            "an empty one.",
            401: "`unauthorized`: the signature is missing, invalid or more than five minutes off, or the connection "
            "has no secret for events.",
            413: "`too_large`: the body is larger than 65,536 bytes.",
            415: COMPRESSED,
            503: "`unavailable`: Storage or Key Vault does not respond.",
        },
        _SIGNATURE,
        body={},
        body_example=examples.PROVIDER_EVENT,
        header_example={
            "webhook-id": "evt_4711",
            "webhook-timestamp": "1795180320",
            "webhook-signature": "v1,SIGNATURE",
        },
    ),
}

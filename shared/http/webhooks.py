"""
Webhooks: jobs, and events that become jobs, from senders that have the customer's signing secret.

What the signature does not cover gets the same response for every customer, whether the customer exists or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from shared.contract.decoding import decode
from shared.contract.event import CloudEvent
from shared.contract.job import Job, decode_job
from shared.contract.names import is_job_id, is_reserved_id
from shared.errors import InvalidJob
from shared.http.auth import Caller
from shared.http.jobs import JobsResource
from shared.http.messages import Request, Response
from shared.http.problems import Problem
from shared.http.request_parsing import MAX_BODY_BYTES, check_body
from shared.settings import Settings
from shared.webhooks.signing import Signing
from shared.webhooks.template_store import TemplateStore
from shared.webhooks.templates import fill

_SPECVERSION = "1.0"
_TWINS = {f"svix-{part}": f"webhook-{part}" for part in ("id", "timestamp", "signature")}
"""Svix's names of the headers, which came before the specification's (docs.svix.com, "Verifying webhooks manually")."""


@dataclass(frozen=True, slots=True)
class WebhooksResource:
    """The route of webhooks."""

    settings: Settings
    signing: Signing
    templates: TemplateStore
    jobs: JobsResource

    async def receive(self, request: Request, _: Caller) -> Response:
        """`POST /webhooks/{customer}`: as `POST /jobs` after the signature is verified, else 401."""
        check_body(request, code="invalid_job")
        customer, headers = request.params["customer"], standard_headers(request.headers)
        if not await self.signing.verify(customer, request.body, headers):
            message = "The webhook's signature is missing, invalid or more than five minutes off."
            raise Problem(401, "unauthorized", message)
        template, body = await self.templates.read(customer), request.body
        if template is not None:
            body = fill(template, body, headers, limit=MAX_BODY_BYTES)
            if len(body) > MAX_BODY_BYTES:
                message = f"The job that the template makes of the event is larger than {MAX_BODY_BYTES} bytes."
                raise Problem(413, "too_large", message)
        job = read_job(body, customer, default_job_id(headers))
        # A signature is no role: where results need one, the sender of webhooks does not read them.
        return await self.jobs.accept(request, job, reads_results=self.settings.http_auth == "key")


def standard_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """
    The headers, with Svix's under their Standard Webhooks names unless the request has one of these.

    The two sets are never mixed, so the id that is signed is also the one that the job gets.
    """
    others = {name: text for name, text in headers.items() if name not in _TWINS}
    if not others.keys().isdisjoint(_TWINS.values()):
        return others
    return others | {twin: headers[name] for name, twin in _TWINS.items() if name in headers}


def read_job(body: bytes, customer: str, default_id: str) -> Job:
    """A body that is a job of this customer, or a CloudEvent (structured JSON) that holds one. Raises InvalidJob."""
    members = decode(body, dict[str, msgspec.Raw])
    if "specversion" in members:
        members = _event_data(body)
    if "customer" in members and decode(members["customer"], object, at="customer") != customer:
        raise InvalidJob("`customer` must be the customer in the path, or be left out.")
    job = {**members, "customer": msgspec.Raw(msgspec.json.encode(customer))}
    return decode_job(msgspec.json.encode(job), default_id=default_id)


def default_job_id(headers: Mapping[str, str]) -> str:
    """The `webhook-id`, or `webhook-` and the beginning of its SHA-256 if it can't be the id of a job."""
    webhook_id = headers.get("webhook-id", "")
    is_usable = is_job_id(webhook_id) and not is_reserved_id(webhook_id)
    return webhook_id if is_usable else f"webhook-{hashlib.sha256(webhook_id.encode()).hexdigest()[:32]}"


def _event_data(body: bytes) -> dict[str, msgspec.Raw]:
    event = decode(body, CloudEvent)
    if event.specversion != _SPECVERSION:
        raise InvalidJob(f"`specversion` must be {_SPECVERSION}: other versions of CloudEvents are not supported.")
    if isinstance(event.data, msgspec.UnsetType):
        raise InvalidJob("`data` is missing: it must be a job, because the customer has no template.")
    return decode(event.data, dict[str, msgspec.Raw], at="data")

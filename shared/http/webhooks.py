"""
Webhooks: jobs, and events that make one, from whoever holds the customer's signing secret.

What the signature does not cover is answered alike for every customer, whether there is one or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from shared.contract.decoding import decode
from shared.contract.event import CloudEvent
from shared.contract.job import Job, decode_job
from shared.contract.names import is_job_id
from shared.errors import InvalidJob
from shared.http.auth import Caller
from shared.http.jobs import JobsDoor
from shared.http.messages import Request, Response
from shared.http.problems import Problem
from shared.http.request_parsing import BODY_LIMIT, check_body
from shared.settings import Settings
from shared.storage.base import Blobs, BlobTooLarge
from shared.webhooks.signing import Signing
from shared.webhooks.templates import fill

TEMPLATE = "webhook.json"
"""A customer's template: `{customer}/webhook.json` in TEMPLATES_CONTAINER."""
TEMPLATE_LIMIT = 1024 * 1024
"""Bytes of a template."""
_SPECVERSION = "1.0"


@dataclass(frozen=True, slots=True)
class WebhooksDoor:
    """The route of webhooks."""

    settings: Settings
    signing: Signing
    blobs: Blobs
    jobs: JobsDoor

    async def receive(self, request: Request, _: Caller) -> Response:
        """`POST /webhooks/{customer}`: as `POST /jobs`, once the signature is verified; 401 where it is not."""
        check_body(request, code="invalid_job")
        customer = request.params["customer"]
        if not await self.signing.verify(customer, request.body, request.headers):
            raise Problem(401, "unauthorized", "The webhook's signature is missing, wrong, or not of these minutes.")
        container, name = self.settings.templates_container, f"{customer}/{TEMPLATE}"
        try:
            template = await self.blobs.read(container, name, TEMPLATE_LIMIT)
        except BlobTooLarge as exc:
            raise InvalidJob(str(exc)) from None
        body = request.body
        if template is not None:
            body = fill(template, body, request.headers, limit=BODY_LIMIT)
            if len(body) > BODY_LIMIT:
                raise Problem(413, "too_large", f"The event makes a job that is larger than {BODY_LIMIT} bytes.")
        return await self.jobs.accept(request, read_job(body, customer, default_job_id(request.headers)))


def read_job(body: bytes, customer: str, default_id: str) -> Job:
    """A body that is a job of this customer, or a CloudEvent (structured JSON) that holds one. Raises InvalidJob."""
    members = decode(body, dict[str, msgspec.Raw])
    if "specversion" in members:
        members = _data_of(body)
    if "customer" in members and decode(members["customer"], object, at="customer") != customer:
        raise InvalidJob("`customer` must be the one in the path, or be left out.")
    named = {**members, "customer": msgspec.Raw(msgspec.json.encode(customer))}
    return decode_job(msgspec.json.encode(named), default_id=default_id)


def default_job_id(headers: Mapping[str, str]) -> str:
    """The `webhook-id`, or, where that can't be a job's id, `webhook-` and the beginning of its SHA-256."""
    told = headers.get("webhook-id", "")
    return told if is_job_id(told) else f"webhook-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def _data_of(body: bytes) -> dict[str, msgspec.Raw]:
    event = decode(body, CloudEvent)
    if event.specversion != _SPECVERSION:
        raise InvalidJob(f"`specversion` must be {_SPECVERSION}: other CloudEvents are not understood.")
    if isinstance(event.data, msgspec.UnsetType):
        raise InvalidJob("`data` is missing: without a template of the customer's, it must be a job.")
    return decode(event.data, dict[str, msgspec.Raw], at="data")

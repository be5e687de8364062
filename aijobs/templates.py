"""`templates` shows and changes what makes jobs of customers' webhooks."""

from __future__ import annotations

import argparse
from codecs import BOM_UTF8
from pathlib import Path

import msgspec

from aijobs.confirmation import is_confirmed
from aijobs.console import verbatim
from aijobs.diagnostics import CommandError, Exists, NotFound
from aijobs.report import Report, Verbatim
from aijobs.scope import check_customer
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.actions.base import action_named
from shared.clock import rfc3339
from shared.contract.job import Job, explicit_members, named_blob
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.http.webhooks import default_job_id, read_job
from shared.services import Services
from shared.webhooks.template_store import MAX_TEMPLATE_BYTES, TemplateStore
from shared.webhooks.templates import check, fill

_HEADERS = {"webhook-id": "msg_example", "webhook-timestamp": "1764428807", "webhook-signature": "v1,example"}
"""Headers of a webhook, for an event that comes from a file."""


async def list_all(args: argparse.Namespace) -> Report:
    """Run `templates list`."""
    async with open_services(args.settings) as services:
        blobs = [item async for item in _store(services).list()]
    document = {
        "templates": [
            {"customer": customer, "size": blob.size, "updated_at": rfc3339(blob.modified)} for customer, blob in blobs
        ]
    }
    if not blobs:
        return Report(document, ["No customer has a template."])
    rows = [(customer, blob.size, f"{blob.modified:%Y-%m-%dT%H:%M:%SZ}") for customer, blob in blobs]
    return Report(document, [make_table(("customer", "bytes", "updated"), rows, numeric=frozenset({"bytes"}))])


async def show(args: argparse.Namespace) -> Report:
    """Run `templates show CUSTOMER`: the template as it is stored."""
    customer = check_customer(args.customer)
    async with open_services(args.settings) as services:
        template = await _read(_store(services), customer)
    text = template.decode(errors="replace")
    end = "" if text.endswith("\n") else "\n"
    return Report({"customer": customer, "template": text}, [Verbatim(f"{text}{end}")])


async def store(args: argparse.Namespace) -> Report:
    """Run `templates set CUSTOMER FILE`. The template, and the job that `--event` becomes, are checked first."""
    customer = check_customer(args.customer)
    template = _read_file(args.file, MAX_TEMPLATE_BYTES)
    check(template)
    text: list[str | Verbatim] = []
    document: dict[str, object] = {"customer": customer, "stored": False}
    async with open_services(args.settings) as services:
        if args.event is not None:
            job = _try(services, template, _read_file(args.event, MAX_BODY_BYTES), customer)
            members = msgspec.json.encode(explicit_members(job))
            text += ["The event becomes this job:", verbatim(msgspec.json.format(members, indent=2).decode())]
            document["job"] = msgspec.json.decode(members)
        if args.check:
            return Report(document, [*text, "The template is valid. Nothing was stored."])
        templates = _store(services)
        if not args.replace and await templates.read(customer) is not None:
            raise Exists(f"Customer {customer} already has a template. Use --replace to replace it.")
        await templates.write(customer, template)
    return Report(
        {**document, "stored": True}, [*text, f"Stored the template of {customer}. The next webhook uses it."]
    )


async def remove(args: argparse.Namespace) -> Report:
    """Run `templates remove CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer = check_customer(args.customer)
    async with open_services(args.settings) as services:
        templates = _store(services)
        await _read(templates, customer)
        consequence = f"This removes {customer}'s template. The body of a webhook has to be a job then."
        if not is_confirmed(args, services.settings, consequence, customer):
            return Report({"customer": customer, "removed": False}, ["Nothing was removed."], 1)
        await templates.delete(customer)
    return Report({"customer": customer, "removed": True}, [f"Removed the template of {customer}."])


def _try(services: Services, template: bytes, event: bytes, customer: str) -> Job:
    """Return the job that the template makes of an event. Raises InvalidJob as the app would."""
    body = fill(template, event, _HEADERS, limit=MAX_BODY_BYTES)
    job = read_job(body, customer, default_job_id(_HEADERS))
    services.outputs.check(job)
    if named_blob(job) is None and isinstance(job.input, msgspec.Raw):
        action_named(job.action).decode(job.input)
    return job


def _store(services: Services) -> TemplateStore:
    return TemplateStore(services.blobs, services.settings.templates_container)


async def _read(templates: TemplateStore, customer: str) -> bytes:
    template = await templates.read(customer)
    if template is None:
        raise NotFound(f"Customer {customer} has no template.")
    return template


def _read_file(file: Path, limit: int) -> bytes:
    data = file.read_bytes()
    if len(data) > limit:
        raise CommandError(f"{file} is larger than {limit} bytes.")
    return data.removeprefix(BOM_UTF8)  # which editors write, and JSON does not have

"""
`verify` proves after a deploy that the app does its work: a tiny job through the queue, over HTTP and by a webhook.

Each part is reported with yes, or with why not. A part that could not be tried is no success either.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Literal

import httpx

from aijobs.app_client import AppClient, is_local, open_http, read_url
from aijobs.console import plural
from aijobs.diagnostics import CommandError, InvalidArguments
from aijobs.finding import error_text
from aijobs.key_input import read_key
from aijobs.program import command
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services, read_values
from aijobs.table import make_table
from aijobs.verify_parts import NotTried, Verification
from shared.contract.names import NAME_RULE, is_name
from shared.contract.result import Result
from shared.contract.usage import NO_USAGE, Usage
from shared.secret import Secret, redact
from shared.settings import read_settings

APP_URL = "SERVICE_APP_URI"
"""An output of the template, among the settings that azd writes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a part."""

    part: str
    outcome: Literal["yes", "no", "not_tried"]
    message: str
    job_id: str
    usage: Usage = NO_USAGE


async def verify(args: argparse.Namespace) -> Report:
    """Run `verify`. The exit code is 0 only if every part that was asked for was tried and succeeded."""
    customer, names = check_customer(args.customer), tuple(dict.fromkeys(args.parts)) or PARTS
    if not is_name(args.connection):
        raise InvalidArguments(f"The connection's name must be {NAME_RULE}.")
    values = read_values(args.settings)
    address = args.url or values.get(APP_URL, "")
    url = read_url(address) if address else None
    key = _read_key(args, url) if "http" in names else None
    vault = bool(read_settings(values).key_vault_url)
    async with open_services(args.settings, vault=vault) as services, open_http() as http:
        app = None if url is None else AppClient(url, http)
        verification = Verification(services, app, key, customer, args.connection, args.model, args.timeout)
        outcomes = await asyncio.gather(*(_try(verification, name) for name in names))
    return _report(customer, outcomes)


async def _try(verification: Verification, part: str) -> Outcome:
    job_id, began = f"verify-{part}-{uuid.uuid4().hex[:16]}", time.monotonic()
    try:
        result = await _PARTS[part](verification, job_id)
    except NotTried as exc:
        return Outcome(part, "not_tried", str(exc), job_id)
    except Exception as exc:  # noqa: BLE001  # an SDK raises anything if the answer is not its service's
        message, key = error_text(exc), verification.key
        # Whatever answers in the app's place may repeat what it was sent.
        return Outcome(part, "no", redact(message, key) if isinstance(key, Secret) else message, job_id)
    if result.error is None:
        message = f"Its job succeeded after {time.monotonic() - began:.1f} s."
        return Outcome(part, "yes", message, job_id, result.usage)
    return Outcome(part, "no", _failure(verification.customer, result), job_id, result.usage)


def _failure(customer: str, result: Result) -> str:
    """Return why a job failed, and what to do."""
    assert result.error is not None  # noqa: S101  # the caller has looked
    error = f"Job {result.job_id} failed with {result.error.code}: {result.error.message}"
    if result.error.code == "connection_not_found":
        return f"{error} {command(f'customers add {customer}')} stores the test connection."
    return f"{error} The table of error codes in docs/operate.md says who can fix it."


def _read_key(args: argparse.Namespace, url: httpx.URL | None) -> Secret | NotTried | None:
    if url is None or (is_local(url) and args.key_file is None):
        return None
    try:
        return read_key(args.key_file, f"{url.host}, a function key or an Entra token")
    except CommandError as exc:
        return NotTried(f"{exc} Pass a function key, or an Entra token, on stdin or with --key-file.")


def _report(customer: str, outcomes: Sequence[Outcome]) -> Report:
    usage = reduce(add, (each.usage for each in outcomes), NO_USAGE)
    failed = sum(each.outcome != "yes" for each in outcomes)
    words = {"yes": "yes", "no": "no", "not_tried": "not tried"}
    rows = [(each.part, words[each.outcome], each.message) for each in outcomes]
    counts = f"{usage.input_tokens or 0} input and {usage.output_tokens or 0} output tokens"
    price = f", {usage.cost.amount} {usage.cost.currency}" if usage.cost is not None else ""
    cost = f"{plural(usage.calls, 'call')} with {counts}{price}, in the usage of customer {customer}."
    verdict = f"{plural(failed, 'part')} of {len(outcomes)} did not succeed." if failed else "Everything works."
    parts = [
        {"part": each.part, "outcome": each.outcome, "message": each.message, "job_id": each.job_id}
        for each in outcomes
    ]
    document = {"customer": customer, "ok": not failed, "parts": parts, "usage": usage}
    return Report(document, [make_table(("part", "", "outcome"), rows, prose="outcome"), cost, verdict], bool(failed))


_PARTS: Mapping[str, Callable[[Verification, str], Awaitable[Result]]] = {
    "queue": Verification.queue,
    "http": Verification.http,
    "webhook": Verification.webhook,
}
PARTS = tuple(_PARTS)

"""`customers test` tests connections in Key Vault, each with a small call on the customer's account."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

from aijobs.console import plural, progress_bar
from aijobs.diagnostics import InvalidArguments, NotFound
from aijobs.report import Report
from aijobs.scope import check_optional_customer
from aijobs.settings import require_vault
from aijobs.table import make_table
from aijobs.vault_listing import open_vault
from shared.clock import now
from shared.connections.probe import ConnectionProbe, result_for_error
from shared.connections.resolver import check_dates
from shared.contract.documents import ConnectionTest
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionFault, InvalidJob
from shared.services import Services
from shared.upstream.messages import EntraAccess

_AT_ONCE = 8
_YOUR_LOGIN = "Without a key, your login was used. The app's identity needs its own role."


class _Missing(NotFound):
    """The customer has no such connection."""


@dataclass(frozen=True, slots=True)
class _Tested:
    customer: str
    connection: str
    test: ConnectionTest
    with_login: bool = False
    """Whether your login was used instead of the app's identity."""


async def test(args: argparse.Namespace) -> Report:
    """Run `customers test`. The exit code is 1 if a test failed."""
    if (args.customer is None) and not args.all:
        raise InvalidArguments("Name a customer, or use --all to test every connection.")
    customer = check_optional_customer(args.customer)
    if not is_name(args.connection or "default"):
        raise InvalidArguments(f"The connection's name must be {NAME_RULE}.")
    async with open_vault(args) as services:
        if args.all:
            return _report_all(await _test_all(services, customer, args))
        tested = await _test(services, args.customer, args.connection or "default", args.model)
    text = [_YOUR_LOGIN] if tested.with_login else []
    return Report({"tests": [_document(tested)]}, [*text, sentence_of(tested.test)], 0 if tested.test.ok else 1)


def probe(services: Services) -> ConnectionProbe:
    """Return what tests connections."""
    return ConnectionProbe(services.client, services.capabilities, services.outbox)


def sentence_of(test: ConnectionTest) -> str:
    """Return the outcome of a test as a sentence."""
    latency = "" if test.latency_ms is None else f" ({test.latency_ms} ms)"
    return f"{test.code or 'ok'}{latency}: {test.message}"


async def _test_all(services: Services, customer: str | None, args: argparse.Namespace) -> list[_Tested]:
    """Test all connections, or those of a customer, some at once."""
    names = sorted(
        [
            (owner, facts.connection)
            async for owner, facts in require_vault(services).list_all()
            if customer in {None, owner} and args.connection in {None, facts.connection}
            if is_name(owner) and is_name(facts.connection)
        ]
    )
    if not names:
        raise NotFound("The vault has no such connection.")
    room = asyncio.Semaphore(_AT_ONCE)
    with progress_bar() as bar:
        task = bar.add_task("testing", total=len(names))

        async def run(owner: str, name: str) -> _Tested | None:
            async with room:
                try:
                    return await _test(services, owner, name, args.model)
                except _Missing:  # removed since the vault was listed
                    return None
                finally:
                    bar.advance(task)

        tested = await asyncio.gather(*(run(owner, name) for owner, name in names))
    return [each for each in tested if each is not None]


async def _test(services: Services, customer: str, name: str, model: str | None) -> _Tested:
    """Test one connection. Raises _Missing if there is none."""
    try:
        stored = await require_vault(services).get(customer, name)
        if stored is None:
            raise _Missing(f"Customer {customer} has no connection named {name}.")
        connection = services.connections.open(stored, customer, name)
        check_dates(stored, customer, name, now())
        result = await probe(services).run(connection, model)
    except (ConnectionFault, InvalidJob) as exc:  # InvalidJob: the endpoint takes another model, or needs one
        return _Tested(customer, name, result_for_error(exc))
    return _Tested(customer, name, result, isinstance(connection.access, EntraAccess))


def _report_all(tested: list[_Tested]) -> Report:
    failed = sum(not each.test.ok for each in tested)
    rows = [
        (each.customer, each.connection, each.test.code or "ok", _latency(each.test), each.test.message)
        for each in sorted(tested, key=lambda each: each.test.ok)
    ]
    table = make_table(("customer", "connection", "outcome", "time", "message"), rows, prose="message")
    text = [f"{plural(len(tested), 'connection')}, {failed} failed."]
    if any(each.with_login for each in tested):
        text.append(_YOUR_LOGIN)
    return Report({"tests": [_document(each) for each in tested]}, [table, *text], 1 if failed else 0)


def _latency(test: ConnectionTest) -> str | None:
    return None if test.latency_ms is None else f"{test.latency_ms} ms"


def _document(tested: _Tested) -> dict[str, object]:
    return {"customer": tested.customer, "connection": tested.connection, "test": tested.test}

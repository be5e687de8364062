"""`customers suspend` and `customers activate`: whether a customer's jobs are run."""

from __future__ import annotations

import argparse

from aijobs.confirmation import is_confirmed
from aijobs.person import person
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from shared.billing.customer_records import FRESH_S

_CONSEQUENCES = {
    "suspended": "This suspends {customer}: its jobs end with the error customer_suspended, also those in the queue.",
    "active": "This ends {customer}'s suspension: its jobs are run again.",
}


async def put_state(args: argparse.Namespace) -> Report:
    """Run `customers suspend CUSTOMER` or `customers activate CUSTOMER`. The exit code is 1 if it was not confirmed."""
    customer, state = check_customer(args.customer), args.state
    async with open_services(args.settings) as services:
        records = services.customer_records
        if (await records.read(customer)).state == state:
            return _report(customer, state, changed=False, text=f"{customer} is {state} already.")
        consequence = _CONSEQUENCES[state].format(customer=customer)
        if not is_confirmed(args, services.settings, consequence, customer):
            before = "active" if state == "suspended" else "suspended"
            return _report(customer, before, changed=False, text="Nothing was changed.", exit_code=1)
        await records.change(customer, lambda record: record.with_state(state), by=person(), subject="state")
    text = f"{customer} is {state}. Workers know within {FRESH_S:g} seconds; running attempts continue."
    return _report(customer, state, changed=True, text=text)


def _report(customer: str, state: str, *, changed: bool, text: str, exit_code: int = 0) -> Report:
    return Report({"customer": customer, "state": state, "changed": changed}, [text], exit_code)

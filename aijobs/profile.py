"""`profile` shows and changes what the operator records about a customer."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from aijobs.audit import change_table
from aijobs.confirmation import is_confirmed
from aijobs.console import show
from aijobs.diagnostics import Exists, InvalidArguments
from aijobs.person import person
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.billing.audit import differences
from shared.billing.customer_records import CustomerRecord
from shared.contract.customer import CustomerProfile, decode_profile, encode_profile
from shared.errors import ConnectionInvalid, InvalidJob
from shared.settings import Settings
from shared.upstream.egress_policy import check_public

_TEXTS = ("legal_name", "tax_id", "currency", "invoice_prefix", "notify")


async def read(args: argparse.Namespace) -> Report:
    """Run `profile show CUSTOMER`."""
    customer = check_customer(args.customer)
    async with open_services(args.settings) as services:
        record = await services.customer_records.read(customer)
    state = [f"{customer} is suspended: its jobs are not run."] if record.state == "suspended" else []
    members = _members(record.profile)
    if not members:
        text = f"{customer} has no profile: documents name it by its id, and all defaults hold."
        return Report(record.profile, [*state, text])
    rows = [(name, _text(member)) for name, member in members.items()]
    return Report(record.profile, [*state, make_table(("member", "value"), rows, prose="value")])


async def store(args: argparse.Namespace) -> Report:
    """Run `profile set CUSTOMER`: change the members that are named. The exit code is 1 if it was not confirmed."""
    customer = check_customer(args.customer)
    async with open_services(args.settings) as services:
        records = services.customer_records
        record = await records.read(customer)
        profile = _changed(record.profile, args, services.settings)
        before, after = differences(_members(record.profile), _members(profile))
        document: dict[str, Any] = {"customer": customer, "changed": False, "profile": record.profile}
        if not after:
            return Report(document, ["The profile says this already. Nothing was changed."])
        changes = change_table(before, after)
        if not args.yes:
            show([changes])
        if not is_confirmed(args, services.settings, f"This changes the profile of {customer}.", customer):
            return Report(document, ["Nothing was changed."], 1)

        def change(current: CustomerRecord) -> CustomerRecord:
            if current.profile != record.profile:
                raise Exists(f"The profile of {customer} was just changed. Run the command again.")
            return current.with_profile(profile)

        await records.change(customer, change, by=person(), subject="profile")
    text = f"Changed the profile of {customer}."
    return Report({**document, "changed": True, "profile": profile}, [changes, text] if args.yes else [text])


def _changed(profile: CustomerProfile, args: argparse.Namespace, settings: Settings) -> CustomerProfile:
    """Return the profile with what the command line names. Raises InvalidArguments, as the app would refuse it."""
    members = _members(profile)
    for name in args.clear:
        members.pop(name, None)
    members |= {name: text for name in _TEXTS if (text := getattr(args, name)) is not None}
    if args.address is not None:
        members["address"] = args.address.replace("\\n", "\n")
    if args.bill_outcomes is not None:
        members["bill_outcomes"] = [name.strip() for name in args.bill_outcomes.split(",")]
    ids = dict(members.get("external_ids", {}))
    for pair in args.external_id:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidArguments("--external-id must be NAME=ID, such as stripe=cus_1.")
        ids |= {name: value}
    members["external_ids"] = {name: value for name, value in ids.items() if value}
    try:
        changed = decode_profile(msgspec.json.encode(members))
        if changed.notify is not None:
            check_public(changed.notify, allow_local=settings.allow_local_endpoints, member="notify")
    except (InvalidJob, ConnectionInvalid) as exc:
        raise InvalidArguments(str(exc)) from None
    return changed


def _members(profile: CustomerProfile) -> dict[str, Any]:
    members: dict[str, Any] = msgspec.json.decode(encode_profile(profile))
    return members


def _text(member: Any) -> str:
    if isinstance(member, dict):
        return ", ".join(f"{name}={value}" for name, value in member.items())
    return ", ".join(member) if isinstance(member, list) else str(member)

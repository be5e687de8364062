"""What the operator records about a customer: the profile that documents are made out to, and the state."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import decode
from shared.contract.job import CallbackUrl
from shared.contract.names import NAME_RULE, Currency, Line, is_name
from shared.errors import InvalidJob

State = Literal["active", "suspended"]
BillOutcome = Literal["answered", "lost", "unanswered"]

Address = Annotated[
    str,
    Meta(
        max_length=1000,
        pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x09\x0b-\x1f\x7f]*\Z",
        description="at most 1000 characters, in lines that `\\n` separates",
    ),
]
InvoicePrefix = Annotated[
    str,
    Meta(
        max_length=20,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9-])?\Z",
        description="1 to 20 letters, digits, `.`, `_` or `-`, beginning with a letter or digit, and not ending in "
        "`.` or `_`",
    ),
]
ExternalIds = Annotated[dict[str, Line], Meta(max_length=20)]


class CustomerProfile(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who the customer is on a statement, and how it is billed."""

    legal_name: Line | None = None
    """The name on the customer's documents."""
    address: Address | None = None
    """The address on the customer's documents. `\\n` begins a line."""
    tax_id: Line | None = None
    """The customer's tax or registration number. Nothing is computed from it."""
    currency: Currency | None = None
    """The currency of the customer's statements. Missing: the price book's."""
    invoice_prefix: InvoicePrefix | None = None
    """What the numbers of the customer's documents begin with. Missing: the customer's id."""
    bill_outcomes: Annotated[tuple[BillOutcome, ...], Meta(min_length=1, max_length=3)] = ("answered",)
    """Which usage records are billed. Only callers see it that are not tied to a customer."""
    external_ids: ExternalIds = {}
    """The customer's id in other systems, by the name of an export. Only callers see it that are not tied to one."""
    notify: CallbackUrl | None = None
    """The URL that gets a notice of each closed month, signed like a callback."""


class CustomerState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a customer's jobs are run."""

    state: State
    """`suspended`: the customer's jobs end with the error `customer_suspended`."""


def decode_profile(data: bytes) -> CustomerProfile:
    """Return the profile in `data`. Raises InvalidJob, naming the member at fault."""
    profile = decode(data, CustomerProfile, root="The profile")
    outcomes = profile.bill_outcomes
    if len(set(outcomes)) < len(outcomes):
        raise InvalidJob("`bill_outcomes` names an outcome twice.")
    if not all(map(is_name, profile.external_ids)):
        raise InvalidJob(f"The names of `external_ids` must be those of exports: {NAME_RULE}.")
    return profile


def encode_profile(profile: CustomerProfile) -> bytes:
    """Return the profile as JSON: members with their defaults are left out."""
    return msgspec.json.encode(profile)


def for_customer(profile: CustomerProfile) -> CustomerProfile:
    """Return a profile as a caller sees it that is tied to the customer."""
    return msgspec.structs.replace(profile, bill_outcomes=("answered",), external_ids={})

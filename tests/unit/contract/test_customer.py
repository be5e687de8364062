"""A customer's profile: what it may have, what is refused with which words, and what a tied caller sees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.customer import decode_profile, encode_profile, for_customer
from shared.errors import InvalidJob
from tests.support.rows import every_row

COMPLETE = {
    "legal_name": "Contoso GmbH & Co. KG",
    "address": "Hauptstraße 1\n10115 Berlin",
    "tax_id": "DE123456789",
    "currency": "EUR",
    "invoice_prefix": "CON-26",
    "bill_outcomes": ["answered", "lost"],
    "external_ids": {"stripe": "cus_Na6dX7aXxi11N4"},
    "notify": "https://contoso.example/billing",
}


def test_a_profile_has_these_members():
    """Each is kept as it is; an empty profile has the defaults."""
    profile = decode_profile(json.dumps(COMPLETE).encode())

    assert COMPLETE == json.loads(encode_profile(profile))
    assert (("answered",), {}) == (decode_profile(b"{}").bill_outcomes, decode_profile(b"{}").external_ids)


@every_row(
    ("members", "error"),
    [
        ({"currency": "eur"}, "`currency` must be an ISO 4217 code, such as USD."),
        ({"currency": "EURO"}, "`currency` must be an ISO 4217 code, such as USD."),
        ({"legal_name": " "}, "`legal_name` must be a line of text, at most 200 characters."),
        ({"legal_name": "a\nb"}, "`legal_name` must be a line of text, at most 200 characters."),
        ({"tax_id": "x" * 201}, "`tax_id` must be a line of text, at most 200 characters."),
        ({"address": "a\r\nb"}, "`address` must be at most 1000 characters, in lines that `\\n` separates."),
        ({"invoice_prefix": ""}, "`invoice_prefix` must be 1 to 20 letters, digits"),
        ({"invoice_prefix": "../x"}, "`invoice_prefix` must be 1 to 20 letters, digits"),
        ({"invoice_prefix": "x."}, "`invoice_prefix` must be 1 to 20 letters, digits"),
        ({"invoice_prefix": "x" * 21}, "`invoice_prefix` must be 1 to 20 letters, digits"),
        ({"bill_outcomes": []}, "`bill_outcomes` must be a list of 1 to 3 items."),
        ({"bill_outcomes": ["paid"]}, "`bill_outcomes[0]` must be one of answered, lost, unanswered"),
        ({"bill_outcomes": ["lost", "lost"]}, "`bill_outcomes` names an outcome twice."),
        ({"external_ids": {"Stripe!": "x"}}, "The names of `external_ids` must be those of exports: 1 to 50"),
        ({"external_ids": {"stripe": ""}}, "`external_ids.stripe` must be a line of text"),
        ({"notify": "ftp://contoso.example"}, "`notify` must be an https URL of at most 2000 ASCII characters."),
        ({"legalName": "x"}, "`legalName` is not a known member"),
    ],
)
def test_an_invalid_member_is_named(members: dict[str, Any], error: str):
    """The message says which member is at fault and what would be right."""
    with pytest.raises(InvalidJob) as raised:
        decode_profile(json.dumps(members).encode())

    assert error in str(raised.value)


def test_a_tied_caller_does_not_see_how_it_is_billed():
    """`bill_outcomes` and `external_ids` are the operator's alone."""
    shown = json.loads(encode_profile(for_customer(decode_profile(json.dumps(COMPLETE).encode()))))

    assert {name: COMPLETE[name] for name in COMPLETE if name not in {"bill_outcomes", "external_ids"}} == shown

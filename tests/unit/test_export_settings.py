"""USAGE_EXPORTS: what its entries have, and what whoever has to correct one reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.errors import SettingInvalid
from shared.export_settings import KINDS, MAX_EXPORTS, MEASURES, Export, read_exports
from shared.settings import find_faults, read_settings
from tests.support.rows import every_row

KEY = "sk_live_0123456789abcdef"
STRIPE = {"name": "stripe", "kind": "stripe", "event_name": "ai_tokens", "value": "total_tokens"}
VALID: dict[str, dict[str, Any]] = {
    "stripe": STRIPE,
    "openmeter": {"name": "meter", "kind": "openmeter", "type": "ai.usage", "url": "https://meter.contoso.com/"},
    "lago": {"name": "lago-eu", "kind": "lago", "code": "ai_tokens", "value": "amount", "customer_id": "own"},
    "orb": {"name": "orb", "kind": "orb", "event_name": "ai usage", "billed_to": "operator"},
    "queue": {"name": "queue", "kind": "cloudevents", "queue": "usage-events"},
    "webhook": {"name": "hook", "kind": "cloudevents", "url": "https://hooks.contoso.com/usage/?team=1/"},
}
ENVIRONMENT = {"JobStorage": "UseDevelopmentStorage=true", "KEY_VAULT_URL": "https://v.vault.azure.net"}


def read(*entries: Any) -> tuple[Export, ...]:
    """Return the exports of a setting."""
    return read_exports("USAGE_EXPORTS", json.dumps(entries))


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an entry without some members."""
    return {name: value for name, value in entry.items() if name not in names}


def test_entries_of_every_kind():
    """Each kind has its own word for what is counted, and the hosted service as its default."""
    exports = read(*VALID.values())

    assert set(KINDS) == {export.kind for export in exports}
    assert ["ai_tokens", "ai.usage", "ai_tokens", "ai usage", "customer-ai-jobs.usage", "customer-ai-jobs.usage"] == [
        export.event for export in exports
    ]
    assert [
        "https://api.stripe.com",
        "https://meter.contoso.com",
        "https://api.getlago.com",
        "https://api.withorb.com",
        "",
        "https://hooks.contoso.com/usage/?team=1/",
    ] == [export.url for export in exports]
    assert [False, False, True, False, False, False] == [export.own_ids for export in exports]
    assert [True, True, True, True, False, True] == [export.needs_key for export in exports]
    assert ("total_tokens", "", "amount", "operator") == (
        exports[0].value,
        exports[1].value,
        exports[2].value,
        exports[3].billed_to,
    )


@every_row(
    ("entry", "words"),
    [
        (without(STRIPE, "name"), "`name` must be 1 to 50 lower-case letters"),
        ({**STRIPE, "name": "a--b"}, "`name` must be 1 to 50 lower-case letters"),
        ({**STRIPE, "name": 1}, "`name` must be 1 to 50 lower-case letters"),
        (without(STRIPE, "kind"), "`kind` must be one of stripe, openmeter, lago, orb, cloudevents"),
        ({**STRIPE, "kind": "metronome"}, "`kind` must be one of stripe, openmeter"),
        ({**STRIPE, "kind": ["stripe"]}, "`kind` must be one of stripe, openmeter"),
        (without(STRIPE, "event_name"), "`event_name` must be 1 to 100 ASCII characters"),
        ({**STRIPE, "event_name": "x" * 101}, "`event_name` must be 1 to 100 ASCII characters"),
        (without(VALID["openmeter"], "type"), "`type` must be 1 to 100 ASCII characters"),
        (without(VALID["lago"], "code"), "`code` must be 1 to 100 ASCII characters"),
        (without(VALID["orb"], "event_name"), "`event_name` must be 1 to 100 ASCII characters"),
        (
            without(STRIPE, "value"),
            "`value` must be a whole number, as its meters take: one of total_tokens",
        ),
        ({**STRIPE, "value": "amount"}, "`value` must be a whole number, as its meters take"),
        ({**STRIPE, "value": "seconds"}, "`value` must be a whole number, as its meters take"),
        ({**STRIPE, "value": "tokens"}, "`value` must be one of total_tokens, input_tokens"),
        ({**STRIPE, "billed_to": "me"}, "`billed_to` must be one of customer, operator"),
        ({**STRIPE, "customer_id": "own"}, "no other members than name, kind, event_name, url, value, billed_to"),
        ({**VALID["orb"], "customer_id": "ours"}, "`customer_id` must be one of external, own"),
        ({**STRIPE, "code": "x"}, "an entry of kind stripe has no other members than"),
        ({**STRIPE, "url": "http://api.stripe.com"}, "`url` must be an https URL"),
        ({**STRIPE, "url": f"https://user:{KEY}@api.stripe.com"}, "`url` must be an https URL"),
        ({**STRIPE, "url": None}, "`url` must be an https URL"),
        ({**STRIPE, "url": "https://meter.contoso.com/?team=1"}, "`url` must have no `?` and no `#`"),
        ({**VALID["lago"], "url": "https://meter.contoso.com/#a"}, "`url` must have no `?` and no `#`"),
        ({**STRIPE, "api_key": KEY}, "a key doesn't belong here; store it in Key Vault"),
        ({**STRIPE, "Secret": KEY}, "a key doesn't belong here; store it in Key Vault"),
        ({**STRIPE, "event_name": f"{KEY}\n"}, "`event_name` must be 1 to 100 ASCII characters"),
        ({**STRIPE, KEY: 1}, "no other members than"),
        (without(VALID["queue"], "queue"), "it must have either `queue` or `url`"),
        ({**VALID["queue"], "url": "https://x.contoso.com"}, "it must have either `queue` or `url`"),
        ({**VALID["queue"], "queue": "Q"}, "`queue` must be the name of a queue"),
        ({**VALID["queue"], "queue": ""}, "`queue` must be the name of a queue"),
    ],
)
def test_an_invalid_entry_is_named_with_its_rule(entry: dict[str, Any], words: str):
    """The message has the entry's number, the member and what would be right, and nothing of a value."""
    with pytest.raises(SettingInvalid) as refusal:
        read(VALID["orb"], entry)

    assert str(refusal.value).startswith("USAGE_EXPORTS is invalid: in entry 2, ")
    assert words in str(refusal.value)
    assert KEY not in str(refusal.value)


@every_row("text", ["{}", "[1]", "[[]]", "stripe", "[", "null", "[" * 100_000])
def test_what_is_no_list_of_objects_is_refused(text: str):
    """Also JSON that no decoder takes."""
    with pytest.raises(SettingInvalid, match="must be a JSON list of objects"):
        read_exports("USAGE_EXPORTS", text)


def test_names_are_unique_and_few():
    """Two entries with one name would share their state."""
    with pytest.raises(SettingInvalid, match="two entries with the same `name`"):
        read(STRIPE, {**VALID["orb"], "name": "stripe"})
    with pytest.raises(SettingInvalid, match=f"at most {MAX_EXPORTS} entries"):
        read(*[{**STRIPE, "name": f"s{number}"} for number in range(MAX_EXPORTS + 1)])


@pytest.mark.parametrize("kind", ["queue", "webhook"])
def test_cloudevents_of_two_exports_have_two_places(kind: str):
    """Their ids are those of the records: whoever got both would take the second one for a repetition."""
    with pytest.raises(SettingInvalid, match="two entries of kind cloudevents with the same `queue` or `url`"):
        read(VALID[kind], {**VALID[kind], "name": "other", "type": "other"})


@every_row(
    ("entry", "settings", "words"),
    [
        ("stripe", {"KEY_VAULT_URL": ""}, "USAGE_EXPORTS needs KEY_VAULT_URL"),
        ("webhook", {"KEY_VAULT_URL": ""}, "USAGE_EXPORTS needs KEY_VAULT_URL"),
        ("queue", {"JOBS_QUEUE": "usage-events"}, "USAGE_EXPORTS must be a queue other than usage-events"),
        ("queue", {"CALLBACKS_QUEUE": "usage-events"}, "USAGE_EXPORTS must be a queue other than usage-events"),
        ("queue", {"RESULTS_QUEUE": "usage-events"}, "queues other than those of RESULTS_QUEUE"),
        ("queue", {"ALLOWED_RESULT_QUEUES": "acme=usage-events"}, "queues other than those of RESULTS_QUEUE"),
    ],
)
def test_an_export_that_contradicts_another_setting(entry: str, settings: dict[str, str], words: str):
    """A key needs the vault, and no queue of the app's own gets events."""
    environment = {**ENVIRONMENT, "USAGE_EXPORTS": json.dumps([VALID[entry]]), **settings}

    (fault,) = find_faults(environment)

    assert words in fault


def test_a_queue_needs_no_vault():
    """CloudEvents in a queue need no key."""
    environment = {**ENVIRONMENT, "KEY_VAULT_URL": "", "USAGE_EXPORTS": json.dumps([VALID["queue"]])}

    assert read(VALID["queue"]) == read_settings(environment).usage_exports


def test_measures_are_the_counts_of_the_contract():
    """Every measure is a count of a usage record, or what is derived from the record as a whole."""
    from shared.contract.usage import COUNTS  # noqa: PLC0415

    assert {"calls", "jobs", "amount"} == set(MEASURES) - set(COUNTS)

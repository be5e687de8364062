"""
The setting USAGE_EXPORTS: a JSON list of the systems that usage records are sent to.

Messages quote no value: somebody may have put the key here, whose place is the secret `export--{name}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import SettingInvalid
from shared.setting_values import match_url

MAX_EXPORTS = 10
MEASURES = (
    *("total_tokens", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"),
    *("images", "seconds", "characters", "calls", "jobs", "amount"),
)
"""What the `value` of an event can be."""
_DECIMALS = frozenset({"seconds", "amount"})
"""Those that need not be whole numbers."""
_NAME = re.compile(r"(?=.{1,50}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_QUEUE = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_EVENT = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}")
_KEYS = frozenset({"key", "api_key", "apikey", "secret", "secret_key", "token", "authorization", "password"})


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an entry of a kind has."""

    event: str
    """The member with the receiver's own name of what is counted."""
    url: str = ""
    """The default of `url`."""
    default_event: str = ""
    whole_numbers: bool = False
    """Whether each event needs a value, and that has to be a whole number."""
    has_queue: bool = False
    own_ids: bool = True
    """Whether the receiver can know customers by the ids that they have here."""


_KINDS = {
    "stripe": _Kind("event_name", "https://api.stripe.com", whole_numbers=True, own_ids=False),
    "openmeter": _Kind("type", "https://openmeter.cloud"),
    "lago": _Kind("code", "https://api.getlago.com"),
    "orb": _Kind("event_name", "https://api.withorb.com"),
    "cloudevents": _Kind("type", default_event="customer-ai-jobs.usage", has_queue=True),
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True, slots=True)
class Export:
    """One entry of the setting: where usage records are sent, and what is sent of them."""

    name: str
    kind: str
    event: str
    """The receiver's name of what is counted: its meter, metric or type of event."""
    url: str = ""
    """Where the receiver's API is; of CloudEvents: where they are posted to."""
    queue: str = ""
    """Of CloudEvents: the queue that gets them."""
    value: str = ""
    """Which measure is the event's value; empty: it has none, and every record is sent."""
    billed_to: str = ""
    """`customer` or `operator`: only records of calls on whose account; empty: all."""
    own_ids: bool = False
    """Whether the receiver knows a customer by the id that it has here, and no external id is needed."""

    @property
    def needs_key(self) -> bool:
        """Whether there must be a secret `export--{name}`."""
        return not self.queue


def read_exports(setting: str, text: str) -> tuple[Export, ...]:
    """Return the exports in the setting's text. Raises SettingInvalid."""
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingInvalid(f'{setting} must be a JSON list of objects, such as [{{"name": "stripe", …}}].')
    if len(entries) > MAX_EXPORTS:
        raise SettingInvalid(f"{setting} must have at most {MAX_EXPORTS} entries.")
    exports = tuple(_read(setting, number, entry) for number, entry in enumerate(entries, 1))
    if len({export.name for export in exports}) < len(exports):
        raise SettingInvalid(f"{setting} must not have two entries with the same `name`.")
    places = [export.queue or export.url for export in exports if export.kind == "cloudevents"]
    if len(set(places)) < len(places):  # whoever gets them goes by the event's id, which they would share
        raise SettingInvalid(f"{setting} must not have two entries of kind cloudevents with the same `queue` or `url`.")
    return exports


def check_exports(exports: Iterable[Export], has_vault: bool, results: Container[str]) -> list[str]:
    """Return how exports contradict other settings: the vault, and the queues that results go to."""
    faults = []
    if not has_vault and any(export.needs_key for export in exports):
        faults.append("USAGE_EXPORTS needs KEY_VAULT_URL: the exports' keys are secrets in the vault.")
    if any(export.queue in results for export in exports):
        faults.append("USAGE_EXPORTS must name queues other than those of RESULTS_QUEUE and ALLOWED_RESULT_QUEUES.")
    return faults


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the setting that is being read."""

    setting: str
    number: int
    members: Mapping[str, Any]

    def invalid(self, rule: str) -> SettingInvalid:
        """Return the error that names the entry and the rule that it breaks."""
        return SettingInvalid(f"{self.setting} is invalid: in entry {self.number}, {rule}.")

    def text(self, name: str, pattern: re.Pattern[str], rule: str, default: str = "") -> str:
        """Return a text that has a pattern."""
        value = self.members.get(name, default)
        if not isinstance(value, str) or not (value == default != "" or pattern.fullmatch(value)):
            raise self.invalid(f"`{name}` must be {rule}")
        return value

    def choice(self, name: str, values: tuple[str, ...]) -> str:
        """Return one of the values, or nothing."""
        value = self.members.get(name, "")
        if value != "" and value not in values:
            raise self.invalid(f"`{name}` must be one of {', '.join(values)}")
        return str(value)

    def url(self, default: str, *, is_whole: bool) -> str:
        """Return the address of the receiver, or of its API, whose paths are added to it."""
        url = self.members.get("url", default)
        match = match_url(url) if isinstance(url, str) else None
        if match is None or not (match["scheme"].lower() == "https" or _LOOPBACK.fullmatch(match["host"].lower())):
            raise self.invalid("`url` must be an https URL such as https://meter.contoso.com")
        if not is_whole and ("?" in url or "#" in url):
            raise self.invalid("`url` must have no `?` and no `#`, because the API's paths are added to it")
        return str(url)

    def check_members(self, kind_name: str, kind: _Kind) -> None:
        """Check that it has only members of its kind."""
        if any(word.lower() in _KEYS for word in self.members):
            raise self.invalid("a key doesn't belong here; store it in Key Vault, in the secret export-- and the name")
        allowed = ["name", "kind", kind.event, "url", "value", "billed_to"]
        allowed += ["queue"] * kind.has_queue + ["customer_id"] * kind.own_ids
        if set(self.members) - set(allowed):
            raise self.invalid(f"an entry of kind {kind_name} has no other members than {', '.join(allowed)}")
        if kind.has_queue and ("queue" in self.members) == ("url" in self.members):
            raise self.invalid("it must have either `queue` or `url`")


def _read(setting: str, number: int, members: Mapping[str, Any]) -> Export:
    entry = _Entry(setting, number, members)
    name = entry.text("name", _NAME, "1 to 50 lower-case letters, digits and single hyphens")
    kind_name = entry.choice("kind", KINDS)
    if not kind_name:
        raise entry.invalid(f"`kind` must be one of {', '.join(KINDS)}")
    kind = _KINDS[kind_name]
    entry.check_members(kind_name, kind)
    value = entry.choice("value", MEASURES)
    if kind.whole_numbers and value in ("", *_DECIMALS):
        counts = [measure for measure in MEASURES if measure not in _DECIMALS]
        raise entry.invalid(f"`value` must be a whole number, as its meters take: one of {', '.join(counts)}")
    queue = entry.text("queue", _QUEUE, "the name of a queue") if "queue" in members else ""
    url = "" if queue else entry.url(kind.url, is_whole=kind.has_queue)
    return Export(
        name,
        kind_name,
        entry.text(kind.event, _EVENT, "1 to 100 ASCII characters, as the receiver has it", kind.default_event),
        url if kind.has_queue else url.rstrip("/"),  # of an API, whose paths are added to it
        queue,
        value,
        entry.choice("billed_to", ("customer", "operator")),
        entry.choice("customer_id", ("external", "own")) == "own",
    )

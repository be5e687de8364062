"""What an upstream call consumed, read from the provider's response. Never estimated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from shared.billing.provider_usage import read_usage
from shared.contract.usage import Processing, Usage, add

_PARTS = ("response", "message", "x_groq")
_IMAGE_MEMBERS = frozenset({"b64_json", "url"})
_STORED = frozenset({"response", "batch"})
_UNFINISHED = frozenset({"validating", "queued", "in_progress", "finalizing", "cancelling"})
"""States of what is stored at the provider, in which it may report zeros (OpenAI's batches do)."""
_MAX_TIER_LENGTH = 40
_MAX_PROVIDER_USAGE = 1024
"""Bytes of the provider's own object that a record keeps."""

CallOutcome = Literal["answered", "lost", "unanswered"]
"""
`answered`: the job has the response. `lost`: the call was answered, and so billed, but its response could not be kept.
`unanswered`: the call may have been billed. It was cut short, its worker died, or it was refused as providers charge.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One upstream call that was billed, or may have been."""

    usage: Usage | None = None
    """None: the provider did not report it."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    request_id: str | None = None
    images: int | None = None
    """Images in the response. They are counted in it, since no provider's usage reports them."""
    characters: int | None = None
    """Characters that were sent to be spoken. They are counted in the request, since speech reports no usage."""
    outcome: CallOutcome = "answered"
    service_tier: str | None = None
    """The tier that served."""
    processing: Processing = "standard"
    provider_usage: bytes | None = None
    """The provider's own usage object as JSON, at most 1 KB."""
    metered_as: str = ""
    """
    Identifies a response or batch that is stored at the provider, and whose usage this is. It is recorded once, however
    often it is fetched.
    """
    provisional: bool = False
    """Whether it is `unanswered` only as long as its answer, which is `metered_as` something, can't be read."""

    def consumed(self) -> Usage:
        """Return what is known of the consumption: what the provider reported, nothing for an unanswered call."""
        if self.outcome == "unanswered":
            return Usage()
        return msgspec.structs.replace(
            self.usage or Usage(calls=1),
            images=self.images,
            characters=self.characters,
            service_tier=self.service_tier,
            processing=self.processing,
        )


UNANSWERED = Call(outcome="unanswered")


def call_of_answer(
    body: Any, request_id: str | None, processing: Processing = "standard", metered_as: str = ""
) -> Call:
    """
    Return the call that a response's JSON describes: its `usage`, `model`, `service_tier`, the images in `data`.

    Without JSON, the response could not be read: the call may have been paid for.
    """
    return call_of_values([body] if body else [], request_id, processing, metered_as)


def call_of_values(
    values: Iterable[Any], request_id: str | None, processing: Processing = "standard", metered_as: str = ""
) -> Call:
    """
    Return the call that a response's JSON values describe, such as the events of a stream.

    The last of each member counts, and all images. Members of a usage object that a later one lacks are kept, because
    Anthropic's stream reports the input at its start and the output at its end. Usage is also in the `response` of an
    event of the Responses API, in the `message` of Anthropic's, in `x_groq`, and in a choice (Kimi's stream). What a
    stored response or batch reports before it has finished is not its usage. Without values, the response could not be
    read: the call may have been paid for. `processing` and `metered_as` are those of the response; if that has no
    `metered_as`, a stored response or batch among the values has its own.
    """
    values = list(values)
    if not values:
        return replace(UNANSWERED, request_id=request_id, processing=processing, metered_as=metered_as)
    usage: dict[str, Any] = {}
    model = tier = None
    images: int | None = None
    stored = kind = ""
    finished = True
    for part in (part for value in values for part in _parts(value)):
        usage |= {name: value for name, value in _usage_of(part).items() if value is not None or name not in usage}
        model = _text(part.get("model")) or model
        tier = _text(part.get("service_tier")) or tier
        if (stored_as := _text(part.get("object"))) in _STORED and (identifier := _text(part.get("id"))):
            stored, kind = identifier, stored_as or ""
            finished = _text(part.get("status")) not in _UNFINISHED
        images = add(images, _images(part.get("data")))
    tier = tier or _text(usage.get("service_tier"))
    reported = read_usage(usage) if finished else None
    return Call(
        reported,
        model,
        request_id,
        images,
        service_tier=tier[:_MAX_TIER_LENGTH] if tier else None,
        processing="batch" if kind == "batch" else processing,
        provider_usage=_limited(usage),
        metered_as=metered_as or (metered_name(kind, stored) if stored and reported else ""),
    )


def metered_name(kind: str, stored: str) -> str:
    """Return what the usage of a stored response or batch (`kind`) is `metered_as`, by the provider's id."""
    return f"{kind}-{hashlib.sha256(stored.encode()).hexdigest()[:40]}"


def as_fetched(call: Call) -> Call:
    """Return a call that fetched what another call had made: it has the usage of that call, and counts 0 calls."""
    return call if call.usage is None else replace(call, usage=msgspec.structs.replace(call.usage, calls=0))


def as_lost(calls: Sequence[Call]) -> list[Call]:
    """Return the calls as ones whose responses could not be kept."""
    return [replace(call, outcome="lost") for call in calls]


def total(calls: Sequence[Call]) -> Usage:
    """Return the sum over `calls`; a call whose provider reported nothing counts as a call without tokens."""
    return sum((call.consumed() for call in calls), Usage())


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        parts = (value, *map(value.get, _PARTS))
        yield from (part for part in parts if isinstance(part, dict))


def _usage_of(part: dict[str, Any]) -> dict[str, Any]:
    usage = part.get("usage")
    if isinstance(usage, dict):
        return usage
    choices = part.get("choices")
    of_choices = (choice.get("usage") for choice in _list(choices) if isinstance(choice, dict))
    return next((usage for usage in of_choices if isinstance(usage, dict)), {})


def _images(data: Any) -> int | None:
    """The images among a response's `data`; None if it has no such list or it holds something else."""
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        return None
    if data and not any(_IMAGE_MEMBERS & item.keys() for item in data):
        return None
    return sum(any(item.get(name) for name in _IMAGE_MEMBERS) for item in data)


def _limited(usage: dict[str, Any]) -> bytes | None:
    """The object as JSON; one that is too long without its last members."""
    whole = msgspec.json.encode(usage)
    if len(whole) <= _MAX_PROVIDER_USAGE:
        return whole if usage else None
    members: dict[str, Any] = {}
    size = len("{}") - len(",")
    for name, value in usage.items():
        size += len(msgspec.json.encode({name: value})) - len("{}") + len(",")
        if size > _MAX_PROVIDER_USAGE:
            break
        members[name] = value
    return msgspec.json.encode(members) if members else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

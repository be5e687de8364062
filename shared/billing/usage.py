"""What upstream calls consumed: from the provider's own count to usage records. Never estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from shared.contract.result import ConnectionLabel, Usage
from shared.storage.base import Row

_LARGEST = 2**31 - 1
"""Of a table's whole number. A count beyond it is no count."""
_LONGEST = 200
"""Characters of a name that an endpoint gives. A record that a table refuses would have the job bought again."""
_PICTURE = frozenset({"b64_json", "url"})

Outcome = Literal["answered", "lost", "unanswered"]
"""
`answered`: the job has what the call gave. `lost`: it was answered, and so paid for, but what it gave could
not be kept. `unanswered`: it was cut short, or its worker died; it may have been paid for.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One upstream call that was paid for, or may have been."""

    tokens: Usage | None
    """None: the provider did not say."""
    model: str | None = None
    """The model that answered, in the provider's words."""
    request_id: str | None = None
    images: int = 0
    """Pictures in the answer: counted in it, since no provider's usage tells them."""
    outcome: Outcome = "answered"

    def consumed(self) -> Usage:
        """What is known of it: tokens as far as the provider said. Nothing, where no answer was seen."""
        if self.outcome == "unanswered":
            return Usage()
        return (self.tokens or Usage(calls=1)) + Usage(images=self.images)


def read_usage(usage: Any) -> Usage | None:
    """
    The `usage` object of an answer of chat completions, or None where there is none to be read, or a count of it
    is no whole number: then the provider has told no count.

    `completion_tokens` has the reasoning in it already, and `prompt_tokens` the cached: nothing is
    added up (platform.openai.com/docs/api-reference/chat/object).
    """
    if not isinstance(usage, dict):
        return None
    inputs_counted = _count(usage, "prompt_tokens", "input_tokens")
    outputs_counted = _count(usage, "completion_tokens", "output_tokens")
    if inputs_counted is None or (outputs_counted is None and _says(usage, "completion_tokens", "output_tokens")):
        return None  # a count is never invented
    inputs = _object(usage, "prompt_tokens_details", "input_tokens_details")
    outputs = _object(usage, "completion_tokens_details", "output_tokens_details")
    return Usage(
        calls=1,
        input_tokens=inputs_counted,
        output_tokens=outputs_counted or 0,
        cached_tokens=_count(inputs, "cached_tokens") or 0,
        reasoning_tokens=_count(outputs, "reasoning_tokens") or 0,
    )


def call_of_answer(said: Any, request_id: str | None) -> Call:
    """The call that an answer's JSON tells of: its `usage`, the `model` that answered, the pictures in its `data`."""
    told = said if isinstance(said, dict) else {}
    model, data = told.get("model"), told.get("data")
    made = data if isinstance(data, list) else []
    return Call(
        read_usage(told.get("usage")),
        model if isinstance(model, str) and model else None,
        request_id,
        images=sum(isinstance(one, dict) and any(one.get(name) for name in _PICTURE) for one in made),
    )


def total(calls: Sequence[Call]) -> Usage:
    """The sum over `calls`; one whose provider said nothing counts as a call without tokens."""
    result = Usage()
    for call in calls:
        result += call.consumed()
    return result


def usage_rows(
    customer: str,
    job_id: str,
    action: str,
    model: str,
    label: ConnectionLabel,
    calls: Sequence[Call],
    at: datetime,
    *,
    nonce: str = "",
    place: str = "",
) -> list[Row]:
    """
    A usage record a call: `u_{month}_{job_id}_{nonce}_{number}` in the customer's partition, without the nonce
    where the job has none. Where the calls have a `place` of their own in the job, such as a step, it stands in place
    of the number (and `.1`, `.2` … after it).

    The key says all that identifies the call, so a record can't be written twice.
    """
    rows = []
    for number, call in enumerate(calls):
        consumed = call.consumed()
        values: dict[str, Any] = {
            "job_id": job_id,
            "action": action,
            "model": model,
            "connection": label.name,
            "source": label.source,
            "provider": label.provider,
            "billed_to": label.billed_to,
            "at": at,
            "outcome": call.outcome,
            # Facts that were not told are said to be missing, not zero. Of pictures there is no doubt.
            "reported": call.tokens is not None,
            **{name: getattr(consumed, name) for name in Usage.__struct_fields__},
        }
        values |= {"answered_by": call.model[:_LONGEST]} if call.model else {}
        values |= {"request_id": call.request_id[:_LONGEST]} if call.request_id else {}
        own = f"{number:04}" if not place else f"{place}.{number}" if number else place
        rows.append(Row(customer, "_".join(("u", f"{at:%Y-%m}", job_id, *([nonce] if nonce else []), own)), values))
    return rows


def _object(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((value for name in names if isinstance(value := usage.get(name), dict)), {})


def _says(usage: dict[str, Any], *names: str) -> bool:
    return any(usage.get(name) is not None for name in names)


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        # Some gateways write 7.0.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
            return int(value) if value == int(value) else None
    return None

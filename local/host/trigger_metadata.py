"""
The trigger metadata of a queue message: what the worker receives besides the body.

Azure's host first writes the message's own properties, then copies the top-level members of a JSON body over them,
without regard to case (`Utility.ApplyBindingData` in azure-functions-host). So a member `dequeueCount` replaces the
real count, and an invalid value fails the invocation before any code of the app runs. Newtonsoft's leniency
(comments, single quotes) is not reproduced.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.functions.meta import Datum

_ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)?")
_TIME_TO_LIVE = timedelta(days=7)  # of a message that was sent without one
_VISIBILITY_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """The properties of a queue message, as Storage returned them; all but the body."""

    id: str = "00000000-0000-0000-0000-000000000000"
    dequeue_count: int = 1
    pop_receipt: str = "receipt"
    inserted_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    expires_at: datetime | None = None
    next_visible_at: datetime | None = None


def queue_metadata(properties: MessageProperties, text: str | None) -> dict[str, Datum]:
    """
    The trigger metadata of a message with the body `text`; None if the function takes the body as bytes, of which
    the host copies nothing.
    """
    metadata = {
        "DequeueCount": Datum(str(properties.dequeue_count), "json"),
        "ExpirationTime": _time(properties.expires_at or properties.inserted_at + _TIME_TO_LIVE),
        "Id": Datum(properties.id, "string"),
        "InsertionTime": _time(properties.inserted_at),
        "NextVisibleTime": _time(properties.next_visible_at or properties.inserted_at + _VISIBILITY_TIMEOUT),
        "PopReceipt": Datum(properties.pop_receipt, "string"),
    }
    if text is not None:
        metadata["QueueTrigger"] = Datum(text, "string")
        _copy_members(text, metadata)
    return metadata


def looks_like_json(text: str) -> bool:
    """The real host's test (`Utility.IsJson`): braces or brackets at both ends."""
    text = text.strip()
    return (text.startswith("{") and text.endswith("}")) or (text.startswith("[") and text.endswith("]"))


def dotnet_text(value: Any) -> str:
    """A JSON scalar as .NET writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str):
        # Newtonsoft parses such a text as a time, and formats it differently.
        if _ISO_TIME.fullmatch(value):
            try:
                time = datetime.fromisoformat(value)
            except ValueError:
                return value
            return (time.astimezone(UTC) if time.tzinfo else time).strftime("%m/%d/%Y %H:%M:%S")
        return value
    return str(value)


def _copy_members(text: str, metadata: dict[str, Datum]) -> None:
    if not looks_like_json(text):
        return
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(body, dict):
        return
    names = {name.lower(): name for name in metadata}
    for member, value in body.items():
        if value is None or isinstance(value, list):
            continue
        name = names.setdefault(member.lower(), member)
        if isinstance(value, dict):
            metadata[name] = Datum(json.dumps(value), "json")
        else:
            metadata[name] = Datum(dotnet_text(value), "string")


def _time(time: datetime) -> Datum:
    # Storage has whole seconds: its XML writes times as HTTP does.
    return Datum(json.dumps(time.astimezone(UTC).isoformat(timespec="seconds")), "json")

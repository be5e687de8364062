"""The attributes of a CloudEvent in structured JSON that the app reads."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

_Text = Annotated[str, Meta(min_length=1)]


class CloudEvent(Struct, frozen=True, kw_only=True):
    """
    A CloudEvents 1.0 event (github.com/cloudevents/spec, "JSON Event Format") whose `data` is a job.

    It may have other attributes and extensions; a customer's template can use them.
    """

    specversion: str
    id: _Text
    source: _Text
    type: _Text
    data: Raw | msgspec.UnsetType = msgspec.UNSET

"""A CloudEvent in structured JSON, as far as we read it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

_Text = Annotated[str, Meta(min_length=1)]


class CloudEvent(Struct, frozen=True, kw_only=True):
    """
    An event after CloudEvents 1.0 (github.com/cloudevents/spec, "JSON Event Format") whose `data` is a job.

    Other attributes and extensions may stand in it; a customer's template can use them.
    """

    specversion: str
    id: _Text
    source: _Text
    type: _Text
    data: Raw | msgspec.UnsetType = msgspec.UNSET

"""What tests have the process beside the worker call. It imports this module, and so nothing that only tests need."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from shared.errors import ContentFiltered, UpstreamFacts

if TYPE_CHECKING:
    from shared.upstream.messages import Response


def raise_error(message: str) -> None:
    """Raise an error as reading a response does."""
    raise ContentFiltered(message, UpstreamFacts(400, "r-1", detail={"code": "x"}))


def print_much(text: str) -> str:
    """Print as some libraries do."""
    sys.stdout.write(text)
    os.write(1, text.encode())
    return text


def request_of(response: Response) -> str | None:
    """Return what came with a response."""
    return response.request_id

"""Key Vault's rate limit, which counts for all secrets: a refusal keeps the vault's own sentence and its wait."""

from __future__ import annotations

import time
from collections.abc import Mapping

from shared.errors import VaultUnavailable
from shared.upstream.error_body import read_refusal
from shared.upstream.server_wait import read_retry_after

MAX_SLEEP_S = 1.0
"""The longest wait named by the vault that a request itself waits for; for a longer one the job is requeued."""
TOO_MANY_REQUESTS = 429


class VaultLimit:
    """Once the vault has refused a request by its limit, none is sent until the wait that it named is over."""

    def __init__(self) -> None:
        self._message = ""
        self._ends_at = 0.0
        """When the vault takes requests again, on `time.monotonic()`'s clock."""

    def check(self) -> None:
        """Raise VaultUnavailable if no request may be sent."""
        left_s = self._ends_at - time.monotonic()
        if left_s > 0:
            raise VaultUnavailable(self._message, left_s)

    def refusal(self, headers: Mapping[str, str], body: bytes) -> VaultUnavailable:
        """Return the error for a response with the status 429, after which no request is sent for a while."""
        wait_s = read_retry_after(headers)
        self._message = f"Key Vault answered 429: it limits the requests{read_refusal(body).quote}"
        self._ends_at = time.monotonic() + (wait_s or 0)
        return VaultUnavailable(self._message, wait_s)

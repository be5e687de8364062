"""Key Vault's rate limit: a refusal keeps the vault's own sentence, and a long wait requeues the job."""

from __future__ import annotations

import time
from typing import Any

from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncRetryPolicy

from shared.errors import VaultUnavailable
from shared.upstream.error_body import read_refusal
from shared.upstream.server_wait import read_retry_after

MAX_SLEEP_S = 1.0
"""The longest wait named by the vault that a request itself waits for; for a longer one the job is requeued."""
_TOO_MANY_REQUESTS = 429


class VaultPolicy(AsyncRetryPolicy[Any, Any]):
    """
    The SDK's retries, few and quick: its own, ten, take too long within a job, and it sleeps as long as it is asked.

    Once the vault has refused a request by its limit, none is sent until the wait that it named is over: the limit
    counts for all secrets.
    """

    def __init__(self) -> None:
        super().__init__(retry_total=2, retry_backoff_factor=0.2, retry_backoff_max=2)
        self._message = ""
        self._ends_at = 0.0
        """When the vault takes requests again, on `time.monotonic()`'s clock."""

    def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
        """See RetryPolicyBase."""
        return super().is_retry(settings, response) and (self.get_retry_after(response) or 0) <= MAX_SLEEP_S

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """See AsyncHTTPPolicy. Raises VaultUnavailable if the vault's limit refuses the request, beside the SDK's."""
        left_s = self._ends_at - time.monotonic()
        if left_s > 0:
            raise VaultUnavailable(self._message, left_s)
        response = await super().send(request)
        refused = response.http_response
        if refused.status_code == _TOO_MANY_REQUESTS:
            wait_s = read_retry_after({name.lower(): text for name, text in refused.headers.items()})
            self._message = f"Key Vault answered 429: it limits the requests{read_refusal(refused.content).quote}"
            self._ends_at = time.monotonic() + (wait_s or 0)
            raise VaultUnavailable(self._message, wait_s)
        return response

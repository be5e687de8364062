"""How the SDK repeats requests to Key Vault."""

from __future__ import annotations

from typing import Any

from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncRetryPolicy

from shared.connections.vault_limit import MAX_SLEEP_S, TOO_MANY_REQUESTS, VaultLimit


class VaultPolicy(AsyncRetryPolicy[Any, Any]):
    """The SDK's retries, few and quick: its own, ten, take too long within a job, and it sleeps as it is asked."""

    def __init__(self, limit: VaultLimit) -> None:
        super().__init__(retry_total=2, retry_backoff_factor=0.2, retry_backoff_max=2)
        self._limit = limit

    def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
        """See RetryPolicyBase."""
        return super().is_retry(settings, response) and (self.get_retry_after(response) or 0) <= MAX_SLEEP_S

    async def send(self, request: PipelineRequest[Any]) -> PipelineResponse[Any, Any]:
        """See AsyncHTTPPolicy. Raises VaultUnavailable if the vault's limit refuses the request, beside the SDK's."""
        self._limit.check()
        response = await super().send(request)
        refused = response.http_response
        if refused.status_code == TOO_MANY_REQUESTS:
            headers = {name.lower(): text for name, text in refused.headers.items()}
            raise self._limit.refusal(headers, refused.content)
        return response

"""What only endpoints with OpenAI's whole API have. Claude's are refused earlier (`Connection.check_job`)."""

from __future__ import annotations

from shared.connections.endpoint import Endpoint
from shared.errors import ConnectionInvalid

WITH_RESPONSES = frozenset({"openai", "azure_openai", "foundry"})
"""Providers that have the Responses API, where the endpoint is of the style v1."""


def has_responses(endpoint: Endpoint) -> bool:
    """Return whether an endpoint has the Responses API."""
    return endpoint.provider in WITH_RESPONSES and endpoint.style == "v1"


def check_openai_api(endpoint: Endpoint, what: str) -> None:
    """Raise ConnectionInvalid if an endpoint has no `what`, such as images."""
    if endpoint.style == "models":
        raise ConnectionInvalid(
            f"The connection's `endpoint` is a models route, which has no {what}: use a connection to the resource's "
            "/openai/v1, such as https://RESOURCE.services.ai.azure.com/openai/v1."
        )

"""What only endpoints with OpenAI's API have."""

from __future__ import annotations

from shared.connections.endpoint import Endpoint
from shared.errors import ConnectionInvalid

_STYLES = frozenset({"v1", "deployments"})


def check_openai_api(endpoint: Endpoint, what: str) -> None:
    """Raise ConnectionInvalid if an endpoint has no `what`, such as images."""
    if endpoint.style not in _STYLES:
        raise ConnectionInvalid(
            f"The connection's `endpoint` is a {endpoint.style} route, which has no {what}: use a connection to the "
            "resource's /openai/v1, such as https://RESOURCE.services.ai.azure.com/openai/v1."
        )

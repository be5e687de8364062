"""What a connection's API takes in batches, and how a line names its operation. Pure."""

from __future__ import annotations

from shared.connections.connection import Connection
from shared.connections.endpoint_shapes import CLAUDE

_PRICED = ("chat/completions", "completions", "embeddings", "responses")
"""Operations that OpenAI sells in batches and that a job can be made of."""
_AZURE = ("chat/completions", "responses")
_CLAUDE = ("messages",)
_SERVERLESS = "models.ai.azure.com"


def refusal(connection: Connection, operation: str) -> str | None:
    """Return the sentence that says why a connection can't have `operation` done in batches, or None if it can."""
    endpoint, name = connection.endpoint, connection.name
    if endpoint.provider == CLAUDE and not endpoint.has_model_list:
        return f"The connection {name} leads to Claude in Foundry, which has no batches; Anthropic's own API has them."
    if endpoint.style == "models" or endpoint.host.endswith(_SERVERLESS):
        return (
            f"The connection {name} leads to Foundry's inference route, which has no batches; an `endpoint` that ends "
            "in /openai/v1 has them."
        )
    if operation not in (_CLAUDE if endpoint.provider == CLAUDE else _PRICED):
        return f"The operation {operation} can't be done in batches."
    if endpoint.provider not in {"openai", CLAUDE} and operation not in _AZURE:
        return f"Azure does not take the operation {operation} in batches, and the connection {name} leads there."
    if endpoint.style == "deployments" and operation == "responses":
        return "Azure takes the operation responses in batches only if the connection's `endpoint` ends in /openai/v1."
    return None


def line_url(connection: Connection, operation: str) -> str:
    """Return the `url` of a line, which is the `endpoint` of its batch, too."""
    return f"/{operation}" if connection.endpoint.style == "deployments" else f"/v1/{operation}"

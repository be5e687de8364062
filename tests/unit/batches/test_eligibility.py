"""Which connections take which operations in batches, and how lines name them there."""

from __future__ import annotations

from shared.batches.eligibility import line_url, refusal
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.secret import Secret
from shared.upstream.messages import ApiKey
from tests.support.rows import every_row

OPENAI = "https://api.openai.com/v1"
AZURE = "https://contoso.openai.azure.com/openai/v1"
OLD = "https://contoso.openai.azure.com/openai/deployments/x"
FOUNDRY = "https://contoso.services.ai.azure.com/openai/v1"
MODELS = "https://contoso.services.ai.azure.com/models"
SERVERLESS = "https://contoso.eastus.models.ai.azure.com/v1"
GATEWAY = "https://gateway.contoso.com/v1"
CLAUDE = "https://api.anthropic.com"
CLAUDE_GATEWAY = "https://gateway.contoso.com/claude/v1"
_GATEWAYS = {GATEWAY: "openai", CLAUDE_GATEWAY: "anthropic"}


def connection(url: str) -> Connection:
    """A connection to this address."""
    endpoint = parse_endpoint(url, provider=_GATEWAYS.get(url))
    return Connection("contoso", "main", "key_vault", "1", endpoint, ApiKey("api-key", Secret("k")))


@every_row(
    ("url", "operation", "line"),
    [
        (OPENAI, "chat/completions", "/v1/chat/completions"),
        (OPENAI, "completions", "/v1/completions"),
        (OPENAI, "embeddings", "/v1/embeddings"),
        (OPENAI, "responses", "/v1/responses"),
        (AZURE, "chat/completions", "/v1/chat/completions"),
        (AZURE, "responses", "/v1/responses"),
        (FOUNDRY, "chat/completions", "/v1/chat/completions"),
        (OLD, "chat/completions", "/chat/completions"),
        (GATEWAY, "embeddings", "/v1/embeddings"),
        (CLAUDE, "messages", "/v1/messages"),
        (CLAUDE_GATEWAY, "messages", "/v1/messages"),
    ],
)
def test_what_is_done_in_batches(url: str, operation: str, line: str):
    """And the url of its lines."""
    assert refusal(connection(url), operation) is None
    assert line == line_url(connection(url), operation)


@every_row(
    ("url", "operation", "reason"),
    [
        (OPENAI, "images/generations", "images/generations can't be done in batches"),
        (AZURE, "embeddings", "Azure does not take the operation embeddings"),
        (FOUNDRY, "completions", "Azure does not take the operation completions"),
        (OLD, "embeddings", "Azure does not take"),
        (OLD, "responses", "only if the connection's `endpoint` ends in /openai/v1"),
        (MODELS, "chat/completions", "the connection main leads to Foundry's inference route"),
        (SERVERLESS, "chat/completions", "Foundry's inference route"),
        ("https://contoso.services.ai.azure.com/anthropic", "messages", "leads to Claude in Foundry"),
        (CLAUDE, "chat/completions", "chat/completions can't be done in batches"),
        (CLAUDE, "embeddings", "embeddings can't be done in batches"),
        (OPENAI, "messages", "messages can't be done in batches"),
    ],
)
def test_what_is_refused(url: str, operation: str, reason: str):
    """With a sentence that says what to change."""
    sentence = refusal(connection(url), operation)

    assert sentence is not None
    assert reason.lower() in sentence.lower()
    assert sentence.endswith(".")

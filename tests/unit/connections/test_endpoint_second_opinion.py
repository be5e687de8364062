"""The requests of the official clients for each shape, compared with those of the app."""

from __future__ import annotations

import json

import httpx2
import pytest

from shared.connections.endpoint import parse_endpoint
from tests.support.rows import every_row
from tests.support.sdks import openai

KEY = "k-123"
GA = "2024-10-21"
PREVIEW = "2025-04-01-preview"
AZURE = "https://r.openai.azure.com"
FOUNDRY = "https://r.services.ai.azure.com"
PROJECT = f"{FOUNDRY}/api/projects/P"
GATEWAY = "https://gw.contoso.com/ai"
MODELS = {"api-version": "2024-05-01-preview"}

OPERATIONS = ("chat/completions", "embeddings", "images/generations", "completions", "responses")

US = "https://r.cognitiveservices.azure.us"
LOCAL = "http://127.0.0.1:9000"
SERVERLESS = "https://x.eastus.models.ai.azure.com"
AS_API_KEY = {"api_key": "unused", "default_headers": {"api-key": KEY}}
"""
AsyncOpenAI by itself would send the key as a bearer, which Azure takes too. `api-key` is what Azure documents for keys
and what gateways look for, so the client is configured to send it, and must still agree.
"""

# pasted, provider argument, the official client and its options
AZURE_CLIENT = [
    (AZURE, None, {"azure_endpoint": AZURE}),
    (f"{AZURE}/openai/", None, {"azure_endpoint": AZURE}),
    (
        f"{AZURE}/openai/deployments/D/chat/completions?api-version={PREVIEW}",
        None,
        {"azure_endpoint": AZURE, "azure_deployment": "D", "api_version": PREVIEW},
    ),
    (f"{US}/openai/deployments/D", None, {"azure_endpoint": US, "azure_deployment": "D"}),
    (f"{FOUNDRY}/openai", None, {"azure_endpoint": FOUNDRY}),
    (GATEWAY, "azure_openai", {"azure_endpoint": GATEWAY}),
    (f"{GATEWAY}/openai/deployments/D", "azure_openai", {"azure_endpoint": GATEWAY, "azure_deployment": "D"}),
    (LOCAL, "azure_openai", {"azure_endpoint": LOCAL}),
]
OPENAI_CLIENT = [
    (f"{AZURE}/openai/v1/", None, AS_API_KEY | {"base_url": f"{AZURE}/openai/v1/"}),
    (
        f"{AZURE}/openai/v1?api-version=preview",
        None,
        AS_API_KEY | {"base_url": f"{AZURE}/openai/v1/", "default_query": {"api-version": "preview"}},
    ),
    (FOUNDRY, None, AS_API_KEY | {"base_url": f"{FOUNDRY}/openai/v1"}),
    (PROJECT, None, AS_API_KEY | {"base_url": f"{PROJECT}/openai/v1"}),
    (f"{FOUNDRY}/models", None, AS_API_KEY | {"base_url": f"{FOUNDRY}/models", "default_query": MODELS}),
    (f"{GATEWAY}/openai/v1", "foundry", AS_API_KEY | {"base_url": f"{GATEWAY}/openai/v1"}),
    ("https://api.openai.com", None, {}),
    (None, "openai", {}),
    ("eu.api.openai.com/v1/chat/completions", None, {"data_residency": "eu"}),
    (f"{GATEWAY}/v1", "openai", {"base_url": f"{GATEWAY}/v1"}),
    (SERVERLESS, None, {"base_url": SERVERLESS, "default_query": MODELS}),
]
SHAPES = [
    *(
        (pasted, provider, "AsyncAzureOpenAI", {"api_version": GA} | options)
        for pasted, provider, options in AZURE_CLIENT
    ),
    *((pasted, provider, "AsyncOpenAI", options) for pasted, provider, options in OPENAI_CLIENT),
]


class Recorder:
    """An endpoint that keeps the last request and refuses it."""

    def __init__(self) -> None:
        self.seen: list[httpx2.Request] = []

    def client(self) -> httpx2.AsyncClient:
        """Return a client that calls it; an official client closes the one that it is given."""
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        return httpx2.Response(418, json={"error": {"message": "recorded"}})


async def sent(client: openai.AsyncOpenAI, recorder: Recorder, operation: str, model: str) -> httpx2.Request:
    """Return the request that the official client sends for an operation."""
    calls = {
        "chat/completions": lambda: client.chat.completions.create(model=model, messages=[]),
        "embeddings": lambda: client.embeddings.create(model=model, input="x"),
        "images/generations": lambda: client.images.generate(model=model, prompt="x"),
        "completions": lambda: client.completions.create(model=model, prompt="x"),
        "responses": lambda: client.responses.create(model=model, input="x"),
    }
    with pytest.raises(openai.APIStatusError):
        await calls[operation]()
    await client.close()
    return recorder.seen[-1]


@pytest.fixture
def recorder(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    return Recorder()


@pytest.mark.long
@every_row("operation", OPERATIONS)
@every_row(("pasted", "provider", "client_class", "options"), SHAPES)
async def test_requests_are_what_the_official_client_sends(
    pasted, provider, client_class, options, operation, recorder
):
    """URL, header of the key and the body's model are those of the official client for that API."""
    endpoint = parse_endpoint(pasted, provider=provider)
    model = options.get("azure_deployment", "my model/1")
    options = {"api_key": KEY} | options
    client = getattr(openai, client_class)(**options, max_retries=0, http_client=recorder.client())

    request = await sent(client, recorder, operation, model)

    is_bearer = client_class == "AsyncOpenAI" and "default_headers" not in options
    assert str(request.url) == endpoint.url(operation, model)
    assert ("authorization" if is_bearer else "api-key") == endpoint.key_header
    assert (f"Bearer {KEY}" if is_bearer else KEY) == request.headers[endpoint.key_header]
    assert json.loads(request.content)["model"] == endpoint.model_in_body(model)

"""The requests of the official clients for each shape, compared with those of the app."""

import json

import httpx2
import pytest
from openai import APIStatusError, AsyncAzureOpenAI, AsyncOpenAI

from shared.connections.endpoint import Endpoint, parse_endpoint

KEY = "k-123"
GA = "2024-10-21"
PREVIEW = "2025-04-01-preview"
AZURE = "https://r.openai.azure.com"
FOUNDRY = "https://r.services.ai.azure.com"
PROJECT = f"{FOUNDRY}/api/projects/P"
GATEWAY = "https://gw.contoso.com/ai"
MODELS = {"api-version": "2024-05-01-preview"}

OPERATIONS = ("chat/completions", "embeddings", "images/generations", "completions", "responses")

# pasted, provider argument, the options of the official client, the header in which it sends a key
DEPLOYMENTS = [
    (AZURE, None, {"azure_endpoint": AZURE, "api_version": GA}),
    (f"{AZURE}/openai/", None, {"azure_endpoint": AZURE, "api_version": GA}),
    (
        f"{AZURE}/openai/deployments/D/chat/completions?api-version={PREVIEW}",
        None,
        {"azure_endpoint": AZURE, "azure_deployment": "D", "api_version": PREVIEW},
    ),
    (
        "https://r.cognitiveservices.azure.us/openai/deployments/D",
        None,
        {
            "azure_endpoint": "https://r.cognitiveservices.azure.us",
            "azure_deployment": "D",
            "api_version": GA,
        },
    ),
    (f"{FOUNDRY}/openai", None, {"azure_endpoint": FOUNDRY, "api_version": GA}),
    (GATEWAY, "azure_openai", {"azure_endpoint": GATEWAY, "api_version": GA}),
    (
        f"{GATEWAY}/openai/deployments/D",
        "azure_openai",
        {"azure_endpoint": GATEWAY, "azure_deployment": "D", "api_version": GA},
    ),
    ("http://127.0.0.1:9000", "azure_openai", {"azure_endpoint": "http://127.0.0.1:9000", "api_version": GA}),
]
BASES = [
    (f"{AZURE}/openai/v1/", None, {"base_url": f"{AZURE}/openai/v1/"}),
    (
        f"{AZURE}/openai/v1?api-version=preview",
        None,
        {"base_url": f"{AZURE}/openai/v1/", "version": "preview"},
    ),
    (FOUNDRY, None, {"base_url": f"{FOUNDRY}/openai/v1"}),
    (PROJECT, None, {"base_url": f"{PROJECT}/openai/v1"}),
    (f"{FOUNDRY}/models", None, {"base_url": f"{FOUNDRY}/models", "version": MODELS["api-version"]}),
    (f"{GATEWAY}/openai/v1", "foundry", {"base_url": f"{GATEWAY}/openai/v1"}),
]
# These take the key as a bearer, which is how the official client sends it unasked.
BEARERS = [
    ("https://api.openai.com", None, {}),
    (None, "openai", {}),
    ("eu.api.openai.com/v1/chat/completions", None, {"data_residency": "eu"}),
    (f"{GATEWAY}/v1", "openai", {"base_url": f"{GATEWAY}/v1"}),
    (
        "https://x.eastus.models.ai.azure.com",
        None,
        {"base_url": "https://x.eastus.models.ai.azure.com", "default_query": MODELS},
    ),
]


class Recorder:
    """An endpoint that keeps the last request and refuses it."""

    def __init__(self) -> None:
        self.client = httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))
        self.seen: list[httpx2.Request] = []

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        return httpx2.Response(418, json={"error": {"message": "recorded"}})


async def sent(client: AsyncOpenAI, recorder: Recorder, operation: str, model: str) -> httpx2.Request:
    """Return the request that the official client sends for an operation."""
    calls = {
        "chat/completions": lambda: client.chat.completions.create(model=model, messages=[]),
        "embeddings": lambda: client.embeddings.create(model=model, input="x"),
        "images/generations": lambda: client.images.generate(model=model, prompt="x"),
        "completions": lambda: client.completions.create(model=model, prompt="x"),
        "responses": lambda: client.responses.create(model=model, input="x"),
    }
    with pytest.raises(APIStatusError):
        await calls[operation]()
    await client.close()
    return recorder.seen[-1]


def key_sent(request: httpx2.Request, endpoint: Endpoint) -> bool:
    """Return whether the key is in the expected header."""
    expected = f"Bearer {KEY}" if endpoint.key_header == "authorization" else KEY
    return request.headers.get(endpoint.key_header) == expected


@pytest.fixture
def recorder(monkeypatch):
    for name in ("OPENAI_BASE_URL", "OPENAI_API_VERSION", "AZURE_OPENAI_ENDPOINT", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)
    return Recorder()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("pasted", "provider", "options"), DEPLOYMENTS)
async def test_deployment_style_is_what_the_azure_client_sends(pasted, provider, options, operation, recorder):
    """URL, key header and the body's model are those of AsyncAzureOpenAI."""
    endpoint = parse_endpoint(pasted, provider=provider)
    model = options.get("azure_deployment", "my model/1")
    client = AsyncAzureOpenAI(**options, api_key=KEY, max_retries=0, http_client=recorder.client)

    request = await sent(client, recorder, operation, model)

    assert str(request.url) == endpoint.url(operation, model)
    assert key_sent(request, endpoint)
    assert json.loads(request.content)["model"] == endpoint.model_in_body(model)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("pasted", "provider", "options"), BASES)
async def test_v1_and_models_are_what_the_client_sends_to_that_base(pasted, provider, options, operation, recorder):
    """
    URL and the body's model are those of AsyncOpenAI with that base, and the key goes as `api-key`.

    AsyncOpenAI by itself would send the key as a bearer, which Azure takes too. `api-key` is what Azure
    documents for keys and what gateways look for, so the client is configured to send it, and must still agree.
    """
    endpoint = parse_endpoint(pasted, provider=provider)
    query = {"api-version": options["version"]} if "version" in options else None
    client = AsyncOpenAI(
        base_url=options["base_url"],
        default_query=query,
        default_headers={"api-key": KEY},
        api_key="unused",
        max_retries=0,
        http_client=recorder.client,
    )

    request = await sent(client, recorder, operation, "m")

    assert str(request.url) == endpoint.url(operation, "m")
    assert endpoint.key_header == "api-key"
    assert key_sent(request, endpoint)
    assert json.loads(request.content)["model"] == endpoint.model_in_body("m")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("pasted", "provider", "options"), BEARERS)
async def test_openai_is_what_the_client_sends(pasted, provider, options, operation, recorder):
    """URL, bearer and the body's model are those of AsyncOpenAI."""
    endpoint = parse_endpoint(pasted, provider=provider)
    client = AsyncOpenAI(**options, api_key=KEY, max_retries=0, http_client=recorder.client)

    request = await sent(client, recorder, operation, "m")

    assert str(request.url) == endpoint.url(operation, "m")
    assert endpoint.key_header == "authorization"
    assert key_sent(request, endpoint)
    assert json.loads(request.content)["model"] == endpoint.model_in_body("m")

"""The local AI endpoint: every URL form, keys, usage, faults that a prompt requests, and the journal."""

import base64
import uuid

import httpx
import pytest

KEY = "tests-key"
URL_FORMS = [
    "/v1/chat/completions",
    "/openai/v1/chat/completions",
    "/api/projects/p/openai/v1/chat/completions",
    "/openai/deployments/d/chat/completions?api-version=2024-10-21",
    "/models/chat/completions?api-version=2024-05-01-preview",
]


@pytest.fixture
async def client(ai_endpoint):
    async with httpx.AsyncClient(base_url=ai_endpoint.url, headers={"api-key": KEY}, timeout=60) as opened:
        yield opened


def chat(prompt, **parameters):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **parameters}


@pytest.mark.parametrize("url", URL_FORMS)
async def test_every_url_form_is_served(client, url):
    """A chat request succeeds at each kind of endpoint that a connection can have."""
    response = await client.post(url, json=chat("What is the capital of France?"))

    assert response.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_any_prompt_gets_an_answer_with_token_counts(client):
    """A prompt without a fixture gets the catch-all answer; a token is counted for every four characters."""
    response = (await client.post("/v1/chat/completions", json=chat("x" * 40))).json()

    answer = response["choices"][0]["message"]["content"]
    assert response["usage"]["prompt_tokens"] == 10
    assert -(-len(answer) // 4) == response["usage"]["completion_tokens"]


async def test_a_json_object_can_be_requested(client):
    """With `response_format`, the answer is a JSON object."""
    request = chat("anything", response_format={"type": "json_object"})

    response = (await client.post("/v1/chat/completions", json=request)).json()

    assert response["choices"][0]["message"]["content"].startswith('{"answer":')


@pytest.mark.parametrize("headers", [{"api-key": "wrong"}, {"authorization": "Bearer wrong"}, {}])
async def test_an_unknown_key_is_rejected(ai_endpoint, headers):
    """Only the keys of the start are accepted."""
    async with httpx.AsyncClient(base_url=ai_endpoint.url, timeout=60) as client:
        response = await client.post("/v1/chat/completions", json=chat("hi"), headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("headers", [{"api-key": "another-key"}, {"authorization": "Bearer another-key"}])
async def test_both_headers_are_accepted(ai_endpoint, headers):
    """The key may be in Azure's header or in OpenAI's."""
    async with httpx.AsyncClient(base_url=ai_endpoint.url, timeout=60) as client:
        response = await client.post("/v1/chat/completions", json=chat("hi"), headers=headers)

    assert response.status_code == 200


async def test_a_rate_limit_occurs_once(client):
    """`[fault: 429]` gets a 429 with Retry-After, and an answer when it is repeated."""
    first = await client.post("/v1/chat/completions", json=chat("[fault: 429] hello"))
    second = await client.post("/v1/chat/completions", json=chat("[fault: 429] hello"))

    assert (first.status_code, first.headers["retry-after"]) == (429, "1")
    assert second.status_code == 200


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("429 always", 429, "429"),
        ("429 insufficient_quota", 429, "insufficient_quota"),
        ("400", 400, "invalid_value"),
        ("400 content_filter", 400, "content_filter"),
        ("400 temperature", 400, "unsupported_parameter"),
        ("401", 401, "401"),
        ("403 blocked", 403, "Forbidden"),
        ("404", 404, "DeploymentNotFound"),
        ("500", 500, "InternalServerError"),
        ("503", 503, "ServiceUnavailable"),
    ],
)
async def test_a_prompt_can_request_a_fault(client, fault, status, code):
    """Each error has OpenAI's form and a request id."""
    response = await client.post("/v1/chat/completions", json=chat(f"Please [fault: {fault}]."))

    assert status == response.status_code
    assert code == response.json()["error"]["code"]
    assert response.headers["x-request-id"]


async def test_a_prompt_can_request_a_broken_response(client):
    """A body that is not JSON, and a broken connection."""
    malformed = await client.post("/v1/chat/completions", json=chat("[fault: malformed]"))
    with pytest.raises(httpx.TransportError):
        await client.post("/v1/chat/completions", json=chat("[fault: disconnect]"))

    with pytest.raises(ValueError, match="Expecting"):
        malformed.json()


async def test_an_answer_can_be_filtered(client):
    """`[fault: answer filtered]` is a 200 whose finish_reason is content_filter."""
    response = (await client.post("/v1/chat/completions", json=chat("[fault: answer filtered]"))).json()

    assert response["choices"][0]["finish_reason"] == "content_filter"


async def test_an_image_is_a_real_png(client):
    """Any image prompt gets the bytes of an image, at every URL form."""
    for url in ("/v1/images/generations", "/openai/deployments/d/images/generations?api-version=p"):
        response = (await client.post(url, json={"model": "m", "prompt": "hills"})).json()

        assert base64.b64decode(response["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n")


async def test_embeddings_depend_on_text_and_dimensions(client):
    """The same text has the same vector, another text another one, of the requested length."""
    request = {"model": "m", "input": ["a", "b", "a"], "dimensions": 5}

    data = (await client.post("/v1/embeddings", json=request)).json()["data"]

    assert data[0]["embedding"] == data[2]["embedding"] != data[1]["embedding"]
    assert len(data[0]["embedding"]) == 5


async def test_the_journal_has_requests_without_keys(client, ai_endpoint):
    """It has path, query and body; the key is redacted."""
    marker = uuid.uuid4().hex
    await client.post("/openai/v1/chat/completions?api-version=preview", json=chat(marker, temperature=0.5))

    entries = [entry for entry in await ai_endpoint.journal() if marker in str(entry["body"])]

    assert [entry["path"] for entry in entries] == ["/openai/v1/chat/completions?api-version=preview"]
    assert entries[0]["body"]["temperature"] == 0.5
    assert entries[0]["response"]["status"] == 200
    assert KEY not in str(entries)


async def test_a_fixture_can_be_added_while_it_runs(client, ai_endpoint):
    """A test adds its own answer, for a prompt with a unique text; it precedes the catch-all."""
    marker = uuid.uuid4().hex
    await ai_endpoint.add_fixtures({"match": {"userMessage": marker}, "response": {"content": "mine"}})

    response = (await client.post("/v1/chat/completions", json=chat(f"so: {marker}"))).json()

    assert response["choices"][0]["message"]["content"] == "mine"

"""The local AI endpoint: every URL form, keys, usage, faults that a prompt requests, and the journal."""

import base64
import uuid

import httpx
import pytest

KEY = "tests-key"
PATH = "/v1/chat/completions"


@pytest.fixture
async def client(ai_endpoint):
    async with httpx.AsyncClient(base_url=ai_endpoint.url, headers={"api-key": KEY}, timeout=60) as opened:
        yield opened


def chat(prompt, **parameters):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **parameters}


@pytest.mark.parametrize(
    "url",
    [
        PATH,
        "/openai/v1/chat/completions",
        "/api/projects/p/openai/v1/chat/completions",
        "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        "/models/chat/completions?api-version=2024-05-01-preview",
    ],
)
async def test_every_url_form_is_served(client, url):
    """A chat request succeeds at each kind of endpoint that a connection can have."""
    response = await client.post(url, json=chat("What is the capital of France?"))

    assert response.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_any_prompt_gets_an_answer_with_token_counts(client):
    """
    A prompt without a fixture gets the catch-all answer; a token is counted for every four characters. With
    `response_format`, the answer is a JSON object.
    """
    text = (await client.post(PATH, json=chat("x" * 40))).json()
    json_object = (await client.post(PATH, json=chat("anything", response_format={"type": "json_object"}))).json()

    answer = text["choices"][0]["message"]["content"]
    assert text["usage"]["prompt_tokens"] == 10
    assert -(-len(answer) // 4) == text["usage"]["completion_tokens"]
    assert json_object["choices"][0]["message"]["content"].startswith('{"answer":')


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"api-key": "another-key"}, None),
        ({"authorization": "Bearer another-key"}, None),
        ({"api-key": "wrong"}, "invalid_api_key"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({}, "invalid_api_key"),
    ],
)
async def test_only_the_keys_of_the_start_are_accepted(ai_endpoint, headers, error):
    """The key may be in Azure's header or in OpenAI's; an unknown one is rejected."""
    async with httpx.AsyncClient(base_url=ai_endpoint.url, timeout=60) as client:
        response = await client.post(PATH, json=chat("hi"), headers=headers)

    assert (200 if error is None else 401, error) == (
        response.status_code,
        response.json().get("error", {}).get("code"),
    )


async def test_a_rate_limit_occurs_once(client):
    """`[fault: 429]` gets a 429 with Retry-After, and an answer when it is repeated."""
    first, second = [await client.post(PATH, json=chat("[fault: 429] hello")) for _ in range(2)]

    assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "1", 200)


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
    response = await client.post(PATH, json=chat(f"Please [fault: {fault}]."))

    assert (status, code) == (response.status_code, response.json()["error"]["code"])
    assert response.headers["x-request-id"]


async def test_a_prompt_can_request_another_response(client):
    """A body that is not JSON, a broken connection, and a 200 whose finish_reason is content_filter."""
    malformed = await client.post(PATH, json=chat("[fault: malformed]"))
    filtered = await client.post(PATH, json=chat("[fault: answer filtered]"))
    with pytest.raises(httpx.TransportError):
        await client.post(PATH, json=chat("[fault: disconnect]"))

    with pytest.raises(ValueError, match="Expecting"):
        malformed.json()
    assert filtered.json()["choices"][0]["finish_reason"] == "content_filter"


async def test_an_image_is_a_real_png(client):
    """Any image prompt gets the bytes of an image, at every URL form."""
    for url in ("/v1/images/generations", "/openai/deployments/d/images/generations?api-version=p"):
        response = (await client.post(url, json={"model": "m", "prompt": "hills"})).json()

        assert base64.b64decode(response["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n")


async def test_sound_and_edits_are_served(client):
    """Speech is a WAV, a recording has a text with times, and an edit is an image, at every URL form."""
    for base in ("/v1", "/openai/v1", "/openai/deployments/d"):
        speech = await client.post(f"{base}/audio/speech", json={"model": "m", "input": "Hello.", "voice": "alloy"})
        form = {"model": "m", "response_format": "verbose_json"}
        file = {"file": ("audio.wav", speech.content, "audio/wav")}
        text = (await client.post(f"{base}/audio/transcriptions", data=form, files=file)).json()
        files = {"image[]": ("image-1.png", b"\x89PNG\r\n", "image/png")}
        edit = await client.post(f"{base}/images/edits", data={"model": "m", "prompt": "rain"}, files=files)

        assert b"WAVE" == speech.content[8:12]
        assert ([0.0, 1.8], text["text"]) == (
            [each["start"] for each in text["segments"]],
            "".join(each["text"] for each in text["segments"]).strip(),
        )
        assert base64.b64decode(edit.json()["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n")


async def test_embeddings_depend_on_text_and_dimensions(client):
    """The same text has the same vector, another text another one, of the requested length."""
    request = {"model": "m", "input": ["a", "b", "a"], "dimensions": 5}

    data = (await client.post("/v1/embeddings", json=request)).json()["data"]

    assert data[0]["embedding"] == data[2]["embedding"] != data[1]["embedding"]
    assert len(data[0]["embedding"]) == 5


async def test_a_fixture_can_be_added_and_the_journal_has_its_request(client, ai_endpoint):
    """A fixture for a unique text precedes the catch-all; the journal has path, query, body and status, but no key."""
    marker, path = uuid.uuid4().hex, "/openai/v1/chat/completions?api-version=preview"
    await ai_endpoint.add_fixtures({"match": {"userMessage": marker}, "response": {"content": "mine"}})

    response = (await client.post(path, json=chat(f"so: {marker}", temperature=0.5))).json()

    assert response["choices"][0]["message"]["content"] == "mine"
    (entry,) = [entry for entry in await ai_endpoint.journal() if marker in str(entry["body"])]
    assert (path, 0.5, 200) == (entry["path"], entry["body"]["temperature"], entry["response"]["status"])
    assert KEY not in str(entry)

"""The AI stand-in: every URL shape, keys, usage, faults that a message can ask for, and the journal."""

import base64
import uuid

import httpx
import pytest

KEY = "tests-key"
SHAPES = [
    "/v1/chat/completions",
    "/openai/v1/chat/completions",
    "/api/projects/p/openai/v1/chat/completions",
    "/openai/deployments/d/chat/completions?api-version=2024-10-21",
    "/models/chat/completions?api-version=2024-05-01-preview",
]


@pytest.fixture
async def client(answers):
    async with httpx.AsyncClient(base_url=answers.url, headers={"api-key": KEY}, timeout=60) as made:
        yield made


def chat(prompt, **parameters):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **parameters}


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_url_shape_answers(client, shape):
    """A chat request gets an answer at each kind of endpoint that a connection can hold."""
    reply = await client.post(shape, json=chat("What is the capital of France?"))

    assert reply.json()["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_any_prompt_is_answered_with_counted_tokens(client):
    """An unknown prompt gets the catch-all answer; its tokens are counted from the characters, four each."""
    reply = (await client.post("/v1/chat/completions", json=chat("x" * 40))).json()

    answer = reply["choices"][0]["message"]["content"]
    assert reply["usage"]["prompt_tokens"] == 10
    assert -(-len(answer) // 4) == reply["usage"]["completion_tokens"]


async def test_json_is_answered_with_json(client):
    """A request for a JSON object gets one."""
    request = chat("anything", response_format={"type": "json_object"})

    reply = (await client.post("/v1/chat/completions", json=request)).json()

    assert reply["choices"][0]["message"]["content"].startswith('{"answer":')


@pytest.mark.parametrize("headers", [{"api-key": "wrong"}, {"authorization": "Bearer wrong"}, {}])
async def test_an_unknown_key_is_refused(answers, headers):
    """Only the keys given at the start are let in."""
    async with httpx.AsyncClient(base_url=answers.url, timeout=60) as client:
        reply = await client.post("/v1/chat/completions", json=chat("hi"), headers=headers)

    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("headers", [{"api-key": "another-key"}, {"authorization": "Bearer another-key"}])
async def test_a_key_comes_in_either_header(answers, headers):
    """Azure's header and OpenAI's both carry a key."""
    async with httpx.AsyncClient(base_url=answers.url, timeout=60) as client:
        reply = await client.post("/v1/chat/completions", json=chat("hi"), headers=headers)

    assert reply.status_code == 200


async def test_a_rate_limit_is_met_once(client):
    """`[fault: 429]` is refused with Retry-After, and answered when it comes again."""
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
async def test_a_message_can_ask_for_a_fault(client, fault, status, code):
    """Each refusal comes in OpenAI's shape, with a request id."""
    reply = await client.post("/v1/chat/completions", json=chat(f"Please [fault: {fault}]."))

    assert status == reply.status_code
    assert code == reply.json()["error"]["code"]
    assert reply.headers["x-request-id"]


async def test_a_message_can_ask_for_a_broken_reply(client):
    """A body that is no JSON, and a connection that is cut."""
    malformed = await client.post("/v1/chat/completions", json=chat("[fault: malformed]"))
    with pytest.raises(httpx.TransportError):
        await client.post("/v1/chat/completions", json=chat("[fault: disconnect]"))

    with pytest.raises(ValueError, match="Expecting"):
        malformed.json()


async def test_an_answer_can_be_filtered(client):
    """`[fault: answer filtered]` is a 200 that says so in finish_reason."""
    reply = (await client.post("/v1/chat/completions", json=chat("[fault: answer filtered]"))).json()

    assert reply["choices"][0]["finish_reason"] == "content_filter"


async def test_an_image_is_a_real_png(client):
    """Any image prompt gets the bytes of a picture, whatever the shape of the endpoint."""
    for shape in ("/v1/images/generations", "/openai/deployments/d/images/generations?api-version=p"):
        reply = (await client.post(shape, json={"model": "m", "prompt": "hills"})).json()

        assert base64.b64decode(reply["data"][0]["b64_json"]).startswith(b"\x89PNG\r\n")


async def test_embeddings_follow_the_text_and_the_dimensions(client):
    """The same text has the same vector, another text another one, of the length asked for."""
    request = {"model": "m", "input": ["a", "b", "a"], "dimensions": 5}

    data = (await client.post("/v1/embeddings", json=request)).json()["data"]

    assert data[0]["embedding"] == data[2]["embedding"] != data[1]["embedding"]
    assert len(data[0]["embedding"]) == 5


async def test_the_journal_holds_what_was_received_but_no_key(client, answers):
    """Path, query and body can be asserted; the key is redacted."""
    marker = uuid.uuid4().hex
    await client.post("/openai/v1/chat/completions?api-version=preview", json=chat(marker, temperature=0.5))

    entries = [entry for entry in await answers.journal() if marker in str(entry["body"])]

    assert [entry["path"] for entry in entries] == ["/openai/v1/chat/completions?api-version=preview"]
    assert entries[0]["body"]["temperature"] == 0.5
    assert entries[0]["response"]["status"] == 200
    assert KEY not in str(entries)


async def test_a_fixture_added_while_it_runs_comes_before_the_catch_all(client, answers):
    """A test brings its own answers, for messages that hold a text of its own."""
    marker = uuid.uuid4().hex
    await answers.add_fixtures({"match": {"userMessage": marker}, "response": {"content": "mine"}})

    reply = (await client.post("/v1/chat/completions", json=chat(f"so: {marker}"))).json()

    assert reply["choices"][0]["message"]["content"] == "mine"

"""
A second opinion on the wire: what the providers' own clients send for the same inputs, and how their types
read the replies that we read.

Both sides send to one recording endpoint. Whatever differs must stand in DIFFERENCES with its reason, exactly
so, and what stands there must differ.
"""

from __future__ import annotations

import base64
import inspect
import json
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from azure.ai.inference.aio import ChatCompletionsClient, EmbeddingsClient
from azure.ai.inference.models import JsonSchemaFormat
from azure.core.credentials import AzureKeyCredential
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai.types import CreateEmbeddingResponse, ImagesResponse
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError

from tests.support.endpoint import Received, images, pixels, reply
from tests.support.harness import World

REPLIES = sorted((Path(__file__).parents[2] / "data" / "replies").glob("*.json"))
GA = "2024-10-21"
PREVIEW = "2025-04-01-preview"
ANY = "whatever it is"
KEY = "THE-KEY"
DEPLOYMENT = "my-gpt"
# The bodies are compared as JSON: one client's has a space behind each comma.
UNCOMPARED = {"content-length"}

Client = AsyncOpenAI | AsyncAzureOpenAI


@dataclass(frozen=True)
class Shape:
    """One of the shapes that an endpoint can have: our connection to it, and the client's."""

    name: str
    path: str
    """Behind the host."""
    secret: Mapping[str, str]
    client: Callable[[str, str], Client] | None
    """From the endpoint's URL and a key; None for the older route, which has a client of its own."""
    style: str = "v1"


def _v1(path: str, **options: Any) -> Callable[[str, str], Client]:
    return lambda url, key: AsyncOpenAI(base_url=f"{url}{path}", api_key=key, max_retries=0, **options)


def _azure(**options: Any) -> Callable[[str, str], Client]:
    return lambda url, key: AsyncAzureOpenAI(azure_endpoint=url, api_key=key, max_retries=0, **options)


AZURE, FOUNDRY = {"provider": "azure_openai"}, {"provider": "foundry"}
OPENAI = {"provider": "openai", "organization": "org-1", "project": "proj-1"}
D = f"/openai/deployments/{DEPLOYMENT}"
SHAPES = [
    Shape("azure v1", "/openai/v1/", AZURE, _v1("/openai/v1/")),
    Shape(
        "azure v1 with a version",
        "/openai/v1?api-version=preview",
        AZURE,
        _v1("/openai/v1", default_query={"api-version": "preview"}),
    ),
    Shape("deployment", D, AZURE, _azure(azure_deployment=DEPLOYMENT, api_version=GA), "deployments"),
    Shape(
        "deployment with an operation and a version",
        f"{D}/chat/completions?api-version={PREVIEW}",
        AZURE,
        _azure(azure_deployment=DEPLOYMENT, api_version=PREVIEW),
        "deployments",
    ),
    Shape("resource root", "", AZURE, _azure(api_version=GA), "deployments"),
    Shape("foundry v1", "/openai/v1", FOUNDRY, _v1("/openai/v1")),
    Shape("foundry project", "/api/projects/P/openai/v1", FOUNDRY, _v1("/api/projects/P/openai/v1")),
    Shape("foundry models", "/models", FOUNDRY, None, "models"),
    Shape("openai", "/v1", OPENAI, _v1("/v1", organization="org-1", project="proj-1"), "openai"),
    Shape("openai without a path", "", {"provider": "openai"}, _v1("/v1"), "openai"),
]


@dataclass(frozen=True)
class Case:
    """The same wish twice: a job's input, and the members of the operation's body."""

    name: str
    action: str
    asked: Mapping[str, Any]
    members: Mapping[str, Any]


def chat(name: str, messages: Any = None, **parameters: Any) -> Case:
    """A chat with these parameters."""
    messages = messages or [{"role": "user", "content": "Hello?"}]
    return Case(name, "chat", {"messages": messages, "parameters": parameters}, {"messages": messages, **parameters})


def image(name: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """An image of a cat."""
    whole = {"prompt": "A cat, déjà vu", **members}
    return Case(name, "image", whole | {"parameters": parameters or {}}, whole | (parameters or {}))


def embed(name: str, texts: list[str], parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Vectors of texts."""
    asked = {"texts": texts, "parameters": parameters or {}, **members}
    return Case(name, "embed", asked, {"input": texts, **members, **(parameters or {})})


TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
CALLED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Weather in Zürich? ☂ 😀 \u2028"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Zürich"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": '{"rain": true}'},
]
SEEN = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        ],
    }
]
CASES = [
    chat("nothing but messages"),
    chat(
        "sampling",
        temperature=0.7,
        top_p=0.1,
        seed=42,
        stop=["\n", "END"],
        frequency_penalty=-0.5,
        presence_penalty=1.5,
        max_tokens=100,
    ),
    chat("zeroes and a single stop", temperature=0, top_p=1.0, seed=0, stop="\n"),
    chat("several choices", n=3),
    chat("likelihoods", logprobs=True, top_logprobs=5, logit_bias={"50256": -100, "1734": 1}),
    chat("reasoning", max_completion_tokens=2**40, reasoning_effort="minimal", verbosity="low"),
    chat("a schema", response_format=SCHEMA),
    chat("tools", CALLED, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    chat("tools side by side", tools=[TOOL], tool_choice="auto", parallel_tool_calls=False),
    chat("a picture", SEEN),
    chat("who asks", user="u-1", safety_identifier="s-1", service_tier="flex", store=True, metadata={"order": "7"}),
    chat("a stream that is none", stream=False),
    chat("what nobody knows", x_vendor={"deep": [1, None, {"ü": 1e-7}]}, top_k=5),
    image("a picture"),
    image("several", n=2, size="1024x1536", quality="high", output_format="webp"),
    image("and more", {"background": "transparent", "output_compression": 80, "user": "u-1", "x_vendor": 1}),
    embed("a text", ["Hello."]),
    embed("several", ["Hello.", "Grüße ☂"], dimensions=256),
    embed("as numbers", ["Hello."], {"encoding_format": "float", "user": "u-1"}),
    embed("packed", ["Hello."], {"encoding_format": "base64", "x_vendor": 1}),
    Case(
        "any other operation",
        "raw",
        {"path": "responses", "json": {"model": DEPLOYMENT, "input": "Hello?", "store": False}},
        {"input": "Hello?", "store": False},
    ),
]


@dataclass(frozen=True)
class Difference:
    """What differs, and is meant to."""

    what: str
    ours: Any
    theirs: Any
    reason: str
    styles: set[str] = field(default_factory=lambda: {"v1", "deployments", "models", "openai"})
    if_: Callable[[Shape, Case], bool] = lambda _shape, _case: True


def _extras(_: Shape, case: Case) -> bool:
    method = ChatCompletionsClient.complete if case.action == "chat" else EmbeddingsClient.embed
    return bool(set(case.members) - OWN_PARAMETERS[method.__qualname__])


# What the older route's client has names for; it sends anything else as a "model extra", with the header.
OWN_PARAMETERS = {
    "ChatCompletionsClient.complete": {
        *("messages", "stream", "frequency_penalty", "max_tokens", "model", "presence_penalty", "response_format"),
        *("seed", "stop", "temperature", "tool_choice", "tools", "top_p"),
    },
    "EmbeddingsClient.embed": {"input", "dimensions", "encoding_format", "input_type", "model"},
}

OF_OPENAI = {"v1", "deployments", "openai"}
DIFFERENCES = [
    Difference(
        "header api-key",
        KEY,
        None,
        "Azure documents `api-key` for keys, and gateways look for it; it takes a bearer as well.",
        {"v1"},
    ),
    Difference("header authorization", None, f"Bearer {KEY}", "The same key, in the one header above.", {"v1"}),
    Difference(
        "header authorization",
        None,
        f"Bearer {KEY}",
        "That client sends the key in both headers at once, not knowing what answers; `/models` takes `api-key`.",
        {"models"},
    ),
    Difference("header user-agent", "customer-ai-jobs", ANY, "Each says what it is."),
    Difference("header accept", "*/*", "application/json", "What comes is read, or told to be no answer."),
    Difference("header x-stainless-*", None, ANY, "That client tells its own version and platform.", OF_OPENAI),
    Difference("header connection", "keep-alive", None, "It is HTTP/1.1's default, said or not.", {"models"}),
    Difference("header x-ms-client-request-id", None, ANY, "An Azure SDK's own number of the call.", {"models"}),
    Difference(
        "header extra-parameters",
        "pass-through",
        None,
        "Which parameters are extra is the provider's to know: it is told always to pass them on.",
        {"models"},
        lambda shape, case: not _extras(shape, case),
    ),
    Difference(
        "body encoding_format",
        None,
        "base64",
        "That client asks for packed numbers and unpacks them; nothing is added to what a caller asks for.",
        OF_OPENAI,
        lambda _, case: case.action == "embed" and "encoding_format" not in case.members,
    ),
    Difference(
        "query api-version",
        PREVIEW,
        GA,
        "GPT image models need the preview; it is chosen where nobody chose a version.",
        {"deployments"},
        lambda shape, case: case.action == "image" and PREVIEW not in shape.path,
    ),
]

PAIRS = [
    (shape, case)
    for shape in SHAPES
    for case in CASES
    if shape.style != "models" or case.action in {"chat", "embed"}  # the older route has no others
]


@asynccontextmanager
async def older(kind: type[Any], url: str, key: str) -> AsyncIterator[Any]:
    """A client of Foundry's older route."""
    async with kind(endpoint=url, credential=AzureKeyCredential(key), retry_total=0) as client:
        yield client


async def ask_client(shape: Shape, case: Case, url: str, key: str) -> None:
    """Has the provider's own client do what the case asks for."""
    if shape.client is None:
        kind, name = (ChatCompletionsClient, "complete") if case.action == "chat" else (EmbeddingsClient, "embed")
        own = OWN_PARAMETERS[f"{kind.__name__}.{name}"]
        known = {key: value for key, value in case.members.items() if key in own}
        extras = {key: value for key, value in case.members.items() if key not in own}
        if (asked := known.get("response_format")) is not None:  # there that client wants a class of its own
            known["response_format"] = JsonSchemaFormat(**asked["json_schema"])
        async with older(kind, f"{url}{shape.path}", key) as client:
            await getattr(client, name)(**known, model=DEPLOYMENT, model_extras=extras or None)
        return
    async with shape.client(url, key) as client:
        method: Callable[..., Awaitable[Any]] = {
            "chat": client.chat.completions.create,
            "image": client.images.generate,
            "embed": client.embeddings.create,
            "raw": client.responses.create,
        }[case.action]
        parameters = inspect.signature(method).parameters
        known = {name: value for name, value in case.members.items() if name in parameters}
        extra = {name: value for name, value in case.members.items() if name not in parameters}
        await method(**known, model=DEPLOYMENT, extra_body=extra or None)


def said(received: Received, key: str) -> dict[str, Any]:
    """A request, part by part, its key replaced."""
    parts: dict[str, Any] = {"method": received.method, "path": received.path}
    for name, value in received.headers.items():
        if name.startswith("x-stainless-"):
            parts["header x-stainless-*"] = ANY
        elif name not in UNCOMPARED:
            parts[f"header {name}"] = value.replace(key, KEY)
    parts |= {f"query {name}": value for name, value in received.query.items()}
    return parts | {f"body {name}": value for name, value in received.json.items()}


@pytest.mark.parametrize(
    ("shape", "case"), PAIRS, ids=[f"{shape.name}: {case.action} {case.name}" for shape, case in PAIRS]
)
async def test_we_send_what_the_providers_own_client_sends(world: World, shape: Shape, case: Case):
    """Method, path, query, every header and the body are the client's, but for what DIFFERENCES says and explains."""
    customer = world.customer(endpoint=f"{world.endpoint.url}{shape.path}", default_model=DEPLOYMENT, **shape.secret)
    peer = world.endpoint.account()

    customer.account.will_answer(*[images(*[pixels()] * case.asked.get("n", 1))] * (case.action == "image"))

    await ask_client(shape, case, world.endpoint.url, peer.key)
    result = await customer.run(action=case.action, input=case.asked)

    assert result["status"] == "succeeded"
    (one,), (other,) = customer.account.received, peer.received
    ours, theirs = said(one, customer.account.key), said(other, peer.key)
    found = {name: (ours.get(name), theirs.get(name)) for name in ours | theirs if ours.get(name) != theirs.get(name)}
    meant = {
        difference.what: (
            difference.ours,
            found.get(difference.what, (None, None))[1] if difference.theirs == ANY else difference.theirs,
        )
        for difference in DIFFERENCES
        if shape.style in difference.styles and difference.if_(shape, case)
    }
    assert meant == found


async def test_many_prompts_are_as_many_chats_of_the_client(world: World):
    """`multi_chat` sends for each prompt what the client sends for it as a chat."""
    customer, peer = world.customer(default_model=DEPLOYMENT), world.endpoint.account()
    parameters = {"temperature": 0.5, "stop": ["\n"]}
    prompts = ["One?", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two?"}]]

    await customer.run(action="multi_chat", input={"prompts": prompts, "parameters": parameters})
    async with AsyncOpenAI(base_url=f"{world.endpoint.url}/openai/v1", api_key=peer.key) as client:
        for prompt in prompts:
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            await client.chat.completions.create(model=DEPLOYMENT, messages=messages, **parameters)

    ours, theirs = ([received.json for received in one.received] for one in (customer.account, peer))
    assert sorted(theirs, key=str) == sorted(ours, key=str)


async def test_a_post_without_a_body_is_the_clients(world: World):
    """A `raw` POST of nothing, such as a cancellation, is the client's, which says all the same that it is JSON."""
    customer, peer = world.customer(), world.endpoint.account()

    await customer.run(action="raw", input={"path": "batches/b1/cancel", "method": "POST"})
    async with AsyncOpenAI(base_url=f"{world.endpoint.url}/openai/v1", api_key=peer.key) as client:
        await client.batches.cancel("b1")

    (ours,), (theirs,) = customer.account.received, peer.received
    assert (theirs.method, theirs.path, theirs.body) == (ours.method, ours.path, ours.body)
    length, kind = "content-length", "content-type"
    assert ("0", None) == (ours.headers.get(length), ours.headers.get(kind))
    assert ("0", "application/json") == (theirs.headers.get(length), theirs.headers.get(kind))


async def test_a_prompt_with_its_surroundings_is_the_clients_messages(world: World):
    """`system`, `history` and `prompt` are the messages that one would write for the client by hand."""
    customer, peer = world.customer(default_model=DEPLOYMENT), world.endpoint.account()
    history = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]

    await customer.run(input={"system": "Be brief.", "history": history, "prompt": "And now?"})
    async with AsyncOpenAI(base_url=f"{world.endpoint.url}/openai/v1", api_key=peer.key) as client:
        system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "And now?"}
        await client.chat.completions.create(model=DEPLOYMENT, messages=[system, *history, user])

    assert peer.received[0].json == customer.account.received[0].json


def decoded_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The body as the client has it once it has unpacked what was packed."""
    data = [
        item | {"embedding": list(array("f", base64.b64decode(item["embedding"])))}
        if isinstance(item["embedding"], str)
        else item
        for item in body["data"]
    ]
    return body | {"data": data}


def beyond(model: BaseModel, at: str = "") -> set[str]:
    """Where an answer has members that the client's types do not know."""
    found = {f"{at}{name}" for name in model.model_extra or {}}
    for name in type(model).model_fields:
        value = getattr(model, name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, BaseModel):
                found |= beyond(one, f"{at}{name}.")
    return found


def read_by_client(action: str, body: dict[str, Any]) -> BaseModel:
    """The body as one of the client's types, every member held to its type. Raises ValidationError."""
    body = decoded_embeddings(body) if action == "embed" else body
    kinds: dict[str, type[BaseModel]] = {
        "chat": ChatCompletion,
        "embed": CreateEmbeddingResponse,
        "image": ImagesResponse,
    }
    return kinds[action].model_validate(body, strict=True)


def golden(path: Path) -> dict[str, Any]:
    """A golden reply."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_there_are_golden_replies():
    """The golden replies are found where they are looked for, each with its source."""
    assert 15 == len(REPLIES)
    assert all(golden(path)["source"] for path in REPLIES)


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_golden_replies_are_what_the_clients_types_say(path: Path):
    """Each golden reply holds to the client's types, and has no member beyond them but those it lists."""
    reply_told = golden(path)

    read = read_by_client(reply_told["action"], reply_told["body"])

    assert set(reply_told["beyond"]) == beyond(read)


@pytest.mark.parametrize("path", REPLIES, ids=lambda path: path.stem)
def test_a_wrong_shape_would_be_noticed(path: Path):
    """A golden reply without one of its members, or with one of another type, is not what the types say."""
    reply_told = golden(path)
    action, body = reply_told["action"], reply_told["body"]
    (items,) = (name for name in ("choices", "data") if name in body)

    with pytest.raises(ValidationError):
        read_by_client(action, body | {"created" if "created" in body else "model": []})
    with pytest.raises(ValidationError):
        read_by_client(action, body | {"usage": {"prompt_tokens": "7"}})
    if action != "embed":
        with pytest.raises(ValidationError):
            read_by_client(action, body | {items: [{"message": 1, "url": 1}]})


@pytest_asyncio.fixture(scope="module")
async def picture() -> AsyncIterator[str]:
    """The address of a picture."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=pixels(4, 2), content_type="image/png")

    app = web.Application()
    app.router.add_get("/cat.png", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/cat.png"))


@pytest.mark.parametrize(
    "path",
    REPLIES,
    ids=lambda path: path.stem,
)
async def test_golden_replies_are_read_as_expected(world: World, picture: str, path: Path):
    """What a job comes to when the endpoint gives the golden reply stands beside it."""
    told = golden(path)
    models = {"endpoint": f"{world.endpoint.url}/models", "provider": "foundry"} if "models" in path.stem else {}
    customer = world.customer(**models)
    body = json.dumps(told["body"]).replace("PICTURE_URL", picture).encode()
    customer.account.will_answer(reply(body, headers=told["headers"]))

    result = await customer.run(action=told["action"], input=told["asked"], job_id="golden")

    text = json.dumps({name: result[name] for name in ("status", "output", "error", "usage") if name in result})
    text = text.replace(customer.name, "CUSTOMER").replace(world.environment["RESULTS_CONTAINER"], "RESULTS")
    assert told["expected"] == json.loads(text)
    assert 1 == len(customer.account.received)

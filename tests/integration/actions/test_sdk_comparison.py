"""
Requests compared with those of the providers' own SDKs for the same inputs.

Both are sent to one recording endpoint. DIFFERENCES lists every difference with its reason, and each of them must
occur.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest
from azure.core.credentials import AzureKeyCredential

from shared.contract.job import ACTIONS
from tests.support.endpoint import Received, images, pixels
from tests.support.forms import read_form
from tests.support.harness import Harness
from tests.support.input_blobs import BLOBS, with_blobs
from tests.support.sdks import openai

GA = "2024-10-21"
PREVIEW = "2025-04-01-preview"
ANY = "any value"
KEY = "THE-KEY"
DEPLOYMENT = "my-gpt"
# Bodies are compared as JSON: one SDK writes a space after each comma.
IGNORED_HEADERS = {"content-length"}
CHATS = {"chat", "multi_chat"}
BACKGROUND = {"background": True, "store": True}
IN_PREVIEW = {"image", "edit_image", "transcribe", "speak"}


@dataclass(frozen=True)
class Shape:
    """A kind of endpoint: our connection to it, and the SDK's client for it."""

    name: str
    path: str
    """After the host."""
    secret: Mapping[str, str]
    client: Callable[[str, str], openai.AsyncOpenAI] | None
    """Makes the client from the endpoint's URL and a key; None for the older route, which has an SDK of its own."""
    style: str = "v1"


def _v1(path: str, **options: Any) -> Callable[[str, str], openai.AsyncOpenAI]:
    return lambda url, key: openai.AsyncOpenAI(base_url=f"{url}{path}", api_key=key, max_retries=0, **options)


def _azure(**options: Any) -> Callable[[str, str], openai.AsyncOpenAI]:
    return lambda url, key: openai.AsyncAzureOpenAI(azure_endpoint=url, api_key=key, max_retries=0, **options)


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
    """One request in two forms: a job's input, and the members of the SDK's call."""

    name: str
    action: str
    input: Mapping[str, Any]
    members: Mapping[str, Any]


def chat(name: str, messages: Any = None, **parameters: Any) -> Case:
    """Return a chat with these parameters."""
    messages = messages or [{"role": "user", "content": "Hello?"}]
    return Case(name, "chat", {"messages": messages, "parameters": parameters}, {"messages": messages, **parameters})


def image(name: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return a request for an image."""
    own = {"prompt": "A cat, déjà vu", **members}
    return Case(name, "image", own | {"parameters": parameters or {}}, own | (parameters or {}))


def embed(name: str, texts: list[str], parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return a request for vectors."""
    own = {"texts": texts, "parameters": parameters or {}, **members}
    return Case(name, "embed", own, {"input": texts, **members, **(parameters or {})})


def edit(name: str, *files: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return an edit of these blobs; the SDK gets their bytes under the names that we send."""
    own = {"prompt": "A cat, déjà vu", **members}
    named = [(f"image-{k}.png", BLOBS[file], "image/png") for k, file in enumerate(files, 1)]
    inputs = {"images": [f"INPUTS/{file}" for file in files], "parameters": parameters or {}}
    return Case(name, "edit_image", own | inputs, own | (parameters or {}) | {"image": named})


def transcribe(name: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return a transcription; of a format with times if `members` say so."""
    file = ("audio.wav", BLOBS["call.wav"], "audio/wav")
    own = {"blob": "INPUTS/call.wav", "parameters": parameters or {}, **members}
    return Case(name, "transcribe", own, {"file": file, **members, **(parameters or {})})


def speak(name: str, parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return a text to be spoken; `response_format` is our `format`."""
    own = {"text": "Grüße ☂", "voice": "alloy", "parameters": parameters or {}, **members}
    theirs = {"response_format": members["format"]} if members else {}
    return Case(name, "speak", own, {"input": "Grüße ☂", "voice": "alloy", **theirs, **(parameters or {})})


def respond(name: str, text: Any = "Hello?", parameters: Mapping[str, Any] | None = None, **members: Any) -> Case:
    """Return a response that is made in the background."""
    own = {"input": text, "parameters": parameters or {}, **members}
    return Case(name, "respond", own, {"input": text, **members, **BACKGROUND, **(parameters or {})})


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
TOOL_CALL = [
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
IMAGE_PART = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        ],
    }
]
CASES = [
    chat("messages alone"),
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
    chat("zeros and a single stop", temperature=0, top_p=1.0, seed=0, stop="\n"),
    chat("several choices", n=3),
    chat("log probabilities", logprobs=True, top_logprobs=5, logit_bias={"50256": -100, "1734": 1}),
    chat("reasoning", max_completion_tokens=2**40, reasoning_effort="minimal", verbosity="low"),
    chat("a schema", response_format=SCHEMA),
    chat("tools", TOOL_CALL, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    chat("tools side by side", tools=[TOOL], tool_choice="auto", parallel_tool_calls=False),
    chat("an image", IMAGE_PART),
    chat(
        "user and metadata",
        user="u-1",
        safety_identifier="s-1",
        service_tier="flex",
        store=True,
        metadata={"order": "7"},
    ),
    chat("stream off", stream=False),
    chat("unknown parameters", x_vendor={"deep": [1, None, {"ü": 1e-7}]}, top_k=5),
    Case(
        "a prompt with history",
        "chat",
        {"system": "Be brief.", "history": TOOL_CALL[1:], "prompt": "And now?", "parameters": {"stop": ["\n"]}},
        {"messages": [*TOOL_CALL, {"role": "user", "content": "And now?"}], "stop": ["\n"]},
    ),
    Case("a prompt of many", "multi_chat", {"prompts": ["Two?"]}, {"messages": [{"role": "user", "content": "Two?"}]}),
    Case(
        "messages of many",
        "multi_chat",
        {"prompts": [TOOL_CALL], "parameters": {"temperature": 0.5}},
        {"messages": TOOL_CALL, "temperature": 0.5},
    ),
    image("a prompt"),
    image("several", n=2, size="1024x1536", quality="high", output_format="webp"),
    image("parameters", {"background": "transparent", "output_compression": 80, "user": "u-1", "x_vendor": 1}),
    embed("a text", ["Hello."]),
    embed("several", ["Hello.", "Grüße ☂"], dimensions=256),
    embed("as numbers", ["Hello."], {"encoding_format": "float", "user": "u-1"}),
    embed("packed", ["Hello."], {"encoding_format": "base64", "x_vendor": 1}),
    edit("an image", "a.png"),
    edit(
        "images", "a.png", "b.png", n=2, size="1024x1536", parameters={"quality": "high", "x_vendor": [1, {"a": True}]}
    ),
    transcribe("a recording"),
    transcribe("times", {"timestamp_granularities": ["word", "segment"]}, response_format="verbose_json"),
    transcribe(
        "all that there is",
        {
            "temperature": 0.5,
            "include": ["logprobs"],
            "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
            "x_vendor": None,
        },
        language="de",
        prompt="Zürich ☂",
    ),
    speak("a text"),
    speak("a format", {"speed": 1.25, "instructions": "Gently.", "x_vendor": {"a": 1}}, format="opus"),
    respond("a text"),
    respond(
        "all that there is",
        [{"role": "user", "content": [{"type": "input_text", "text": "Zürich ☂"}]}],
        {"tools": [{"type": "web_search"}], "reasoning": {"effort": "high"}, "x_vendor": {"a": 1}},
        instructions="Be brief.",
        previous_response_id="resp_0",
    ),
    Case(
        "another operation",
        "raw",
        {"path": "responses", "json": {"model": DEPLOYMENT, "input": "Hello?", "store": False}},
        {"input": "Hello?", "store": False},
    ),
]


@dataclass(frozen=True)
class Difference:
    """An intended difference. `name`: the part of the request, such as `header accept`."""

    name: str
    ours: Any
    theirs: Any
    reason: str
    styles: set[str] = field(default_factory=lambda: {"v1", "deployments", "models", "openai"})
    applies: Callable[[Shape, Case], bool] = lambda _shape, _case: True


def _extras(_: Shape, case: Case) -> bool:
    return bool(set(case.members) - OWN_PARAMETERS["chat" if case.action in CHATS else "embed"])


# The parameters that the older route's SDK has names for. It sends any other as a "model extra", with the header.
OWN_PARAMETERS = {
    "chat": {
        *("messages", "stream", "frequency_penalty", "max_tokens", "model", "presence_penalty", "response_format"),
        *("seed", "stop", "temperature", "tool_choice", "tools", "top_p"),
    },
    "embed": {"input", "dimensions", "encoding_format", "input_type", "model"},
}

OF_OPENAI = {"v1", "deployments", "openai"}
DIFFERENCES = [
    Difference(
        "header api-key",
        KEY,
        None,
        "Azure documents `api-key` for keys, and gateways expect it. Azure takes a bearer token too.",
        {"v1"},
    ),
    Difference("header authorization", None, f"Bearer {KEY}", "The same key, in the header above.", {"v1"}),
    Difference(
        "header authorization",
        None,
        f"Bearer {KEY}",
        "That SDK sends the key in both headers, since it doesn't know the endpoint. `/models` takes `api-key`.",
        {"models"},
    ),
    Difference("header user-agent", "customer-ai-jobs", ANY, "Each has its own name."),
    Difference("header accept", "*/*", "application/json", "Any media type is read; what can't be read is an error."),
    Difference("header x-stainless-*", None, ANY, "That SDK sends its version and platform.", OF_OPENAI),
    Difference("header connection", "keep-alive", None, "The default of HTTP/1.1, written out.", {"models"}),
    Difference("header x-ms-client-request-id", None, ANY, "An Azure SDK's own id of the call.", {"models"}),
    Difference(
        "header extra-parameters",
        "pass-through",
        None,
        "We don't know which parameters are extra, so we always request that they are passed on.",
        {"models"},
        lambda shape, case: not _extras(shape, case),
    ),
    Difference(
        "body encoding_format",
        None,
        "base64",
        "That SDK requests packed numbers and unpacks them. We add nothing to the caller's parameters.",
        OF_OPENAI,
        lambda _, case: case.action == "embed" and "encoding_format" not in case.members,
    ),
    Difference(
        "query api-version",
        PREVIEW,
        GA,
        "Newer models need the preview version. It is the default for images and audio if the connection names none.",
        {"deployments"},
        lambda shape, case: case.action in IN_PREVIEW and PREVIEW not in shape.path,
    ),
    Difference(
        "header accept",
        "*/*",
        "application/octet-stream",
        "As above, for audio.",
        OF_OPENAI,
        lambda _, case: case.action == "speak",
    ),
    Difference(
        "body metadata",
        ANY,
        None,
        "It says which job created the response, so that one whose creation got no answer can be found.",
        {"v1", "openai"},
        lambda _, case: case.action == "respond",
    ),
]

FIRST_SHAPES = {shape.style: shape for shape in reversed(SHAPES)}
FIRST_CASES = {case.action: case for case in reversed(CASES)}


def pairs() -> Iterator[Any]:
    """
    Return every style with every case, and every shape with a case of each action; long, unless both are the first
    of their kinds. What a body has does not depend on the path of an endpoint.
    """
    for shape in SHAPES:
        for case in CASES:
            if shape.style == "models" and case.action not in {*CHATS, "embed"}:
                continue  # the older route has no others
            if shape.style == "deployments" and case.action == "respond":
                continue
            if shape not in FIRST_SHAPES.values() and case not in FIRST_CASES.values():
                continue
            is_short = shape in FIRST_SHAPES.values() and case in FIRST_CASES.values()
            marks = () if is_short else (pytest.mark.long,)
            yield pytest.param(shape, case, id=f"{shape.name}: {case.action} {case.name}", marks=marks)


async def call_sdk(shape: Shape, case: Case, url: str, key: str) -> None:
    """Make the case's request with the provider's SDK. That of the older route is imported by whoever runs this."""
    method: Callable[..., Awaitable[Any]]
    if shape.client is None:
        inference, models = (import_module(f"azure.ai.inference.{name}") for name in ("aio", "models"))
        is_chat = case.action in CHATS
        own = OWN_PARAMETERS["chat" if is_chat else "embed"]
        named = {key: value for key, value in case.members.items() if key in own}
        extras = {key: value for key, value in case.members.items() if key not in own}
        if (response_format := named.get("response_format")) is not None:  # that SDK requires a class of its own
            named["response_format"] = models.JsonSchemaFormat(**response_format["json_schema"])
        kind = inference.ChatCompletionsClient if is_chat else inference.EmbeddingsClient
        async with kind(endpoint=f"{url}{shape.path}", credential=AzureKeyCredential(key), retry_total=0) as client:
            method = client.complete if is_chat else client.embed
            await method(**named, model=DEPLOYMENT, model_extras=extras or None)
        return
    async with shape.client(url, key) as client:
        method = {
            "chat": client.chat.completions.create,
            "multi_chat": client.chat.completions.create,
            "image": client.images.generate,
            "embed": client.embeddings.create,
            "edit_image": client.images.edit,
            "transcribe": client.audio.transcriptions.create,
            "speak": client.audio.speech.create,
            "raw": client.responses.create,
            "respond": client.responses.create,
        }[case.action]
        parameters = inspect.signature(method).parameters
        named = {name: value for name, value in case.members.items() if name in parameters}
        extra = {name: value for name, value in case.members.items() if name not in parameters}
        await method(**named, model=DEPLOYMENT, extra_body=extra or None)


def parts_of(received: Received, key: str) -> dict[str, Any]:
    """Return the parts of a request by name, its key replaced."""
    parts: dict[str, Any] = {"method": received.method, "path": received.path}
    for name, value in received.headers.items():
        if name.startswith("x-stainless-"):
            parts["header x-stainless-*"] = ANY
        elif name not in IGNORED_HEADERS:
            parts[f"header {name}"] = value.replace(key, KEY)
    parts |= {f"query {name}": value for name, value in received.query.items()}
    if received.headers["content-type"].startswith("multipart/form-data; boundary="):
        parts["header content-type"] = "multipart/form-data"
        form = read_form(received)
        return parts | {f"body {name}": [part for part in form if part.name == name] for name in {p.name for p in form}}
    return parts | {f"body {name}": value for name, value in received.json.items()}


@pytest.mark.parametrize(("shape", "case"), [*pairs()])
async def test_requests_are_those_of_the_sdk(harness: Harness, shape: Shape, case: Case):
    """Method, path, query, every header and the body are the SDK's, except for the listed differences."""
    customer = harness.customer(
        endpoint=f"{harness.endpoint.url}{shape.path}", default_model=DEPLOYMENT, **shape.secret
    )
    sdk_account = harness.endpoint.account()
    if case.action in {"image", "edit_image"}:
        customer.account.will_answer(images(*[pixels()] * case.input.get("n", 1)))

    await call_sdk(shape, case, harness.endpoint.url, sdk_account.key)
    result = await customer.run(**await with_blobs(customer, {"action": case.action, "input": case.input}))

    assert "succeeded" == result["status"], result
    (our_request,), (sdk_request,) = customer.account.received, sdk_account.received
    ours, theirs = parts_of(our_request, customer.account.key), parts_of(sdk_request, sdk_account.key)
    actual = {name: (ours.get(name), theirs.get(name)) for name in ours | theirs if ours.get(name) != theirs.get(name)}
    expected = {
        difference.name: (
            actual.get(difference.name, (None, None))[0] if difference.ours == ANY else difference.ours,
            actual.get(difference.name, (None, None))[1] if difference.theirs == ANY else difference.theirs,
        )
        for difference in DIFFERENCES
        if shape.style in difference.styles and difference.applies(shape, case)
    }
    assert expected == actual


def test_every_action_is_compared():
    """A summary is chats."""
    assert {*ACTIONS} - {"summarize"} == set(FIRST_CASES)


async def test_post_without_a_body_is_the_sdks(harness: Harness):
    """A `raw` POST without a body, such as a cancellation, is the SDK's, except that the SDK sets a content type."""
    customer, sdk_account = harness.customer(), harness.endpoint.account()

    await customer.run(action="raw", input={"path": "batches/b1/cancel", "method": "POST"})
    async with openai.AsyncOpenAI(base_url=f"{harness.endpoint.url}/openai/v1", api_key=sdk_account.key) as client:
        await client.batches.cancel("b1")

    (ours,), (theirs,) = customer.account.received, sdk_account.received
    assert (theirs.method, theirs.path, theirs.body) == (ours.method, ours.path, ours.body)
    names = ("content-length", "content-type")
    assert ["0", None] == [ours.headers.get(name) for name in names]
    assert ["0", "application/json"] == [theirs.headers.get(name) for name in names]

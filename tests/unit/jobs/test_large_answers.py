"""Large answers, which are read in another process: results, usage and errors are those of small ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from shared.actions.chat import parse_chat
from shared.contract.decoding import decode_condensed
from shared.contract.usage import Usage
from shared.jobs import steps
from shared.jobs.attempt_usage import AttemptUsage
from shared.telemetry.base import CallObserver, RequestInfo, Telemetry
from shared.upstream import messages
from shared.upstream.messages import Response
from shared.upstream.side_process import SideProcess
from tests.support.customers import Customer
from tests.support.endpoint import completion, pixels, reply
from tests.support.workers import OpenWorker, Worker

LARGE_BYTES = 5 * 1024 * 1024 // 4
"""In these tests; a little more than what is no longer decoded within a value."""
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
NUMBERS = [0.25] * (LARGE_BYTES // 5)
LONG_TEXT = "an answer, long " * (LARGE_BYTES // 16)
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": LONG_TEXT}}
CHAT = {"id": "c-1", "model": "m-1", "choices": [CHOICE], "usage": USAGE}
PNG = pixels(2, 3) + b"\0" * LARGE_BYTES


class Observer(CallObserver):
    """Keeps the bodies that it gets."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def response_received(self, body: bytes) -> None:
        """See CallObserver."""
        self.bodies.append(body)


class Reports(Telemetry):
    """Observes all calls."""

    def __init__(self) -> None:
        self.observer = Observer()

    def call(self, request: RequestInfo) -> AbstractContextManager[CallObserver]:
        """See Telemetry."""
        del request
        return nullcontext(self.observer)


@pytest.fixture(autouse=True)
def _sooner_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LARGE_BYTES", LARGE_BYTES)


async def run(worker: Worker, customer: Customer, answer: Any, **members: Any) -> dict[str, Any]:
    """Run a job, and return its full result."""
    customer.account.will_answer(answer)
    result = await worker.run(customer, **members)
    if "output_blob" not in result:
        return result
    blob = result["output_blob"]
    full: dict[str, Any] = json.loads(worker.memory.blobs.blobs[blob["container"], blob["name"]][0])
    assert result["usage"] == full["usage"]
    return full


async def test_a_large_chat_is_like_a_small_one(open_worker: OpenWorker):
    """
    All that the choices hold, the usage, and the model are in the result. Telemetry reads no large answer: it would
    read it on the worker's event loop.
    """
    reports = Reports()
    worker = open_worker(telemetry=reports)
    result = await run(worker, worker.customer(), reply(CHAT))
    await run(worker, worker.customer(), completion("Hi."))

    expected = parse_chat(Response(200, {}, json.dumps(CHAT).encode(), None)).output
    assert expected == result["output"]
    assert ("succeeded", 11, 7) == (result["status"], result["usage"]["input_tokens"], result["usage"]["output_tokens"])
    assert [False, True] == [bool(body) for body in reports.observer.bodies]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["json", "json as text", "events as text"])
async def test_a_large_raw_answer_is_like_a_small_one(worker: Worker, kind: str):
    """Its JSON, text or events are in the result, and its usage is recorded."""
    members = {"a": NUMBERS, "usage": USAGE}
    events = b'data: {"a": "' + b"x" * LARGE_BYTES + b'", "usage": ' + json.dumps(USAGE).encode() + b"}\n\n"
    body = {"json": members, "json as text": json.dumps(members).encode(), "events as text": events}[kind]
    request: dict[str, Any] = {"path": "chat/completions", "json": {"model": "m"}}
    output: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        request["response_type"], output = "text", {"text": body.decode()}
    result = await run(worker, worker.customer(), reply(body), action="raw", input=request)

    assert ("succeeded", 11, 7) == (result["status"], result["usage"]["input_tokens"], result["usage"]["output_tokens"])
    kept = {name: result["output"][name] for name in ("json", "text", "events") if name in result["output"]}
    assert output == kept


async def test_an_error_in_a_large_answer_fails_the_job(worker: Worker):
    """The endpoint's words come from the other process."""
    body = {"error": {"code": "server_error", "message": "It broke."}, "x": LONG_TEXT}
    result = await run(worker, worker.customer(), reply(body))

    assert "failed" == result["status"]
    assert "It broke." in result["error"]["message"]


@pytest.mark.long
async def test_a_large_part_is_kept_between_attempts(worker: Worker):
    """A part of `multi_chat` that is stored with very many values is in the result of a later attempt, unchanged."""
    customer = worker.customer()
    prompts = {"prompts": ["a", "b"]}
    choice = CHOICE | {"logprobs": NUMBERS}
    customer.account.will_answer(reply(CHAT | {"choices": [choice]}))
    customer.account.will_answer(reply({"error": {"message": "Slow."}}, status=429, headers={"retry-after": "3600"}))
    assert await worker.deliver(customer, job_id="parts", action="multi_chat", input=prompts) is None
    message = worker.wakeup(customer, "parts")

    result = await run(worker, customer, completion("Hi."), body=message)

    large, small = sorted(result["output"]["answers"], key=lambda answer: -len(answer["text"]))
    assert ([choice], "Hi.") == (large["choices"], small["text"])
    assert (22, 14, 2) == tuple(result["usage"][name] for name in ("input_tokens", "output_tokens", "calls"))


@pytest.mark.long
async def test_a_large_image_is_saved(worker: Worker):
    """Its bytes are in its blob."""
    customer = worker.customer()
    answer = reply({"data": [{"b64_json": base64.b64encode(PNG).decode()}], "usage": USAGE})

    result = await run(worker, customer, answer, action="image", input={"prompt": "x"})

    (image,) = result["output"]["images"]
    blob = image["blob"]
    assert (2, 3, 1) == (image["width"], image["height"], result["usage"]["images"])
    assert PNG == worker.memory.blobs.blobs[blob["container"], blob["name"]][0]


@pytest.mark.long
async def test_many_vectors_are_like_few(worker: Worker):
    """Each number is in the result."""
    vector = [0.125] * (1024 * 1024)
    body = {"data": [{"index": 0, "embedding": vector}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}

    result = await run(worker, worker.customer(), reply(body), action="embed", input={"texts": ["x"]})

    assert (1, len(vector)) == (result["output"]["vectors"], result["output"]["dimensions"])
    assert [vector] == result["output"]["embeddings"]


@pytest.mark.long
async def test_an_answer_of_too_many_values_is_bought_once(worker: Worker):
    """What would fill the memory is not decoded: the job fails with what came, and its call is on record."""
    customer = worker.customer()
    result = await run(worker, customer, reply(b'{"a":[' + b"1," * 7_000_000 + b"1]}"))

    assert ("failed", "provider_unavailable") == (result["status"], result["error"]["code"])
    assert (1, 0) == (len(customer.account.received), result["usage"]["calls"])
    assert ["unanswered"] == [record["outcome"] for record in worker.usage(customer)]


async def test_the_answers_of_a_job_are_bounded(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """
    They are all in memory until the job ends. The first one too many is recorded as lost, and no further one is
    bought.
    """
    monkeypatch.setattr(steps, "MAX_TOTAL_BYTES", 2500)
    customer = worker.customer(max_concurrency=1)
    customer.account.will_answer(*[completion("x" * 400)] * 5)

    result = await worker.run(customer, action="multi_chat", input={"prompts": ["a"] * 5})

    answers = result["output"]["answers"]
    errors = {answer["error"]["message"] for answer in answers if "error" in answer}
    bought = len(customer.account.received)
    assert ("partial", 5 - bought + 1) == (result["status"], result["output"]["failed"])
    assert {"The job's answers together have more than 0 MiB."} == errors
    assert 2 <= bought == result["usage"]["calls"] < 5
    assert [1] == [row["calls"] for row in worker.usage(customer) if row["outcome"] == "lost"]


async def test_a_long_text_is_split_elsewhere(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A text of millions of characters has many places to be split at."""
    functions = list[str]()
    call = SideProcess.call

    async def record(self: SideProcess, customer: str, function: Callable[..., Any], *args: Any) -> Any:
        functions.append(getattr(function, "func", function).__name__)
        return await call(self, customer, function, *args)

    monkeypatch.setattr(SideProcess, "call", record)
    customer = worker.customer()
    await worker.memory.blobs.write("inputs", f"{customer.name}/x.txt", b"A sentence. " * 50_000, "text/plain")

    result = await worker.run(customer, action="summarize", input={"blob": f"inputs/{customer.name}/x.txt"})

    assert ("succeeded", ["split"]) == (result["status"], functions)
    assert result["output"]["parts"] > 10


def test_what_a_lost_large_answer_consumed_is_on_record():
    """It is not decoded for that, however it is nested; the usage at its end is read."""
    nested = b'{"a":' * 300 + b'"' + b"x" * (2 * LARGE_BYTES) + b'"' + b"}" * 300
    body = b'{"x":%b,"usage":%b,"model":"m-2"}' % (nested, json.dumps(USAGE).encode())
    usage = AttemptUsage(
        cast(Any, None), cast(Any, SimpleNamespace(attempt=1, unrecoverable_usage=Usage(), skipped=""))
    )
    begun = time.process_time()

    usage.add_lost_responses([Response(200, {}, body, "r-1")])

    assert time.process_time() - begun < 0.3
    ((_, call),) = usage._pending
    assert ("lost", "m-2", 11, 7) == (call.outcome, call.model, call.usage.input_tokens, call.usage.output_tokens)


@pytest.mark.parametrize(
    "value",
    [
        {"images": [{"revised_prompt": "a, b" * LARGE_BYTES}], "common": {}},
        {"rows": ["a" * 3000] * 500, "adapted": []},
        {"text": "x" * 100, "whole": True, "adapted": ["a"] * 20_000, "finish_reason": "y" * LARGE_BYTES},
    ],
)
def test_what_an_action_reads_of_a_step_is_always_decoded(value: dict[str, Any]):
    """However long it is, and whatever it holds."""
    assert value == decode_condensed(msgspec.json.encode(value))


def test_a_stored_step_is_read_in_linear_time():
    """Nested objects are not walked through once for each level."""
    nested = b'{"a":' * 300 + b'"' + b"x" * (2 * LARGE_BYTES) + b'"' + b"}" * 300
    step = b'{"output":{"status":200,"json":%b},"status":"succeeded","error":null}' % nested
    begun = time.process_time()

    value = decode_condensed(step)

    assert time.process_time() - begun < 0.5
    assert (200, nested) == (value["output"]["status"], bytes(value["output"]["json"]))

"""The local endpoint with patient prices, through OpenAI's own client, and by plain HTTP where it goes wrong."""

import asyncio
import codecs
import json
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from aiohttp import web
from openai import AsyncAzureOpenAI, AsyncOpenAI

from local.provider import server as provider
from local.provider.clock import ManualClock
from local.provider.faults import (
    CUT,
    HANG,
    HANG_AFTER,
    LOST,
    RESET,
    BatchFault,
    CallFault,
    ResponseFault,
    WebhookFault,
    error,
)
from local.provider.journal import Prices
from local.stack.customers import demo_customers, onboard, vault_client
from local.stack.stack import PATIENT, add_accounts
from shared.connections.endpoint import parse_endpoint
from tests.support.loopback import serve
from tests.support.signatures import signed

CHAT = "/v1/chat/completions"
DAY_S = 86_400


@pytest.fixture
async def endpoint():
    async with provider.start(clock=ManualClock()) as running:
        yield running


@pytest.fixture
def account(endpoint):
    return endpoint.account()


@pytest.fixture
async def http(account):
    headers = {"authorization": f"Bearer {account.key}"}
    async with httpx.AsyncClient(base_url=f"{account.url}/", headers=headers, trust_env=False) as client:
        yield client


def chat(prompt, model="gpt-6-luna", **parameters):
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **parameters}


def line(number, body=None, url=CHAT, **more):
    body = body or chat(f"prompt {number}")
    return json.dumps({"custom_id": f"{number:05}", "method": "POST", "url": url, "body": body, **more})


def jsonl(count=10):
    return "\n".join(line(number) for number in range(count))


async def upload(http, content):
    answer = await http.post("files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content)})
    return answer.json()["id"]


async def create(http, content=None, endpoint=CHAT):
    body = {"input_file_id": await upload(http, content or jsonl()), "endpoint": endpoint, "completion_window": "24h"}
    return (await http.post("batches", json=body)).json()


async def get(http, batch):
    return (await http.get(f"batches/{batch['id']}")).json()


async def read(http, file_id):
    content = (await http.get(f"files/{file_id}/content")).content
    return [json.loads(each) for each in content.splitlines()]


async def test_batch_with_the_official_client(endpoint):
    """Upload, create, wait, download, delete: each answer is what OpenAI's client expects."""
    account = endpoint.account(prices=Prices(Decimal(4), Decimal(8)))
    async with AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
        file = await client.files.create(file=("lines.jsonl", jsonl().encode()), purpose="batch")
        batch = await client.batches.create(
            input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata={"ours": "1"}
        )
        states = [batch.status]
        while batch.status != "completed":
            await endpoint.advance(0.25)
            batch = await client.batches.retrieve(batch.id)
            states.append(batch.status)
        content = await client.files.content(batch.output_file_id)
        listed = [each.id async for each in client.batches.list(limit=1)]
        deleted = await client.files.delete(file.id)

    answers = [json.loads(each) for each in content.text.splitlines()]
    assert ["validating", "in_progress", "finalizing", "completed"] == list(dict.fromkeys(states))
    assert [f"Echo: prompt {n}" for n in range(10)] == [
        each["response"]["body"]["choices"][0]["message"]["content"] for each in answers
    ]
    assert ([batch.id], True, {"ours": "1"}, None) == (listed, deleted.deleted, batch.metadata, batch.error_file_id)
    assert (10, 10, 0) == (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed)
    totals = account.journal.totals("batch")
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (totals.input_tokens, totals.output_tokens)
    expected = Decimal(4) * totals.input_tokens + Decimal(8) * totals.output_tokens
    assert (10, expected / 2 / 1_000_000, {}) == (totals.calls, totals.cost, account.journal.bought_twice())


async def test_azure_with_its_official_client(endpoint):
    """The older style has files and batches at the resource, calls under a deployment; and Azure's peculiarities."""
    account = endpoint.account(style="azure", azure_objects=True)
    options = {"azure_endpoint": account.root_url, "api_key": account.key, "api_version": "2024-10-21"}
    async with AsyncAzureOpenAI(**options) as client:
        file = await client.files.create(file=("lines.jsonl", jsonl().encode()), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        first = batch
        await endpoint.advance(10)
        batch = await client.batches.retrieve(batch.id)
        answer = await client.chat.completions.create(**chat("direct", "my-gpt"))

    assert ("Validating", "", "2026-") == (first.status, first.error_file_id, str(first.created_at)[:5])
    assert ("Completed", "Echo: direct") == (batch.status, answer.choices[0].message.content)
    assert {"batch": 10, "standard": 1} == Counter(each.processing for each in account.journal)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/{}",
        "/openai/v1/{}",
        "/api/projects/p/openai/v1/{}",
        "/openai/{}?api-version=2024-10-21",
    ],
)
async def test_every_url_form_has_files_and_batches(endpoint, path):
    """Each form of a connection's endpoint leads to the same files and batches."""
    key = endpoint.account().key
    async with httpx.AsyncClient(base_url=endpoint.url, headers={"api-key": key}, trust_env=False) as client:
        listed = await client.get(path.format("batches"))
        sent = await client.post(path.format("files"), data={"purpose": "batch"}, files={"file": ("a", b"x")})

    assert (200, [], 200) == (listed.status_code, listed.json()["data"], sent.status_code)


async def test_accounts_share_nothing(endpoint, http):
    """Another account's file and batch are unknown, and an unknown key is refused."""
    other = endpoint.account()
    batch = await create(http)
    paths = [f"batches/{batch['id']}", f"files/{batch['input_file_id']}", f"files/{batch['input_file_id']}/content"]
    statuses = [
        (await http.get(each, headers={"authorization": f"Bearer {key}"})).status_code
        for key in (other.key, "wrong")
        for each in paths
    ]

    assert [404] * 3 + [401] * 3 == statuses


async def test_direct_calls(endpoint, account, http):
    """Chats, completions and embeddings echo the prompt; flex says so and costs half."""
    answers = [
        await http.post("chat/completions", json=chat("four")),
        await http.post("chat/completions", json=chat("four", service_tier="flex")),
        await http.post("completions", json={"model": "m", "prompt": ["a", "b"]}),
        await http.post("embeddings", json={"model": "m", "input": ["a", "b"], "dimensions": 3}),
    ]
    standard, flex, completion, embedding = [each.json() for each in answers]

    assert ("default", "flex") == (standard["service_tier"], flex["service_tier"])
    assert {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}.items() <= standard["usage"].items()
    assert ["Echo: a", "Echo: b"] == [each["text"] for each in completion["choices"]]
    assert [3, 3] == [len(each["embedding"]) for each in embedding["data"]]
    first, second, *_ = account.journal
    assert first.cost == second.cost * 2
    assert {"four": 2} == account.journal.bought_twice()
    assert endpoint.totals() == account.journal.totals()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (codecs.BOM_UTF8 + jsonl().encode(), "invalid_json_line"),
        (f"{jsonl(2)}\nno json", "invalid_json_line"),
        (f"{line(1)}\n{line(1)}", "duplicate_custom_id"),
        (line(1, url="/v1/embeddings"), "url_mismatch"),
        (f"{line(1)}\n{line(2, chat('x', 'another'))}", "model_mismatch"),
        (line(1, method="GET"), "invalid_request"),
        (line(1, chat("x", "unknown")), "model_not_found"),
        ("\n\n", "empty_file"),
        (jsonl(11), "too_many_tasks"),
    ],
)
async def test_bad_files_fail_in_validation(endpoint, account, http, content, code):
    """A batch whose file is wrong fails with the provider's code, and nothing of it is executed."""
    account.limits.lines = 10
    account.models = frozenset({"gpt-6-luna", "another"})
    batch = await create(http, content)
    await endpoint.advance(10)
    batch = await get(http, batch)

    assert ("failed", code) == (batch["status"], batch["errors"]["data"][0]["code"])
    assert 0 == len(account.journal)


async def test_quota_of_enqueued_tokens(endpoint, account, http):
    """A batch that exceeds the quota fails; when the batch before it has ended, it fits."""
    account.limits.enqueued_tokens = 30
    first, second = await create(http), await create(http)
    await endpoint.advance(0.6)
    second = await get(http, second)
    await endpoint.advance(10)
    third = await create(http)
    await endpoint.advance(10)

    assert ("failed", "token_limit_exceeded") == (second["status"], second["errors"]["data"][0]["code"])
    assert ["completed"] * 2 == [(await get(http, each))["status"] for each in (first, third)]


async def test_cancelling_keeps_what_is_done(endpoint, account, http):
    """Cancelling takes a while; what was done before is in the output, and billed."""
    batch = await create(http)
    await endpoint.advance(1.0)
    cancelling = (await http.post(f"batches/{batch['id']}/cancel")).json()
    await endpoint.advance(0.4)
    still = await get(http, batch)
    await endpoint.advance(0.2)
    ended = await get(http, batch)

    assert ("cancelling", "cancelling", "cancelled") == (cancelling["status"], still["status"], ended["status"])
    assert 5 == len(await read(http, ended["output_file_id"])) == len(account.journal.billed("batch"))
    assert (await http.post(f"batches/{batch['id']}/cancel")).status_code == 200


async def test_window_ends(endpoint, account, http):
    """A batch that isn't done in its window expires: the rest is in the error file, and isn't billed."""
    account.durations.in_progress_s = 2 * DAY_S
    batch = await create(http)
    await endpoint.advance(DAY_S)
    batch = await get(http, batch)
    errors = await read(http, batch["error_file_id"])

    assert ("expired", 4) == (batch["status"], len(await read(http, batch["output_file_id"])))
    assert [(None, "batch_expired")] * 6 == [(each["response"], each["error"]["code"]) for each in errors]
    assert 4 == len(account.journal.billed())
    assert (await http.post(f"batches/{batch['id']}/cancel")).status_code == 409


async def test_lost_answer_of_a_create(endpoint, account, http):
    """The batch exists though its answer was lost, and the list shows it late."""
    account.faults.route("batches.create", LOST)
    account.faults.batches.add(BatchFault(list_late_s=30))
    file_id = await upload(http, jsonl())
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("batches", json=body)
    early = (await http.get("batches")).json()["data"]
    await endpoint.advance(30)
    late = (await http.get("batches")).json()["data"]

    assert ([], [file_id]) == (early, [each["input_file_id"] for each in late])
    assert [("batches.create", 0), ("batches.list", 200)] == [
        (each.route, each.status) for each in account.received[1:3]
    ]


async def test_lost_answer_of_an_upload(account, http):
    """The file exists though its answer was lost."""
    account.faults.route("files.create", LOST)
    with pytest.raises(httpx.RemoteProtocolError):
        await upload(http, jsonl())

    assert 1 == len(account.files)


@pytest.mark.parametrize(
    ("fault", "status", "outputs", "errors"),
    [
        (BatchFault(fail_code="token_limit_exceeded"), "failed", 0, 0),
        (BatchFault(errors_only=True), "completed", 0, 10),
        (BatchFault(expire_share=0.5), "expired", 5, 5),
        (BatchFault(missing=3), "completed", 7, 0),
        (BatchFault(duplicates=2), "completed", 12, 0),
        (BatchFault(shuffle=True), "completed", 10, 0),
        (BatchFault(validating_s=50), "validating", 0, 0),
    ],
)
async def test_faults_of_batches(endpoint, account, http, fault, status, outputs, errors):
    """A fault happens to one batch, the next is in order; only lines that were answered are billed, once."""
    account.faults.batches.add(fault)
    batch, next_one = await create(http), await create(http, jsonl(1))
    await endpoint.advance(10)
    batch = await get(http, batch)
    output, error_lines = [
        await read(http, batch[name]) if batch[name] else [] for name in ("output_file_id", "error_file_id")
    ]

    assert (status, outputs, errors) == (batch["status"], len(output), len(error_lines))
    assert outputs - fault.duplicates == len(account.journal.billed()) - 1
    ids = [each["custom_id"] for each in output]
    assert fault.shuffle == (ids[: outputs - fault.duplicates] != sorted(set(ids)))
    assert "completed" == (await get(http, next_one))["status"]


async def test_output_with_a_byte_order_mark(endpoint, account, http):
    """The output may begin with a byte order mark, and statuses may be in capitals."""
    account.faults.batches.add(BatchFault(bom=True))
    account.status_case = "upper"
    batch = await create(http)
    await endpoint.advance(10)
    batch = await get(http, batch)
    content = await http.get(f"files/{batch['output_file_id']}/content")

    assert ("COMPLETED", codecs.BOM_UTF8) == (batch["status"], content.content[:3])


async def test_lines_that_error(endpoint, account, http):
    """Lines fail by custom_id, by text or by parameter, in the error file and unbilled; a filtered answer is billed."""
    account.faults.calls.add(CallFault(429, "rate_limit_exceeded", match="00001"))
    account.faults.calls.add(CallFault(400, "content_filter", match="prompt 2"))
    account.faults.calls.add(CallFault(400, "unsupported_parameter", if_parameter="top_k"), times=None)
    account.faults.calls.add(CallFault(200, "content_filter", match="prompt 5"))
    lines = [
        line(number, chat(f"prompt {number}", **({"top_k": 1} if number in (3, 4) else {}))) for number in range(6)
    ]
    batch = await create(http, "\n".join(lines))
    await endpoint.advance(10)
    batch = await get(http, batch)
    errors = [each["response"] for each in await read(http, batch["error_file_id"])]
    output = [
        each["response"]["body"]["choices"][0]["finish_reason"] for each in await read(http, batch["output_file_id"])
    ]

    assert [(429, None), (400, None), (400, "top_k"), (400, "top_k")] == [
        (each["status_code"], each["body"]["error"]["param"]) for each in errors
    ]
    assert (["stop", "content_filter"], 2) == (output, len(account.journal.billed()))
    assert (2, 4) == (batch["request_counts"]["completed"], batch["request_counts"]["failed"])


async def test_flex_without_resources(account, http):
    """Flex may be unavailable, which is not billed."""
    account.faults.flex_unavailable.add(7)
    first, second = [await http.post("chat/completions", json=chat("x", service_tier="flex")) for _ in range(2)]

    assert (429, "resource_unavailable", "7") == (
        first.status_code,
        first.json()["error"]["code"],
        first.headers["retry-after"],
    )
    assert (200, 1) == (second.status_code, len(account.journal.billed()))


@pytest.mark.parametrize(("fault", "billed"), [(LOST, 1), (RESET, 0), (HANG, 0), (HANG_AFTER, 1)])
async def test_broken_calls(account, http, fault, billed):
    """A call may break before or after it is done; the journal has it if it was."""
    account.faults.route("*", fault)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout)):
        await http.post("chat/completions", json=chat("x"), timeout=0.3)

    assert billed == len(account.journal.billed())


async def test_error_statuses(account, http):
    """Any route may answer with an error, with a wait."""
    account.faults.route("files.list", error(429, "rate_limit_exceeded", retry_after_s=3), times=2)
    answers = [await http.get("files") for _ in range(3)]

    assert [(429, "3"), (429, "3"), (200, None)] == [
        (each.status_code, each.headers.get("retry-after")) for each in answers
    ]


async def test_download_that_breaks_off(account, http):
    """Half of a file arrives, then the connection breaks."""
    account.faults.route("files.content", CUT)
    file_id = await upload(http, jsonl())
    received = bytearray()

    async def download():
        async with http.stream("GET", f"files/{file_id}/content") as answer:
            async for each in answer.aiter_raw():
                received.extend(each)

    with pytest.raises(httpx.RemoteProtocolError):
        await download()

    assert len(jsonl()) // 2 == len(received)


async def test_responses_in_the_background(endpoint, account):
    """A response is queued, in progress, then completed; cancelling is idempotent, and may come too late."""
    async with AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
        made, other = [
            await client.responses.create(model="m", input=text, background=True) for text in ("hello", "cancelled")
        ]
        states = [made.status]
        await client.responses.cancel(other.id)
        while made.status != "completed":
            await endpoint.advance(0.25)
            made = await client.responses.retrieve(made.id)
            states.append(made.status)
        cancelled = [(await client.responses.cancel(each)).status for each in (other.id, made.id)]
        direct = await client.responses.create(model="m", input="at once")

    assert ["queued", "in_progress", "completed"] == list(dict.fromkeys(states))
    assert ("Echo: hello", 2, "Echo: at once") == (made.output_text, made.usage.input_tokens, direct.output_text)
    assert (["cancelled", "completed"], 2) == (cancelled, len(account.journal.billed()))


@pytest.mark.parametrize(("status", "billed"), [("failed", 0), ("incomplete", 1)])
async def test_responses_that_fail(endpoint, account, http, status, billed):
    """A response may fail, which isn't billed, or be incomplete, which is."""
    account.faults.responses.add(ResponseFault(status))
    made = (await http.post("responses", json={"model": "m", "input": "x", "background": True})).json()
    await endpoint.advance(10)
    ended = (await http.get(f"responses/{made['id']}")).json()

    assert (made["id"], status, billed) == (ended["id"], ended["status"], len(account.journal.billed()))


async def test_webhooks(endpoint, account, http):
    """Events are signed by Standard Webhooks, lost, doubled, late, or signed by somebody else."""
    received = []

    async def receive(request):
        received.append((dict(request.headers), await request.read()))
        return web.Response(status=200)

    async with serve(receive) as url:
        body = {"name": "tests", "url": url, "event_types": ["batch.completed", "batch.failed"]}
        secret = (await http.post("dashboard/webhook_endpoints", json=body)).json()["signing_secret"]
        counts = []
        for fault in (None, *(WebhookFault(kind) for kind in ("lost", "doubled", "late", "wrong_signature"))):
            if fault:
                account.faults.webhooks.add(fault)
            batch = await create(http)
            await endpoint.advance(10)
            counts.append(len(received))
        await endpoint.advance(60)

    assert ([1, 1, 3, 3, 4], 5) == (counts, len(received))
    is_signed = []
    for headers, content in received:
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        expected = signed(secret, content, webhook_id=headers["webhook-id"], at=at)
        is_signed.append(expected["webhook-signature"] == headers["webhook-signature"])
    assert [True, True, True, False, True] == is_signed
    assert received[1][0]["webhook-id"] == received[2][0]["webhook-id"]
    last = json.loads(received[3][1])
    assert ("batch.completed", batch["id"]) == (last["type"], last["data"]["id"])
    assert [200] * 5 == [each.status for each in account.deliveries]


async def test_patient_connections_of_the_demo(endpoint, key_vault):
    """Each customer's connection `patient` leads to an account of its own, in the form of its endpoint."""
    customers = demo_customers()
    add_accounts(endpoint, *customers)
    await onboard(key_vault, endpoint.url, *customers, connection=PATIENT)
    statuses = []
    async with vault_client(key_vault) as vault, httpx.AsyncClient(trust_env=False) as client:
        for each in customers:
            secret = await vault.get_secret(f"ai--{each.id}--patient")
            settings = secret.properties.tags or json.loads(secret.value)
            parsed = parse_endpoint(settings["endpoint"], provider=settings["provider"])
            client.headers["api-key"] = each.key
            statuses.append((await client.post(parsed.url("chat/completions", "m"), json=chat(each.id))).status_code)
            statuses.append((await client.get(parsed.url("batches", ""))).status_code)

    assert [200] * 6 == statuses
    assert [(each.id, each.id) for each in customers] == [
        (account.name, entry.prompt) for account in endpoint.accounts.values() for entry in account.journal
    ]


@pytest.mark.long
async def test_ten_thousand_lines_are_quick(endpoint, account, http):
    """Ten thousand lines take seconds of processor time, and the endpoint answers meanwhile."""
    batch = await create(http, jsonl(10_000))
    started = time.process_time()
    work = asyncio.create_task(endpoint.advance(100))
    answered = 0
    while not work.done():
        answered += (await http.get("files", timeout=60)).status_code == 200
    seconds = time.process_time() - started
    batch = await get(http, batch)

    assert ("completed", 10_000) == (batch["status"], batch["request_counts"]["completed"])
    assert 10_000 == len(account.journal.billed())
    assert (True, True) == (seconds < 10, answered >= 2), (seconds, answered)

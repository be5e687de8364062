"""The local endpoint with patient prices, through OpenAI's own client and by plain HTTP."""

import asyncio
import json
import time
from collections import Counter
from decimal import Decimal

import httpx
import pytest

from local.provider import server as provider
from local.provider.account import Durations
from local.provider.journal import Prices
from local.stack.customers import demo_customers, onboard, vault_client
from local.stack.stack import PATIENT, add_accounts
from shared.connections.endpoint import parse_endpoint
from tests.support.provider_files import CHAT, chat, create, get, jsonl, line, read, upload
from tests.support.sdks import openai

DAY_S = 86_400


async def test_batch_with_the_official_client(endpoint):
    """Upload, create, wait, download, delete: each answer is what OpenAI's client expects."""
    account = endpoint.account(prices=Prices(Decimal(4), Decimal(8)))
    async with openai.AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
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
    async with openai.AsyncAzureOpenAI(**options) as client:
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


async def test_accounts_share_nothing(endpoint, account_http):
    """Another account's file and batch are unknown, and an unknown key is refused."""
    other = endpoint.account()
    batch = await create(account_http)
    paths = [f"batches/{batch['id']}", f"files/{batch['input_file_id']}", f"files/{batch['input_file_id']}/content"]
    statuses = [
        (await account_http.get(each, headers={"authorization": f"Bearer {key}"})).status_code
        for key in (other.key, "wrong")
        for each in paths
    ]

    assert [404] * 3 + [401] * 3 == statuses


async def test_direct_calls(endpoint, account, account_http):
    """Chats, completions and embeddings echo the prompt; flex says so and costs half."""
    answers = [
        await account_http.post("chat/completions", json=chat("four")),
        await account_http.post("chat/completions", json=chat("four", service_tier="flex")),
        await account_http.post("completions", json={"model": "m", "prompt": ["a", "b"]}),
        await account_http.post("embeddings", json={"model": "m", "input": ["a", "b"], "dimensions": 3}),
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


async def test_cancelling_keeps_what_is_done(endpoint, account, account_http):
    """Cancelling takes a while; what was done before is in the output, and billed."""
    batch = await create(account_http)
    await endpoint.advance(1.0)
    cancelling = (await account_http.post(f"batches/{batch['id']}/cancel")).json()
    await endpoint.advance(0.4)
    still = await get(account_http, batch)
    await endpoint.advance(0.2)
    ended = await get(account_http, batch)

    assert ("cancelling", "cancelling", "cancelled") == (cancelling["status"], still["status"], ended["status"])
    assert 5 == len(await read(account_http, ended["output_file_id"])) == len(account.journal.billed("batch"))
    assert (await account_http.post(f"batches/{batch['id']}/cancel")).status_code == 200


async def test_responses_in_the_background(endpoint, account):
    """A response is queued, in progress, then completed; cancelling is idempotent, and may come too late."""
    async with openai.AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
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


async def test_pages(account_http):
    """The list of batches is in pages, newest first."""
    made = [(await create(account_http, jsonl(1)))["id"] for _ in range(5)]
    listed, after = [], {}
    while True:
        page = (await account_http.get("batches", params={"limit": 2, **after})).json()
        listed += [each["id"] for each in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break

    assert made[::-1] == listed


async def test_files_expire_and_are_pending(endpoint, account, account_http):
    """A file may be pending at first, when no batch can have it, and is gone when it has expired."""
    account.durations.file_processing_s = 5
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    answer = await account_http.post("files", data={"purpose": "batch", **expiry}, files={"file": ("x", jsonl())})
    file = answer.json()
    body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"}
    statuses = [(await account_http.post("batches", json=body)).status_code]
    await endpoint.advance(5)
    statuses.append((await account_http.post("batches", json=body)).status_code)
    await endpoint.advance(3600)
    statuses.append((await account_http.get(f"files/{file['id']}")).status_code)

    assert ("pending", [400, 200, 404]) == (file["status"], statuses)


async def test_output_expires(endpoint, account_http):
    """A batch may say when the files that it writes expire."""
    body = {"input_file_id": await upload(account_http, jsonl(1)), "endpoint": CHAT, "completion_window": "24h"}
    body["output_expires_after"] = {"anchor": "created_at", "seconds": 3600}
    batch = (await account_http.post("batches", json=body)).json()
    await endpoint.advance(10)
    batch = await get(account_http, batch)
    listed = (await account_http.get("files", params={"purpose": "batch_output"})).json()["data"]
    await endpoint.advance(3600)

    assert [batch["output_file_id"]] == [each["id"] for each in listed]
    assert (await account_http.get(f"files/{batch['output_file_id']}/content")).status_code == 404


async def test_objects_that_end(account, account_http):
    """A response and a registered webhook can be deleted, once; models are those of the account."""
    account.models = frozenset({"m"})
    hook = {"name": "tests", "url": "http://127.0.0.1:9", "event_types": ["batch.completed"]}
    paths = [
        f"responses/{(await account_http.post('responses', json={'model': 'm', 'input': 'x'})).json()['id']}",
        f"dashboard/webhook_endpoints/{(await account_http.post('webhook_endpoints', json=hook)).json()['id']}",
    ]
    statuses = [(await account_http.delete(each)).status_code for each in [*paths, *paths]]

    assert [200, 200, 404, 404] == statuses
    assert ["m"] == [each["id"] for each in (await account_http.get("models")).json()["data"]]


@pytest.mark.parametrize(
    ("style", "changes", "status"),
    [
        ("openai", {}, 200),
        ("openai", {"endpoint": "/chat/completions"}, 400),
        ("azure", {"endpoint": "/chat/completions"}, 200),
        ("openai", {"endpoint": "/v1/embeddings"}, 200),
        ("azure", {"endpoint": "/v1/embeddings"}, 400),
        ("openai", {"completion_window": "1h"}, 400),
        ("openai", {"metadata": {str(number): "" for number in range(17)}}, 400),
        ("openai", {"input_file_id": "file-unknown"}, 404),
    ],
)
async def test_what_a_batch_may_ask_for(account, account_http, style, changes, status):
    """A create is refused at once for its own members; Azure has no batches of embeddings."""
    account.style = style
    body = {"input_file_id": await upload(account_http, jsonl()), "endpoint": CHAT, "completion_window": "24h"}

    assert status == (await account_http.post("batches", json=body | changes)).status_code


async def test_other_operations_in_batches(endpoint, account, account_http):
    """Completions, embeddings and responses have batches, too; a line that the model refuses is an error line."""
    bodies = {
        "/v1/completions": {"model": "m", "prompt": "a"},
        "/v1/embeddings": {"model": "m", "input": ["a", "b"]},
        "/v1/responses": {"model": "m", "input": "a"},
    }
    objects = []
    for url, body in bodies.items():
        batch = await create(account_http, "\n".join([line(1, body, url), line(2, {"model": "m"}, url)]), url)
        await endpoint.advance(10)
        batch = await get(account_http, batch)
        (output,), (refused,) = [await read(account_http, batch[name]) for name in ("output_file_id", "error_file_id")]
        objects.append(output["response"]["body"]["object"])
        assert (400, "missing_required_parameter") == (
            refused["response"]["status_code"],
            refused["response"]["body"]["error"]["code"],
        )

    assert ["text_completion", "list", "response"] == objects
    assert (3, 6) == (len(account.journal.billed("batch")), len(account.journal))


async def test_limits_of_an_answer(account_http):
    """An answer is cut at its limit of tokens, has as many choices as asked for, and is JSON on request."""
    limited, several, structured, wrong = [
        (await account_http.post("chat/completions", json=chat("a long prompt", **parameters))).json()
        for parameters in (
            {"max_tokens": 2},
            {"n": 3},
            {"response_format": {"type": "json_object"}},
            {"n": "many"},
        )
    ]

    choice = limited["choices"][0]
    assert ("Echo: a ", "length", 2) == (
        choice["message"]["content"],
        choice["finish_reason"],
        limited["usage"]["completion_tokens"],
    )
    assert (3, 15) == (len(several["choices"]), several["usage"]["completion_tokens"])
    assert {"answer": "Echo: a long prompt"} == json.loads(structured["choices"][0]["message"]["content"])
    assert "invalid_type" == wrong["error"]["code"]


async def test_embeddings_with_the_official_client(endpoint):
    """The official client asks for base64; equal texts have equal vectors, other texts other ones."""
    account = endpoint.account(style="azure")
    async with openai.AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
        answer = await client.embeddings.create(model="m", input=["a", "a", "b"])

    first, second, third = [each.embedding for each in answer.data]
    assert (True, True, 8) == (first == second, first != third, len(first))


async def test_models_and_deployments(endpoint):
    """An unknown model is a 404 in the words of the account's style; batches may have models of their own."""
    answers = []
    for style in ("openai", "azure"):
        account = endpoint.account(style=style, models=frozenset({"known"}), batch_models=frozenset({"known-batch"}))
        async with httpx.AsyncClient(base_url=account.url, headers={"api-key": account.key}, trust_env=False) as client:
            models = ("known", "known-batch")
            answers += [(await client.post("/chat/completions", json=chat("x", each))).json() for each in models]
            batch = await create(client, line(1, chat("x", "known-batch")))
            await endpoint.advance(10)
            answers.append(await get(client, batch))

    codes = [each["error"]["code"] if "error" in each else each.get("status", "answered") for each in answers]
    assert ["answered", "model_not_found", "completed", "answered", "DeploymentNotFound", "completed"] == codes


async def test_system_clock():
    """By the system's clock, a batch is done without anybody who asks."""
    durations = Durations(validating_s=0.01, in_progress_s=0.01, finalizing_s=0.01)
    async with provider.start(durations=durations) as endpoint:
        account = endpoint.account()
        async with httpx.AsyncClient(base_url=account.url, headers={"api-key": account.key}, trust_env=False) as client:
            batch = account.batches[(await create(client))["id"]]
        async with asyncio.timeout(10):
            while not batch.has_ended:  # noqa: ASYNC110 -- there is no event to wait for
                await asyncio.sleep(0.01)

    assert ("completed", 10) == (batch.status, len(account.journal.billed("batch")))


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
async def test_ten_thousand_lines_are_quick(endpoint, account, account_http):
    """Ten thousand lines take seconds of processor time, and the endpoint answers meanwhile."""
    batch = await create(account_http, jsonl(10_000))
    started = time.process_time()
    work = asyncio.create_task(endpoint.advance(100))
    answered = 0
    while not work.done():
        answered += (await account_http.get("files", timeout=60)).status_code == 200
    seconds = time.process_time() - started
    batch = await get(account_http, batch)

    assert ("completed", 10_000) == (batch["status"], batch["request_counts"]["completed"])
    assert 10_000 == len(account.journal.billed())
    assert (True, True) == (seconds < 10, answered >= 2), (seconds, answered)

"""What goes wrong at the local endpoint with patient prices if a test asks for it, and what it refuses."""

import codecs
import json
import time
from datetime import UTC, datetime

import httpx
import pytest
from aiohttp import web

from local.provider import server as provider
from local.provider.faults import (
    CUT,
    HANG,
    HANG_AFTER,
    LOST,
    RESET,
    BatchFault,
    CallFault,
    ResponseFault,
    RouteFault,
    WebhookFault,
    error,
)
from local.provider.files import store
from local.provider.webhooks import subscribe
from tests.support.loopback import serve
from tests.support.provider_files import CHAT, chat, create, get, jsonl, line, read, upload
from tests.support.sdks import openai
from tests.support.signatures import signed

DAY_S = 86_400
FILE = {"file": ("x", b"x")}
EXPIRY = {"purpose": "batch", "expires_after[anchor]": "created_at"}


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
async def test_bad_files_fail_in_validation(endpoint, account, account_http, content, code):
    """A batch whose file is wrong fails with the provider's code, and nothing of it is executed."""
    account.limits.lines = 10
    account.models = frozenset({"gpt-6-luna", "another"})
    batch = await create(account_http, content)
    await endpoint.advance(10)
    batch = await get(account_http, batch)

    assert ("failed", code) == (batch["status"], batch["errors"]["data"][0]["code"])
    assert 0 == len(account.journal)


async def test_quota_of_enqueued_tokens(endpoint, account, account_http):
    """A batch that exceeds the quota fails; when the batch before it has ended, it fits."""
    account.limits.enqueued_tokens = 30
    first, second = await create(account_http), await create(account_http)
    await endpoint.advance(0.6)
    second = await get(account_http, second)
    await endpoint.advance(10)
    third = await create(account_http)
    await endpoint.advance(10)

    assert ("failed", "token_limit_exceeded") == (second["status"], second["errors"]["data"][0]["code"])
    assert ["completed"] * 2 == [(await get(account_http, each))["status"] for each in (first, third)]


async def test_window_ends(endpoint, account, account_http):
    """A batch that isn't done in its window expires: the rest is in the error file, and isn't billed."""
    account.durations.in_progress_s = 2 * DAY_S
    batch = await create(account_http)
    await endpoint.advance(DAY_S)
    batch = await get(account_http, batch)
    errors = await read(account_http, batch["error_file_id"])

    assert ("expired", 4) == (batch["status"], len(await read(account_http, batch["output_file_id"])))
    assert [(None, "batch_expired")] * 6 == [(each["response"], each["error"]["code"]) for each in errors]
    assert 4 == len(account.journal.billed())
    assert (await account_http.post(f"batches/{batch['id']}/cancel")).status_code == 409


async def test_lost_answer_of_a_create(endpoint, account, account_http):
    """The batch exists though its answer was lost, and the list shows it late."""
    account.faults.route("batches.create", LOST)
    account.faults.batches.add(BatchFault(list_late_s=30))
    file_id = await upload(account_http, jsonl())
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    with pytest.raises(httpx.RemoteProtocolError):
        await account_http.post("batches", json=body)
    early = (await account_http.get("batches")).json()["data"]
    await endpoint.advance(30)
    late = (await account_http.get("batches")).json()["data"]

    assert ([], [file_id]) == (early, [each["input_file_id"] for each in late])
    assert [("batches.create", 0), ("batches.list", 200)] == [
        (each.route, each.status) for each in account.received[1:3]
    ]


async def test_lost_answer_of_an_upload(account, account_http):
    """The file exists though its answer was lost."""
    account.faults.route("files.create", LOST)
    with pytest.raises(httpx.RemoteProtocolError):
        await upload(account_http, jsonl())

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
async def test_faults_of_batches(endpoint, account, account_http, fault, status, outputs, errors):
    """A fault happens to one batch, the next is in order; only lines that were answered are billed, once."""
    account.faults.batches.add(fault)
    batch, next_one = await create(account_http), await create(account_http, jsonl(1))
    await endpoint.advance(10)
    batch = await get(account_http, batch)
    output, error_lines = [
        await read(account_http, batch[name]) if batch[name] else [] for name in ("output_file_id", "error_file_id")
    ]

    assert (status, outputs, errors) == (batch["status"], len(output), len(error_lines))
    assert outputs - fault.duplicates == len(account.journal.billed()) - 1
    ids = [each["custom_id"] for each in output]
    assert fault.shuffle == (ids[: outputs - fault.duplicates] != sorted(set(ids)))
    assert "completed" == (await get(account_http, next_one))["status"]


async def test_output_with_a_byte_order_mark(endpoint, account, account_http):
    """The output may begin with a byte order mark, and statuses may be in capitals."""
    account.faults.batches.add(BatchFault(bom=True))
    account.status_case = "upper"
    batch = await create(account_http)
    await endpoint.advance(10)
    batch = await get(account_http, batch)
    content = await account_http.get(f"files/{batch['output_file_id']}/content")

    assert ("COMPLETED", codecs.BOM_UTF8) == (batch["status"], content.content[:3])


async def test_lines_that_error(endpoint, account, account_http):
    """Lines fail by custom_id, by text or by parameter, in the error file and unbilled; a filtered answer is billed."""
    account.faults.calls.add(CallFault(429, "rate_limit_exceeded", match="00001"))
    account.faults.calls.add(CallFault(400, "content_filter", match="prompt 2"))
    account.faults.calls.add(CallFault(400, "unsupported_parameter", if_parameter="top_k"), times=None)
    account.faults.calls.add(CallFault(200, "content_filter", match="prompt 5"))
    lines = [
        line(number, chat(f"prompt {number}", **({"top_k": 1} if number in (3, 4) else {}))) for number in range(6)
    ]
    batch = await create(account_http, "\n".join(lines))
    await endpoint.advance(10)
    batch = await get(account_http, batch)
    errors = [each["response"] for each in await read(account_http, batch["error_file_id"])]
    output = [
        each["response"]["body"]["choices"][0]["finish_reason"]
        for each in await read(account_http, batch["output_file_id"])
    ]

    assert [(429, None), (400, None), (400, "top_k"), (400, "top_k")] == [
        (each["status_code"], each["body"]["error"]["param"]) for each in errors
    ]
    assert (["stop", "content_filter"], 2) == (output, len(account.journal.billed()))
    assert (2, 4) == (batch["request_counts"]["completed"], batch["request_counts"]["failed"])


async def test_flex_without_resources(account, account_http):
    """Flex may be unavailable, which is not billed."""
    account.faults.flex_unavailable.add(7)
    first, second = [await account_http.post("chat/completions", json=chat("x", service_tier="flex")) for _ in range(2)]

    assert (429, "resource_unavailable", "7") == (
        first.status_code,
        first.json()["error"]["code"],
        first.headers["retry-after"],
    )
    assert (200, 1) == (second.status_code, len(account.journal.billed()))


@pytest.mark.parametrize(("fault", "billed"), [(LOST, 1), (RESET, 0), (HANG, 0), (HANG_AFTER, 1)])
async def test_broken_calls(account, account_http, fault, billed):
    """A call may break before or after it is done; the journal has it if it was."""
    account.faults.route("*", fault)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.ReadTimeout)):
        await account_http.post("chat/completions", json=chat("x"), timeout=0.3)

    assert billed == len(account.journal.billed())


async def test_error_statuses(account, account_http):
    """Any route may answer with an error, with a wait."""
    account.faults.route("files.list", error(429, "rate_limit_exceeded", retry_after_s=3), times=2)
    answers = [await account_http.get("files") for _ in range(3)]

    assert [(429, "3"), (429, "3"), (200, None)] == [
        (each.status_code, each.headers.get("retry-after")) for each in answers
    ]


async def test_download_that_breaks_off(account, account_http):
    """Half of a file arrives, then the connection breaks."""
    account.faults.route("files.content", CUT)
    file_id = await upload(account_http, jsonl())
    received = bytearray()

    async def download():
        async with account_http.stream("GET", f"files/{file_id}/content") as answer:
            async for each in answer.aiter_raw():
                received.extend(each)

    with pytest.raises(httpx.RemoteProtocolError):
        await download()

    assert len(jsonl()) // 2 == len(received)


@pytest.mark.parametrize(("status", "billed"), [("failed", 0), ("incomplete", 1)])
async def test_responses_that_fail(endpoint, account, account_http, status, billed):
    """A response may fail, which isn't billed, or be incomplete, which is."""
    account.faults.responses.add(ResponseFault(status))
    made = (await account_http.post("responses", json={"model": "m", "input": "x", "background": True})).json()
    await endpoint.advance(10)
    ended = (await account_http.get(f"responses/{made['id']}")).json()

    assert (made["id"], status, billed) == (ended["id"], ended["status"], len(account.journal.billed()))


async def test_webhooks(endpoint, account, account_http):
    """Events are signed by Standard Webhooks, lost, doubled, late, or signed by somebody else."""
    received = []

    async def receive(request):
        received.append((dict(request.headers), await request.read()))
        return web.Response(status=200)

    async with serve(receive) as url:
        body = {"name": "tests", "url": url, "event_types": ["batch.completed", "batch.failed"]}
        secret = (await account_http.post("dashboard/webhook_endpoints", json=body)).json()["signing_secret"]
        counts = []
        for fault in (None, *(WebhookFault(kind) for kind in ("lost", "doubled", "late", "wrong_signature"))):
            if fault:
                account.faults.webhooks.add(fault)
            batch = await create(account_http)
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


async def test_official_client_buys_twice(endpoint, account):
    """The official client repeats a create whose answer was lost, and the journal shows what that costs."""
    account.faults.route("batches.create", LOST)
    async with openai.AsyncOpenAI(api_key=account.key, base_url=account.url) as client:
        file = await client.files.create(file=("lines.jsonl", jsonl(2).encode()), purpose="batch")
        await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    await endpoint.advance(10)

    assert {"prompt 0": 2, "prompt 1": 2} == account.journal.bought_twice()
    assert [0, 200] == [each.status for each in account.calls("batches.create")]


async def test_cancelled_lines_may_be_listed(endpoint, account_http, account):
    """If the account says so, the error file names what a cancelled batch didn't execute."""
    account.lists_cancelled_lines = True
    batch = await create(account_http)
    await account_http.post(f"batches/{batch['id']}/cancel")
    await endpoint.advance(10)
    batch = await get(account_http, batch)
    errors = await read(account_http, batch["error_file_id"])

    assert ["batch_cancelled"] * 10 == [each["error"]["code"] for each in errors]
    assert ("cancelled", None, 10) == (batch["status"], batch["output_file_id"], batch["request_counts"]["failed"])


async def test_webhooks_are_repeated(endpoint, account, account_http):
    """An event that isn't taken is sent again, with the same id."""
    received = []

    async def receive(request):
        received.append(request.headers["webhook-id"])
        return web.Response(status=200 if len(received) > 1 else 500)

    async with serve(receive) as url:
        subscribe(account, url)
        await create(account_http)
        await endpoint.advance(10)
        await endpoint.advance(5)
        await endpoint.advance(100)

    assert ([500, 200], 1) == ([each.status for each in account.deliveries], len(set(received)))


@pytest.mark.parametrize(
    ("path", "request_body", "status"),
    [
        ("files", {"json": {}}, 400),
        ("files", {"data": {"purpose": "other"}, "files": FILE}, 400),
        ("files", {"data": {"purpose": "batch"}, "files": {"file": ("x", b"")}}, 400),
        ("files", {"data": {"purpose": "batch"}, "files": {"file": ("x", b"x" * 101)}}, 400),
        ("files", {"data": {**EXPIRY, "expires_after[seconds]": "soon"}, "files": FILE}, 400),
        ("files", {"data": {**EXPIRY, "expires_after[seconds]": "60"}, "files": FILE}, 400),
        ("batches", {"content": b"no JSON"}, 400),
        ("batches/unknown/cancel", {}, 404),
        ("batches/un/known", {}, 404),
        ("elsewhere", {}, 404),
        ("chat/completions", {"json": {"model": "m"}}, 400),
        ("chat/completions", {"json": []}, 400),
        ("responses", {"json": {"model": "m"}}, 400),
        ("responses", {"json": {"model": "m", "input": "x", "background": True, "store": False}}, 400),
        (
            "responses",
            {
                "json": {
                    "model": "m",
                    "input": "x",
                    "background": True,
                    "background_options": {"completion_window": "1h"},
                }
            },
            400,
        ),
        ("responses/unknown/cancel", {}, 404),
        ("webhook_endpoints", {"json": {"name": "x", "url": "http://x", "event_types": ["unknown"]}}, 400),
        ("webhook_endpoints", {"json": {"name": "x", "url": "x", "event_types": ["batch.failed"]}}, 400),
    ],
)
async def test_refusals(account, account_http, path, request_body, status):
    """What the API doesn't take is refused with an error that says why, and isn't billed."""
    account.limits.file_bytes = 100
    answer = await account_http.post(path, **request_body)

    assert (status, True) == (answer.status_code, bool(answer.json()["error"]["message"]))
    assert [] == account.journal.billed()


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"after": "unknown"}])
async def test_pages_that_do_not_exist(account_http, query):
    """A list refuses a page that it can't have."""
    assert (await account_http.get("batches", params=query)).status_code == 400


async def test_limit_of_files_on_azure(endpoint):
    """Azure has 500 files without an expiry, and more with it."""
    account = endpoint.account(style="azure")
    expiry = {**EXPIRY, "expires_after[seconds]": "1209600"}
    for _ in range(500):
        store(account, b"x", "x", "batch", endpoint.clock())
    async with httpx.AsyncClient(base_url=account.url, headers={"api-key": account.key}, trust_env=False) as client:
        statuses = [
            (await client.post("/files", data=data, files=FILE)).status_code for data in ({"purpose": "batch"}, expiry)
        ]

    assert [400, 200] == statuses


async def test_filter_of_azure(endpoint):
    """Azure's content filter says in an inner error what it was."""
    account = endpoint.account(style="azure")
    account.faults.calls.add(CallFault(400, "content_filter", retry_after_s=2))
    async with httpx.AsyncClient(base_url=account.url, headers={"api-key": account.key}, trust_env=False) as client:
        refused = await client.post("/chat/completions", json=chat("x"))

    assert "ResponsibleAIPolicyViolation" == refused.json()["error"]["innererror"]["code"]
    assert "2" == refused.headers["retry-after"]


async def test_faults_end(account, account_http):
    """Standing faults happen until they are cleared; a slow answer arrives."""
    account.faults.route("*", error(500), times=None)
    statuses = [(await account_http.get("files")).status_code for _ in range(2)]
    account.faults.clear()
    account.faults.route("files.list", RouteFault("slow", after_s=0.1))
    started = time.monotonic()
    statuses.append((await account_http.get("files")).status_code)

    assert ([500, 500, 200], True) == (statuses, time.monotonic() - started >= 0.1)


async def test_responses_that_the_model_refuses(endpoint, account, account_http):
    """A refused call fails the response in the background, with its error; one at once is an error itself."""
    account.faults.calls.add(CallFault(400, "invalid_prompt"), times=2)
    body = {"model": "m", "input": "x"}
    made = (await account_http.post("responses", json={**body, "background": True})).json()
    await endpoint.advance(10)
    ended = (await account_http.get(f"responses/{made['id']}")).json()
    direct = await account_http.post("responses", json=body)
    at_once = (await account_http.post("responses", json=body)).json()
    not_cancelled = await account_http.post(f"responses/{at_once['id']}/cancel")

    assert ("failed", "invalid_prompt") == (ended["status"], ended["error"]["code"])
    assert (400, 400) == (direct.status_code, not_cancelled.status_code)


async def test_clock_of_somebody_else():
    """A clock that the endpoint doesn't own can't be moved through it, but moves it."""
    seconds = [1000.0]
    async with provider.start(clock=lambda: seconds[0]) as endpoint:
        account = endpoint.account()
        async with httpx.AsyncClient(base_url=account.url, headers={"api-key": account.key}, trust_env=False) as client:
            batch = await create(client)
            with pytest.raises(TypeError):
                await endpoint.advance(1)
            seconds[0] += 100
            await endpoint.settle()
            ended = await get(client, batch)

    assert "completed" == ended["status"]

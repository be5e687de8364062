"""`verify`: a job each way into the app, and for each part yes or why not, by real faults."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from local.vault import server as vaults
from shared.clock import now
from shared.jobs.message import Delivery
from tests.support.app_front import app_front
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.cli_runner import CliResult, CliRunner
from tests.support.endpoint import reply
from tests.support.harness import Customer
from tests.support.live_server import LiveServer
from tests.support.loopback import serve
from tests.support.queue_worker import queue_worker
from tests.support.signatures import new_secret

LOOKS_AT_QUEUES = ("JOBS_QUEUE",)

KEY = "Zr8-fUnCtIoN_kEy=="


@pytest.fixture
async def app(cli: CliRunner) -> AsyncIterator[str]:
    """The app's address. It wants the function key."""
    async with app_front(cli.harness, KEY) as url:
        yield url


@pytest.fixture
def operator(customer: Customer) -> Customer:
    """The operator's test customer, with a connection and a signing secret."""
    customer.harness.put_secret(f"webhook--{customer.name}", new_secret())
    return customer


async def verified(
    cli: CliRunner, operator: Customer, *options: str, key: str = KEY, code: int = 1
) -> dict[str, dict[str, Any]]:
    """Run the command, whose exit code this is; returns the parts of its document by their names."""
    cli.write("function-key.txt", key)
    line = f"verify --customer {operator.name} --key-file function-key.txt {' '.join(options)} --json"
    result = await cli.run(line)
    assert code == result.code, result.text
    document = json.loads(result.out)
    assert document["ok"] == (code == 0)
    assert_no_secret(cli, operator, result, key)
    return {part["part"]: part for part in document["parts"]}


def assert_no_secret(cli: CliRunner, operator: Customer, result: CliResult, key: str) -> None:
    """No key, and no signing secret, is in what the command has printed."""
    secret = cli.harness.vault.secrets.live.get(f"webhook--{operator.name}")
    values = [key, operator.account.key, *([secret.versions[-1].value] if secret else [])]
    assert [] == [value for value in values if value and value in result.out + result.err]


async def test_every_part_works(cli: CliRunner, operator: Customer, app: str):
    """
    A job each way succeeds, and what it used is reported. It is in the usage of the test customer, and in no queue that
    somebody else reads.
    """
    cli.write("function-key.txt", KEY)
    line = f"verify --customer {operator.name} --url {app} --key-file function-key.txt"
    async with queue_worker(cli.harness):
        text = await cli.expect(line, out="Everything works.")
        parts = await verified(cli, operator, f"--url {app}", code=0)

    assert {"queue", "http", "webhook"} == parts.keys()
    assert {"yes"} == {part["outcome"] for part in parts.values()}
    usage = await operator.usage()
    assert 6 == len(usage) == len(operator.account.received)
    assert f"3 calls with {sum(record['input_tokens'] for record in usage) // 2} input and" in text.out
    assert {each["job_id"] for each in parts.values()} <= {record["job_id"] for record in usage}
    assert {256} == {
        max(request.json.get(name, 0) for name in ("max_completion_tokens", "max_tokens"))
        for request in operator.account.received
    }
    assert [] == await cli.harness.messages(cli.harness.environment["RESULTS_QUEUE"])


async def test_address_comes_from_the_settings_that_azd_writes(cli: CliRunner, operator: Customer, app: str):
    """Without `--url`, the app is at the address that the template outputs; only the chosen part is tried."""
    cli = cli.with_settings(SERVICE_APP_URI=app)
    async with queue_worker(cli.harness):
        parts = await verified(cli, operator, "--part http", code=0)

    assert ["http"] == [*parts]


async def test_wrong_function_key(cli: CliRunner, operator: Customer, app: str):
    """The app refuses the key; the other parts don't need it."""
    async with queue_worker(cli.harness):
        parts = await verified(cli, operator, f"--url {app}", key="another-key")

    assert {"queue": "yes", "http": "no", "webhook": "yes"} == {name: part["outcome"] for name, part in parts.items()}
    assert "answered 401. Pass a function key" in parts["http"]["message"]


async def test_parts_that_cannot_be_tried(cli: CliRunner, customer: Customer, app: str):
    """Without a key, an address or a signing secret, a part is not tried, which is no success. It says what to do."""
    without_url = await verified(cli, customer, "--part http --part webhook", key="")
    without_secret = await verified(cli, customer, f"--part webhook --url {app}")
    without_key = await cli.run(f"verify --customer {customer.name} --part http --url https://app.invalid --json")

    assert {"not_tried"} == {part["outcome"] for part in (*without_url.values(), *without_secret.values())}
    assert "pass the app's address with --url" in without_url["http"]["message"]
    assert f"`aijobs webhooks create {customer.name}` makes one" in without_secret["webhook"]["message"]
    (part,) = json.loads(without_key.out)["parts"]
    assert (1, "not_tried") == (without_key.code, part["outcome"])
    assert "No key was given. Pass a function key" in part["message"]


async def test_webhook_with_another_secret(cli: CliRunner, operator: Customer, app: str, tmp_path: Path):
    """The settings name another vault than the app's, whose secret the app does not accept."""
    async with vaults.start(tmp_path) as other:
        other.secrets.put(f"webhook--{operator.name}", new_secret())
        cli = cli.with_settings(KEY_VAULT_URL=other.url, KEY_VAULT_CA_FILE=str(other.ca_file))
        parts = await verified(cli, operator, f"--part webhook --url {app}")

    assert "no" == parts["webhook"]["outcome"]
    assert "answered 401." in parts["webhook"]["message"]
    assert "reads another vault" in parts["webhook"]["message"]


async def test_malformed_signing_secret(cli: CliRunner, customer: Customer, app: str):
    """A secret that can't sign is named, not shown."""
    customer.harness.put_secret(f"webhook--{customer.name}", "not-a-secret")

    parts = await verified(cli, customer, f"--part webhook --url {app}")

    assert ("not_tried", True) == (parts["webhook"]["outcome"], "is malformed" in parts["webhook"]["message"])


async def test_storage_refuses_the_login(cli: CliRunner, operator: Customer):
    """Storage answers 403, here to a wrong key: the part says what the login needs."""
    account = cli.harness.environment["JobStorage"]
    wrong = base64.b64encode(b"another key").decode()
    settings = ";".join(
        f"AccountKey={wrong}" if part.startswith("AccountKey=") else part for part in account.split(";")
    )

    parts = await verified(cli.with_settings(JobStorage=settings), operator, "--part queue")

    assert "no" == parts["queue"]["outcome"]
    assert "storage account rejects the key" in parts["queue"]["message"]


async def test_no_worker_takes_the_job(cli: CliRunner, operator: Customer, app: str):
    """If no worker runs, each part ends in time and says so, and no job that is taken later calls the model."""
    parts = await verified(cli, operator, f"--url {app} --timeout 0.5")
    sent_at = now() - timedelta(seconds=1)
    deliveries = [Delivery(body, "late", sent_at) for body in await operator.queued()]
    results = [await cli.harness.services.worker.process(each) for each in deliveries]

    assert {"no"} == {part["outcome"] for part in parts.values()}
    assert "No worker took the job within 0.5 s" in parts["queue"]["message"]
    for name in ("http", "webhook"):
        assert "The app accepted the job, but no worker took it within 0.5 s" in parts[name]["message"]
    assert [None] * 3 == results
    assert [] == operator.account.received


async def test_job_that_waits_says_for_what(cli: CliRunner, operator: Customer):
    """A job that is requeued is reported with the reason in its row."""
    operator.account.will_answer(reply({}, status=429, headers={"retry-after": "60"}))
    async with queue_worker(cli.harness):
        parts = await verified(cli, operator, "--part queue --timeout 3")

    assert "rate_limited" in parts["queue"]["message"]


async def test_app_that_is_not_there(cli: CliRunner, operator: Customer):
    """An address at which nothing answers is tried until the time is over; one that is not the app's says so."""
    nowhere = await verified(cli, operator, "--part http --url http://127.0.0.1:9 --timeout 0.1")
    elsewhere = await verified(cli, operator, f"--part http --timeout 0.1 --url {operator.account.base}", key="x")
    usage = await cli.run(f"verify --customer {operator.name} --url http://contoso.com/api")

    assert "can't be reached" in nowhere["http"]["message"]
    assert "answered 401" in elsewhere["http"]["message"]
    assert (2, True) == (usage.code, "must be https and a host alone" in usage.err)


@pytest.mark.parametrize("status", [200, 204, 302, 400, 404, 500, 503])
async def test_answer_of_something_else(cli: CliRunner, operator: Customer, status: int):
    """
    What answers in the app's place is no app, whichever status it has: each part says so. If it repeats what it was
    sent, the key is not shown.
    """

    async def echo(request: web.Request) -> web.Response:
        key = request.headers.get("x-functions-key", "")
        return web.json_response({"detail": f"You sent {key}, in a URL {quote(key)}"}, status=status)

    async with serve(echo) as url:
        parts = await verified(cli, operator, f"--part http --part webhook --url {url} --timeout 0.1")

    assert {"no"} == {part["outcome"] for part in parts.values()}
    words = "The answer is not the app's: --url leads elsewhere" if status < 300 else f"The app answered {status}."
    assert [] == [part["message"] for part in parts.values() if not part["message"].startswith(words)]
    assert quote(KEY) not in parts["http"]["message"]


async def test_answer_without_an_end(cli: CliRunner, operator: Customer, monkeypatch: pytest.MonkeyPatch):
    """An answer that goes on and on ends the part in time."""
    monkeypatch.setattr("aijobs.app_client._TRY_S", 0.3)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async with serve(drip) as url:
        parts = await verified(cli, operator, f"--part http --url {url} --timeout 0.1")

    assert "The app gave no whole answer within 0.3 s." in parts["http"]["message"]


async def test_text_that_is_no_key(cli: CliRunner, operator: Customer, app: str):
    """What no header can hold is refused before anything is sent."""
    parts = await verified(cli, operator, f"--part http --url {app}", key="ключ-от-двери")

    assert "characters that no function key" in parts["http"]["message"]


async def test_settings_of_something_else(cli: CliRunner, operator: Customer):
    """A queue or a table that does not exist is named, with the setting to check."""
    queue = await verified(cli.with_settings(JOBS_QUEUE="nobody-made-this"), operator, "--part queue")
    table = await verified(cli.with_settings(JOBS_TABLE="nobodymadethis"), operator, "--part queue")

    assert "Check the names of the queues." in queue["queue"]["message"]
    assert "Check JOBS_TABLE." in table["queue"]["message"]


async def test_result_that_never_comes(cli: CliRunner, operator: Customer):
    """A worker has the job and its endpoint does not answer: the part ends in time and says in which state it is."""
    endpoint = BlockingEndpoint()
    operator.account.will_answer(endpoint)
    async with queue_worker(cli.harness):
        try:
            parts = await verified(cli, operator, "--part queue --timeout 1.5")
        finally:
            endpoint.release.set()

    assert "no" == parts["queue"]["outcome"]
    assert re.search(r"state is running|failed with timeout", parts["queue"]["message"])


@pytest.mark.parametrize(
    ("connection", "code", "remedy"),
    [
        (None, "connection_not_found", "stores the test connection."),
        ({"api_key": "sk-wrong"}, "credential_rejected", "docs/operate.md says who can fix it."),
        ({"default_model": None}, "invalid_job", "docs/operate.md says who can fix it."),
    ],
)
async def test_job_that_fails_says_why(
    cli: CliRunner, newcomer: Customer, connection: dict[str, Any] | None, code: str, remedy: str
):
    """A job that ends with an error is reported with its code, and who can fix it."""
    if connection is not None:
        cli.harness.connect(newcomer, **connection)
    async with queue_worker(cli.harness):
        parts = await verified(cli, newcomer, "--part queue")

    assert "no" == parts["queue"]["outcome"]
    assert f"failed with {code}: " in parts["queue"]["message"]
    assert remedy in parts["queue"]["message"]


@pytest.mark.long
async def test_in_a_host(live_server: LiveServer, tmp_path: Path):
    """Against the app in a Functions host, each part works."""
    operator = live_server.harness.customer()
    live_server.harness.put_secret(f"webhook--{operator.name}", new_secret())
    cli = CliRunner(live_server.harness, tmp_path)

    result = await cli.expect(f"verify --customer {operator.name} --url {live_server.url}", out="Everything works.")

    assert 3 == len(operator.account.received), result.out

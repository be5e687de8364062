"""While an app setting is wrong, every way in is patient: no job fails or loses an attempt for that."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from azure.functions.queue import QueueMessage

import function_app
from shared import services as composition
from shared.clock import now, rfc3339
from shared.contract.callback import CallbackMessage, encode_callback
from shared.errors import SettingInvalid
from shared.http.messages import Request
from shared.http.routes import ROUTES
from shared.services import services
from shared.settings import Settings, read_settings, settings_with_fault
from shared.storage.message_text import decode_text, encode_text
from tests.support.rows import every_row
from tests.support.workers import OpenWorker, Worker
from tests.support.wrong_settings import Wrong, environment_with, wrong_cases

RIGHT = {
    "JobStorage": "UseDevelopmentStorage=true",
    "ALLOW_LOCAL_ENDPOINTS": "true",
    "JOBS_QUEUE": "our-jobs",
    "TEMPLATES_CONTAINER": "our-texts",
}
FAULT = "LEASE_SECONDS must be a whole number from 10 to 540."


@pytest.fixture
def wrong(open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker with a wrong setting, whose services the triggers use."""
    worker = open_worker(settings=faulty())
    monkeypatch.setattr(function_app, "services", lambda: worker.services)
    yield worker
    assert {} == worker.table.rows
    assert set(worker.queues.sent) <= {"our-jobs", "our-jobs-poison", "callbacks"}


def faulty() -> Settings:
    """The settings of an app with a wrong one."""
    environment = RIGHT | {"LEASE_SECONDS": "soon"}
    with pytest.raises(SettingInvalid) as raised:
        read_settings(environment)
    return settings_with_fault(environment, raised.value)


def right(open_worker: OpenWorker, worker: Worker) -> Worker:
    """A worker on the same Storage once the setting is corrected."""
    return open_worker(memory=worker.memory, settings=read_settings(RIGHT))


async def trigger(name: str, text: str, message_id: str = "", inserted_at: Any = None) -> list[dict[str, Any]]:
    """Call a queue trigger as the Functions host does; return the results that it publishes."""
    published: list[bytes] = []
    message = QueueMessage(id=message_id or uuid.uuid4().hex, body=text.encode(), insertion_time=inserted_at)
    arguments = [SimpleNamespace(set=published.append)] if name.endswith("_job") else []
    await getattr(function_app, name)._function.get_user_function()(message, *arguments)
    return [json.loads(decode_text(text)) for text in published]


@every_row(("name", "wrong"), wrong_cases(by_app=True))
async def test_services_wait_for_a_setting(monkeypatch: pytest.MonkeyPatch, name: str, wrong: Wrong):
    """
    Whatever the wrong setting, the app has services, which answer HTTP with a problem that names it and shows no
    value; corrected, they are others.
    """
    monkeypatch.setattr(composition, "_services", None)  # the process has had no job yet
    environment = environment_with(name, wrong.value, RIGHT)
    first, again = services(environment), services(environment)
    try:
        response = await first.http.handle("list_jobs", Request("GET", "https://app/api"))
        corrected = services(RIGHT)
        assert corrected is services(environment)  # a process reads its settings once, unless they are wrong
        await corrected.close()
    finally:
        await first.close()

    problem = json.loads(response.body)
    assert (True, "") == (first is again, corrected.settings.fault)
    assert (503, "application/problem+json") == (response.status, response.media_type)
    assert problem["detail"].startswith(f"{name} ")
    assert wrong.words in problem["detail"]
    assert len(wrong.value) < 2 or wrong.value not in problem["detail"] or wrong.value.startswith("our-jobs")


@pytest.mark.parametrize("encode", [encode_text, bytes.decode], ids=["base64", "plain"])
async def test_a_waiting_message_runs_when_the_setting_is_right(wrong: Worker, open_worker: OpenWorker, encode: Any):
    """However often it is delivered, it is requeued under its own id, with its first time, and has had no attempt."""
    customer = wrong.customer()
    inserted_at = now() - timedelta(minutes=5)
    text = encode(customer.body())
    for _ in range(15):
        assert [] == await trigger("run_job", text, "first-id" if text == encode(customer.body()) else "", inserted_at)
        ((body, delay_s),) = wrong.queues.sent.pop("our-jobs")
        assert 60 <= delay_s <= 66
        text = encode_text(body)

    result = await right(open_worker, wrong).run(customer, body)

    assert ("succeeded", "first-id", 1) == (result["status"], result["job_id"], result["attempts"])
    assert rfc3339(inserted_at) == result["submitted_at"]
    wrong.table.rows.clear()


async def test_its_deadline_counts(wrong: Worker, open_worker: OpenWorker):
    """A job whose deadline passes while the setting is wrong ends with `timeout` once it is right."""
    customer = wrong.customer()
    text = encode_text(customer.body(job_id="late", options={"deadline_s": 60}))
    assert [] == await trigger("run_job", text, inserted_at=now() - timedelta(minutes=5))
    ((body, _),) = wrong.queues.sent.pop("our-jobs")

    result = await right(open_worker, wrong).run(customer, body)

    assert ("late", "timeout") == (result["job_id"], result["error"]["code"])
    assert [] == customer.account.received
    wrong.table.rows.clear()


async def test_a_poison_message_waits_too(wrong: Worker, open_worker: OpenWorker):
    """A message that the host gave up meanwhile stays in the poison queue; its job runs when the setting is right."""
    customer = wrong.customer()
    assert [] == await trigger("dead_letter_job", encode_text(customer.body(job_id="poisoned")))
    ((body, _),) = wrong.queues.sent.pop("our-jobs-poison")
    worker = right(open_worker, wrong)

    assert await worker.dead_letter(body) is None
    ((body, _),) = wrong.queues.sent.pop("our-jobs")
    result = await worker.run(customer, body)

    assert ("poisoned", "succeeded") == (result["job_id"], result["status"])
    wrong.table.rows.clear()


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("name", ["run_job", "dead_letter_job"])
async def test_what_is_no_job_needs_no_setting(name: str):
    """It gets its result at once, under its message id."""
    (result,) = await trigger(name, "not a job", "m-1")

    assert ("m-1", "invalid_job") == (result["job_id"], result["error"]["code"])


@pytest.mark.parametrize(("name", "queue"), [("deliver_callback", "callbacks"), ("dead_letter_callback", None)])
async def test_a_callback_waits(wrong: Worker, name: str, queue: str | None):
    """The same message comes again: no try was made."""
    message = CallbackMessage(customer="acme", job_id="job", first_at=now())
    body = encode_callback(message)

    await trigger(name, encode_text(body))

    ((again, delay_s),) = wrong.queues.sent[queue or "callbacks-poison"]
    assert (body, True) == (again, 60 <= delay_s <= 66)
    wrong.queues.sent.clear()


@every_row("route", ROUTES, ids=lambda route: route.name)
async def test_requests_are_told_which_setting_is_wrong(wrong: Worker, route: Any):
    """A problem of 503 names it, whoever asks: nothing else is read or written."""
    response = await wrong.services.http.handle(route.name, Request(route.method, "https://app/api", body=b"{}"))

    problem = json.loads(response.body)
    assert (503, "application/problem+json") == (response.status, response.media_type)
    assert ("unavailable", FAULT) == (problem["code"], problem["detail"])
    assert "Retry-After" not in response.headers  # it does not pass by itself


@every_row("timer", ["retention_sweep", "wake_jobs", "close_months", "project_budgets"])
@pytest.mark.usefixtures("wrong")
async def test_timers_do_nothing(timer: str):
    """With a retention that nobody has chosen, too much might be deleted; the log names the setting each time."""
    with pytest.raises(SettingInvalid, match="LEASE_SECONDS"):
        await getattr(function_app, timer)._function.get_user_function()(None)


async def test_a_wrong_static_connection_stops_only_whom_it_serves(open_worker: OpenWorker):
    """A job that would run on the operator's connection waits for it, unfailed; one with its own connection runs."""
    setting = {"STATIC_CONNECTION": '{"api_key": "KEY"}', "ALLOW_STATIC_CONNECTION": "*"}
    worker = open_worker(settings=read_settings(RIGHT | setting))
    guest, owner = worker.customer(connection=None), worker.customer()

    assert await worker.deliver(guest, job_id="waits") is None
    result = await worker.run(owner)

    row = worker.row(guest, "waits")
    assert ("waiting", 0, "succeeded") == (row["state"], row["failed_attempts"], result["status"])
    assert row["reason"].startswith("STATIC_CONNECTION is not a valid connection. ")

"""Jobs over HTTP: submitted, followed, listed, called off; through the door, on real Storage."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.contract.decoding import MAX_CONTAINERS
from shared.errors import StorageUnavailable
from shared.http.jobs import MAX_PAGE_SIZE
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.inputs import MAX_INPUT_BYTES
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from shared.services import build
from shared.settings import read_settings
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, World, delivery
from tests.support.http_client import Answered, knock


@pytest.fixture(name="world")
def _world(own_world: World) -> World:
    return own_world


@pytest.fixture
def customer(world: World) -> Customer:
    """A customer of one test."""
    return world.customer()


async def post(customer: Customer, /, **members: Any) -> Answered:
    """Submits a job."""
    headers = members.pop("headers", {})
    return await knock(customer.world, "POST", "jobs", json_body=customer.job(**members), headers=headers)


async def run_queue(customer: Customer) -> list[dict[str, Any]]:
    """Runs the customer's messages, as the trigger does; gives the results."""
    told = [await customer.world.deliver(body) for body in await customer.queued()]
    return [json.loads(one) for one in told if one is not None]


async def test_a_job_is_accepted_and_followed_to_its_result(customer: Customer):
    """202 with where to look; the status goes from queued to succeeded; then the result is there."""
    accepted = await post(customer, job_id="order-1", metadata={"a": "b"})

    path = f"jobs/{customer.name}/order-1"
    assert (202, f"/api/{path}") == (accepted.status, accepted.headers["Location"])
    assert 0 < int(accepted.headers["Retry-After"])
    assert ("queued", 0, "chat") == tuple(accepted.json[name] for name in ("status", "attempts", "action"))
    assert 404 == (await knock(customer.world, "GET", f"{path}/result")).status

    (told,) = await run_queue(customer)

    status = await knock(customer.world, "GET", path)
    result = await knock(customer.world, "GET", f"{path}/result")
    assert ("succeeded", 1) == (status.json["status"], status.json["attempts"])
    assert f"/api/{path}/result" == status.json["links"]["result"]
    assert told == result.json
    assert ("Hello.", {"a": "b"}) == (result.json["output"]["text"], result.json["metadata"])
    assert accepted.json["submitted_at"] == result.json["submitted_at"]


async def test_the_same_job_again_is_the_job_that_exists(customer: Customer):
    """The same id and content, however it is written, is one job, bought once; other content is a conflict."""
    first = await post(customer, job_id="twice", input={"prompt": "Hello?"})
    body = json.dumps(customer.job(job_id="twice"), indent=3).encode()
    again = await knock(customer.world, "POST", "jobs", body=body)
    other = await post(customer, job_id="twice", input={"prompt": "Something else?"})
    results = await run_queue(customer)
    after = await post(customer, job_id="twice")

    assert (202, 202, 202) == (first.status, again.status, after.status)
    assert first.json["submitted_at"] == again.json["submitted_at"]
    assert (409, "conflict") == (other.status, other.json["code"])
    assert "application/problem+json" == other.media_type
    assert 1 == len({json.dumps(result) for result in results})
    assert 1 == len(customer.account.received)
    assert "succeeded" == after.json["status"]
    assert [] == await customer.queued()


async def test_a_job_without_an_id_gets_a_new_one(customer: Customer):
    """Two jobs without an id are two jobs."""
    first, second = await post(customer), await post(customer)

    assert first.json["job_id"] != second.json["job_id"]


async def test_a_crash_before_the_message_loses_nothing(customer: Customer, monkeypatch: pytest.MonkeyPatch):
    """Where the queue did not take the message, nothing was accepted; handed in again, the job runs."""
    door = customer.world.services.queues
    send = type(door).send

    async def fail(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("The queue is down.")

    monkeypatch.setattr(type(door), "send", fail)
    refused = await post(customer, job_id="once")
    monkeypatch.setattr(type(door), "send", send)
    accepted = await post(customer, job_id="once")
    (result,) = await run_queue(customer)

    assert (503, "unavailable") == (refused.status, refused.json["code"])
    assert 0 < int(refused.headers["Retry-After"])
    assert (202, "succeeded") == (accepted.status, result["status"])


@pytest.mark.parametrize("known_size", [40_000, 60_000, 500_000])
async def test_an_input_beyond_a_message_goes_to_a_blob(customer: Customer, known_size: int):
    """A large input is accepted like any other, and bought once; another one under its id is a conflict."""
    text = "x" * known_size
    accepted = await post(customer, job_id="large", input={"prompt": text})
    again = await post(customer, job_id="large", input={"prompt": text})
    other = await post(customer, job_id="large", input={"prompt": f"{text}y"})
    results = await run_queue(customer)

    assert (202, 202, 409) == (accepted.status, again.status, other.status)
    assert {"succeeded"} == {result["status"] for result in results}
    (asked,) = customer.account.received
    assert text == asked.json["messages"][0]["content"]


async def test_a_body_beyond_the_limit_is_refused(customer: Customer):
    """413, with the limit in words."""
    refused = await knock(customer.world, "POST", "jobs", body=b" " * (MAX_BODY_BYTES + 1))

    assert (413, "too_large") == (refused.status, refused.json["code"])
    assert str(MAX_BODY_BYTES) in refused.json["detail"]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"customer": "No Customer"}, "`customer` must be"),
        ({"action": "dance"}, "`action` must be one of"),
        ({"input": {"promt": "Hello?"}}, "`input.promt` is not a known member"),
        ({"input": {"prompt": 1}}, "`input.prompt`"),
        ({"_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}}, "`_envelope` is not a known member"),
        ({"output": {"queue": "somebody-elses"}}, "`output.queue`"),
        ({"options": {"max_retries": 99}}, "`options.max_retries`"),
        ({"input": {"input_blob": "secrets/of/others.json"}}, "`input_blob` must be in"),
    ],
)
async def test_what_the_queue_would_refuse_is_refused_at_the_door(
    customer: Customer, members: dict[str, Any], says: str
):
    """400 with the same sentence that names the member; nothing is put on record or into the queue."""
    refused = await post(customer, job_id="bad", **members)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert says in refused.json["detail"]
    assert [] == await customer.rows()
    assert [] == await customer.queued()


@pytest.mark.parametrize("blob", ["{inputs}/somebody-else/a.txt", "nowhere/{customer}/a.txt"])
async def test_a_text_out_of_reach_is_refused_at_the_door(customer: Customer, blob: str):
    """A blob that a job may not read is named before the job is accepted, in the run's words."""
    name = blob.format(inputs=customer.world.environment["INPUT_CONTAINERS"], customer=customer.name)
    refused = await post(customer, action="summarize", input={"blob": name})
    told = await customer.run(action="summarize", input={"blob": name})

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert told["error"]["message"] == refused.json["detail"]
    assert "`input.blob` must be in" in refused.json["detail"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
    ],
)
async def test_what_is_no_json_is_refused(world: World, body: bytes, headers: dict[str, str], status: int):
    """A body that can't be read, or is something else by its own word, is the caller's to mend."""
    refused = await knock(world, "POST", "jobs", body=body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)


async def test_a_body_that_did_not_come_is_said_to_be_empty(world: World):
    """Of a body in chunks Azure's host hands on nothing: its sender is told, and not that its JSON is wrong."""
    refused = await knock(world, "POST", "jobs")

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "Content-Length" in refused.json["detail"]


async def test_a_result_is_waited_for(customer: Customer):
    """`Prefer: wait` answers 200 with the result where it comes in time, and 202 where it does not."""
    waiting = asyncio.create_task(post(customer, job_id="soon", headers={"prefer": "respond-async, wait=60"}))
    while not (results := await run_queue(customer)):  # noqa: ASYNC110  # it is a queue that is waited for
        await asyncio.sleep(0.02)
    answered = await waiting
    late = await post(customer, job_id="late", headers={"prefer": "wait=0"})

    assert (200, results[0]) == (answered.status, answered.json)
    assert "wait=60" == answered.headers["Preference-Applied"]
    assert (202, "queued") == (late.status, late.json["status"])


async def test_a_job_is_accepted_though_storage_fails_while_it_is_waited_for(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """It is in the queue by then: 202 with what is known of it, not an error after which it is handed in once more."""

    async def fail(*_: Any) -> None:
        raise StorageUnavailable("Storage is down.")

    customer.account.will_answer(completion("y" * 60_000))
    await post(customer, job_id="long")
    await run_queue(customer)
    monkeypatch.setattr(JobQueries, "get", fail)
    monkeypatch.setattr(Outputs, "read_result", fail)
    new = await post(customer, headers={"prefer": "wait=1"})
    done = await post(customer, job_id="long", headers={"prefer": "wait=1"})
    (message,) = await customer.queued()

    assert (202, "queued", json.loads(message)["job_id"]) == (new.status, new.json["status"], new.json["job_id"])
    assert (202, "succeeded") == (done.status, done.json["status"])


async def test_a_result_without_room_in_the_queue_is_whole_over_http(customer: Customer):
    """What the message had to leave out is there."""
    customer.account.will_answer(completion("y" * 60_000))
    await post(customer, job_id="long")
    (told,) = await run_queue(customer)
    result = await knock(customer.world, "GET", f"jobs/{customer.name}/long/result")

    assert "output" not in told
    assert "y" * 60_000 == result.json["output"]["text"]


async def test_status_and_result_have_etags(customer: Customer):
    """Asked again with what is known, the answer is 304 without a body; what has changed comes whole."""
    await post(customer, job_id="tagged")
    path = f"jobs/{customer.name}/tagged"
    tag = (await knock(customer.world, "GET", path)).headers["ETag"]
    same = await knock(customer.world, "GET", path, headers={"if-none-match": f'"other", W/{tag}'})
    await run_queue(customer)
    changed = await knock(customer.world, "GET", path, headers={"if-none-match": tag})
    result_tag = (await knock(customer.world, "GET", f"{path}/result")).headers["ETag"]
    known = await knock(customer.world, "GET", f"{path}/result", headers={"if-none-match": result_tag})

    assert (304, b"", tag) == (same.status, same.body, same.headers["ETag"])
    assert (200, "succeeded") == (changed.status, changed.json["status"])
    assert (304, b"") == (known.status, known.body)


async def test_a_queued_job_can_be_cancelled(customer: Customer):
    """It ends as cancelled without a call, and is so however often it is asked for; one that ran is a conflict."""
    await post(customer, job_id="off")
    path = f"jobs/{customer.name}/off"
    cancelled = await knock(customer.world, "DELETE", path)
    (result,) = await run_queue(customer)
    late = await knock(customer.world, "DELETE", path)
    called = [*customer.account.received]
    await customer.run(job_id="done")
    done = await knock(customer.world, "DELETE", f"jobs/{customer.name}/done")

    assert (200, "cancelled") == (cancelled.status, cancelled.json["status"])
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])
    assert [] == called
    assert (200, "cancelled") == (late.status, late.json["status"])
    assert late.json == (await knock(customer.world, "GET", path)).json
    assert (409, "conflict") == (done.status, done.json["code"])


async def test_a_job_that_waits_says_why(customer: Customer):
    """A job that its provider sent away has the reason in its status."""
    customer.account.will_answer(error(429, retry_after="600"))
    await post(customer, job_id="slow")
    await run_queue(customer)
    status = await knock(customer.world, "GET", f"jobs/{customer.name}/slow")

    assert ("waiting", "rate_limited", 1) == (
        status.json["status"],
        status.json["error"]["code"],
        status.json["attempts"],
    )


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("job_id", ["nothing", "..", "a%2Fb", "x" * 200, "ü"])
async def test_what_is_not_there_is_not_found(customer: Customer, method: str, job_id: str):
    """An unknown id and one that can't be an id have the same answer."""
    refused = await knock(customer.world, method, f"jobs/{customer.name}/{job_id}")

    assert (404, "not_found", "There is no such job.") == (refused.status, refused.json["code"], refused.json["detail"])


async def test_jobs_are_listed_newest_first_over_inserts(customer: Customer):
    """Pages follow each other without a gap or a repetition, though jobs come meanwhile."""
    for number in range(5):
        await post(customer, job_id=f"j{number}")
        await asyncio.sleep(0.002)
    first = await listed(customer, limit=2)
    await post(customer, job_id="new")
    second = await listed(customer, limit=2, continuation=first.json["continuation"])
    third = await listed(customer, limit=2, continuation=second.json["continuation"])

    pages = [[job["job_id"] for job in page.json["jobs"]] for page in (first, second, third)]
    assert [["j4", "j3"], ["j2", "j1"], ["j0"]] == pages
    assert "continuation" not in third.json


async def test_a_page_follows_a_job_that_is_gone(customer: Customer):
    """A place is good although its row was removed since."""
    for number in range(2):
        await post(customer, job_id=f"j{number}")
        await asyncio.sleep(0.002)
    first = await listed(customer, limit=1)
    gone = {"PartitionKey": customer.name, "RowKey": first.json["continuation"]}
    await customer.world.table.delete_entity(gone)
    second = await listed(customer, continuation=first.json["continuation"])

    assert ["j0"] == [job["job_id"] for job in second.json["jobs"]]


async def test_jobs_are_listed_by_status(customer: Customer):
    """Only those of one status, as the status documents have it."""
    for number in range(3):
        await post(customer, job_id=f"done{number}")
    await run_queue(customer)
    await post(customer, job_id="queued")

    for status, expected in {"succeeded": {"done0", "done1", "done2"}, "queued": {"queued"}, "failed": set()}.items():
        page = await listed(customer, status=status)
        assert expected == {job["job_id"] for job in page.json["jobs"]}, status


CROWD = b"[]," * 200_000 + b"[]"


@pytest.mark.parametrize(
    "body",
    [
        b'{"customer":"a","action":"chat","input":{"prompt":"x","parameters":{"stop":[%s]}}}' % CROWD,
        b'{"customer":"a","action":"chat","input":{"prompt":"x"},"metadata":[%s]}' % CROWD.replace(b"[]", b"{}"),
        b'{"customer":"a","action":"raw","input":{"path":"a","json":[%s]}}' % CROWD.replace(b"[]", b'["["]'),
        CROWD,
    ],
    ids=["lists", "objects", "with texts", "no job"],
)
async def test_a_body_of_a_hundred_thousand_lists_is_refused(customer: Customer, body: bytes):
    """400 before anything is made of them: they would take twenty times the memory, and seconds of everybody's time."""
    refused = await knock(customer.world, "POST", "jobs", body=body)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "more than 200,000 lists and objects" in refused.json["detail"]


async def test_a_blob_of_a_hundred_thousand_lists_is_refused(customer: Customer):
    """The input that a job names is held to what a body is."""
    container = customer.world.environment["INPUT_CONTAINERS"]
    blob = customer.world.blobs.get_blob_client(container, f"{customer.name}/in.json")
    await blob.upload_blob(b'{"prompt":"x","parameters":{"stop":[%s]}}' % CROWD)
    job = {"customer": customer.name, "action": "chat", "input_blob": f"{container}/{customer.name}/in.json"}
    refused = await knock(customer.world, "POST", "jobs", json_body=job)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert "`input` holds more than 200,000 lists and objects" in refused.json["detail"]


@pytest.mark.parametrize(
    ("action", "given"),
    [
        ("summarize", {"text": 'x[["\\"]]={{}}\n' * 51_000}),
        ("embed", {"texts": ["[{" * 200] * 2048}),
        ("multi_chat", {"prompts": [[{"role": "user", "content": "[{" * 60}] * 2] * 1000}),
    ],
    ids=["code", "texts", "conversations"],
)
async def test_brackets_in_texts_are_no_lists(customer: Customer, action: str, given: dict[str, Any]):
    """Large inputs that are in earnest are taken, whatever their texts are full of."""
    body = json.dumps({"customer": customer.name, "action": action, "input": given}).encode()
    assert MAX_CONTAINERS < body.count(b"[") + body.count(b"{")
    taken = await knock(customer.world, "POST", "jobs", body=body)
    await customer.queued()

    assert 202 == taken.status, taken.body


PLACES = [{"continuation": text} for text in ("x", "t_1_a", "t_" + "1" * 14, "j_a", "t_" + "1" * 14 + "_a/b")]


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": str(MAX_PAGE_SIZE + 1)}, {"limit": "²"}, {"status": "lost"}, *PLACES]
)
async def test_a_query_that_can_not_be_read_is_refused(customer: Customer, query: dict[str, str]):
    """400 with the member's name."""
    refused = await listed(customer, **query)

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert f"`{next(iter(query))}`" in refused.json["detail"]


async def test_jobs_from_the_queue_are_followed_too(customer: Customer):
    """A job that came by the queue has a status, a result and a place in the list."""
    await customer.run(job_id="queued-1")

    assert ["queued-1"] == [job["job_id"] for job in (await listed(customer)).json["jobs"]]
    status = await knock(customer.world, "GET", f"jobs/{customer.name}/queued-1")
    assert ("succeeded", "chat") == (status.json["status"], status.json["action"])


async def listed(customer: Customer, **query: Any) -> Answered:
    """A page of the customer's jobs."""
    asked = {name: str(value) for name, value in query.items()}
    return await knock(customer.world, "GET", f"customers/{customer.name}/jobs", query=asked)


@pytest.mark.parametrize("indent", [None, 1])
async def test_a_job_in_another_spelling_is_the_same_job(customer: Customer, indent: int | None):
    """Around the size where an input becomes a blob, too: the queue's and HTTP's spellings are one job."""
    job = customer.job(job_id="spelt", input={"prompt": "\u00e9" * 9000, "parameters": {"stop": ["a"] * 6000}})
    await customer.world.deliver(json.dumps(job, ensure_ascii=False, separators=(",", ":")).encode())

    again = await knock(customer.world, "POST", "jobs", body=json.dumps(job, indent=indent).encode())

    assert (202, "succeeded") == (again.status, again.json["status"])


@pytest.mark.parametrize("pad", [10, 60_000])
async def test_an_input_is_sent_as_it_was_written(customer: Customer, pad: int):
    """Numbers and the order of members stay, also where the input has to go to a blob."""
    said = '{"z":1e2,"a":12345678901234567890123,"f":0.10,"pad":"%s"}' % ("x" * pad)
    head = f'{{"customer":"{customer.name}","job_id":"raw","action":"raw","input":{{"path":"responses","json":'
    await knock(customer.world, "POST", "jobs", body=f"{head}{said}}}}}".encode())
    await run_queue(customer)

    assert said.encode() == customer.account.received[0].body


async def test_too_large_an_input_is_refused_at_the_door(customer: Customer):
    """What could not be read later is not accepted."""
    refused = await post(customer, input={"prompt": "x" * (MAX_INPUT_BYTES + 10)})

    assert (413, "too_large") == (refused.status, refused.json["code"])


async def test_a_done_job_whose_input_blob_is_gone_is_the_job_that_exists(customer: Customer):
    """Handed in again after its input was removed, it is what it was, and no bad request."""
    container = customer.world.environment["INPUT_CONTAINERS"]
    blob = customer.world.blobs.get_blob_client(container, f"{customer.name}/in.json")
    await blob.upload_blob(b'{"prompt": "Hello?"}')
    job = {"customer": customer.name, "action": "chat", "job_id": "b1"}
    job["input_blob"] = f"{container}/{customer.name}/in.json"
    first = await knock(customer.world, "POST", "jobs", json_body=job)
    await run_queue(customer)
    await blob.delete_blob()
    again = await knock(customer.world, "POST", "jobs", json_body=job)
    other = await knock(customer.world, "POST", "jobs", json_body=job | {"job_id": "b2"})

    assert (202, 202, 400) == (first.status, again.status, other.status)
    assert "succeeded" == again.json["status"]


async def test_a_job_that_was_cancelled_before_its_message_was_sent_ends(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """Handed in again, it is sent, so that it ends with a result, as cancelled."""
    queues = type(customer.world.services.queues)
    send = queues.send

    async def fail(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("The queue is down.")

    monkeypatch.setattr(queues, "send", fail)
    await post(customer, job_id="off")
    monkeypatch.setattr(queues, "send", send)
    await knock(customer.world, "DELETE", f"jobs/{customer.name}/off")
    again = await post(customer, job_id="off")
    (result,) = await run_queue(customer)

    assert (202, "cancelled") == (again.status, again.json["status"])
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])


async def test_a_job_whose_worker_died_can_be_cancelled(customer: Customer):
    """It waits to be taken over; called off, it ends as cancelled, and what its worker may have bought is on record."""
    await post(customer, job_id="dead")
    (message,) = await customer.queued()
    job = decode_queued_job(message, default_id="")
    ledger = customer.world.services.ledger
    await ledger.claim(customer.name, "dead", fingerprint=fingerprint(job), submitted_at=now())
    key = {"PartitionKey": customer.name, "RowKey": "j_dead"}
    await customer.world.table.update_entity(key | {"lease_until": now() - timedelta(seconds=1)})
    path = f"jobs/{customer.name}/dead"

    waits = await knock(customer.world, "GET", path)
    cancelled = await knock(customer.world, "DELETE", path)
    told = json.loads(await customer.world.deliver(message) or b"{}")

    assert ("waiting", 200, "cancelled") == (waits.json["status"], cancelled.status, cancelled.json["status"])
    assert "cancelled" == told["error"]["code"]
    assert ["unanswered"] == [row["outcome"] for row in await customer.usage()]


async def test_a_job_whose_queue_is_allowed_no_more_ends(customer: Customer):
    """It was accepted: it ends as failed, told where results usually go, and its status says so."""
    world = customer.world
    await post(customer, job_id="moved", output={"queue": world.environment["ALLOWED_RESULT_QUEUES"]})
    (message,) = await customer.queued()
    changed = build(read_settings({**world.environment, "ALLOWED_RESULT_QUEUES": ""}))
    told = await changed.worker.process(delivery(message))
    await changed.close()
    status = await knock(world, "GET", f"jobs/{customer.name}/moved")

    assert "invalid_job" == json.loads(told or b"{}")["error"]["code"]
    assert ("failed", "invalid_job") == (status.json["status"], status.json["error"]["code"])


async def test_a_fault_of_ours_ends_the_job_and_keeps_the_record(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """
    Where closing a job crashes, it is closed as internal, the call that was paid for is on record as lost, and the
    log says how the job ended, as of any other.
    """
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    await post(customer, job_id="crash")
    monkeypatch.setattr(Outputs, "inline_body", lambda *_: 1 / 0)
    (told,) = await run_queue(customer)
    status = await knock(customer.world, "GET", f"jobs/{customer.name}/crash")

    assert ("internal", "failed", 1) == (told["error"]["code"], status.json["status"], told["usage"]["calls"])
    assert [("lost", 11)] == [(row["outcome"], row["input_tokens"]) for row in await customer.usage()]
    (line,) = [text for text in caplog.messages if text.startswith("job_finished ")]
    assert f"customer={customer.name} job_id=crash action=chat status=failed code=internal " in line

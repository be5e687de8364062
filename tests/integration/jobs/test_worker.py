"""The way of a job through the real parts: Azurite, the vault stand-in, an AI endpoint over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.contract.job import decode_job
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.fingerprint import fingerprint
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import completion, error, reply, reset
from tests.support.fakes import MemoryQueues
from tests.support.harness import World, decoded, delivery, open_world
from tests.support.invalid_jobs import CODES


async def test_chat_job_ends_with_a_whole_result(world: World):
    """A chat job's result names the job, its answer, usage, connection and times, and echoes metadata."""
    customer = world.customer()

    result = await customer.run(job_id="job-1", metadata={"order": "7"})

    assert result["output"]["text"] == "Hello."
    assert result["output"]["finish_reason"] == "stop"
    times = [result.pop(name) for name in ("submitted_at", "started_at", "finished_at")]
    assert times == sorted(times)
    assert all(datetime.fromisoformat(text).tzinfo == UTC for text in times)
    result.pop("output")
    assert {
        "job_id": "job-1",
        "customer": customer.name,
        "action": "chat",
        "model": "gpt-4o",
        "status": "succeeded",
        "metadata": {"order": "7"},
        "attempts": 1,
        "usage": {
            "calls": 1,
            "input_tokens": 11,
            "output_tokens": 7,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            "images": 0,
        },
        "connection": {
            "name": "default",
            "source": "key_vault",
            "provider": "azure_openai",
            "billed_to": "customer",
        },
    } == result


async def test_the_customers_own_key_model_and_messages_arrive(world: World):
    """The endpoint gets the customer's key, the model, the messages and every parameter as it was given."""
    customer = world.customer()
    parameters = {
        "temperature": 0.2,
        "n": 1,
        "stop": ["\n"],
        "response_format": {"type": "json_object"},
        "x-own": [1],
    }

    await customer.run(input={"prompt": "Hi", "system": "Be brief.", "parameters": parameters}, model="my-deployment")

    received = customer.account.received[0]
    assert received.path == "/openai/v1/chat/completions"
    assert received.headers["api-key"] == customer.account.key
    assert {
        "model": "my-deployment",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        **parameters,
    } == received.json


async def test_usage_record_stands_beside_the_done_job(world: World):
    """A call leaves one usage record with the provider's own counts, and the job's row is done."""
    customer = world.customer()
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    customer.account.will_answer(completion(usage=usage))

    await customer.run(job_id="billed")

    (record,) = await customer.usage()
    (nonce,) = [row["incarnation"] for row in await customer.rows() if row["RowKey"] == "j_billed"]
    assert record["RowKey"] == f"u_{datetime.now(UTC):%Y-%m}_billed_{nonce}_0000"
    assert (100, 50, 64, 40, 1) == tuple(
        record[name] for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "calls")
    )
    assert record["reported"] is True
    assert record["billed_to"] == "customer"
    assert record["request_id"] == "req-1"
    (row,) = [row for row in await customer.rows() if row["RowKey"] == "j_billed"]
    assert (row["state"], row["status"]) == ("done", "succeeded")


async def test_usage_that_the_provider_does_not_tell_is_said_to_be_missing(world: World):
    """Without `usage` in the answer the record counts the call and says that tokens were not reported."""
    customer = world.customer()
    customer.account.will_answer(reply({"choices": [{"index": 0, "message": {"content": "x"}}]}))

    result = await customer.run()

    (record,) = await customer.usage()
    assert (record["reported"], record["calls"], record["input_tokens"]) == (False, 1, 0)
    assert result["usage"]["calls"] == 1


@pytest.mark.parametrize(("body", "words"), CODES.values(), ids=CODES.keys())
async def test_bad_input_is_answered_at_once(world: World, body: bytes, words: str):
    """What is no job ends as a failed result under its message id, whose message names the fault."""
    message_id, before = str(uuid.uuid4()), await _waiting(world)

    result = decoded(await world.services.worker.process(delivery(body, message_id)))

    assert (result["status"], result["error"]["code"], result["job_id"]) == (
        "failed",
        "invalid_job",
        message_id,
    )
    assert words in result["error"]["message"]
    assert await _waiting(world) == before


async def test_refused_job_echoes_what_is_valid(world: World):
    """A refused job's result still bears its own id, customer and metadata, so that its sender finds it."""
    body = json.dumps(
        {
            "job_id": "mine",
            "customer": "acme",
            "action": "chat",
            "metadata": {"a": "b"},
            "input": {"prompt": 1},
        }
    ).encode()

    result = decoded(await world.services.worker.process(delivery(body)))

    assert ("mine", "acme", "chat", {"a": "b"}) == tuple(
        result[name] for name in ("job_id", "customer", "action", "metadata")
    )


async def test_message_of_full_size_is_run(world: World):
    """A message that fills 64 KiB as base64 is a job like any other."""
    customer = world.customer()
    frame = len(json.dumps(customer.job(input={"prompt": ""})).encode())
    body = json.dumps(customer.job(input={"prompt": "x" * (MESSAGE_LIMIT - frame)})).encode()
    assert len(base64.b64encode(body)) == 65_536

    result = await customer.run(body)

    assert result["status"] == "succeeded"


def _unix(delta: timedelta) -> int:
    return int((datetime.now(UTC) + delta).timestamp())


SECRETS = {
    "none": (None, {}, "connection_not_found"),
    "disabled": ("{}", {"attributes": {"enabled": False}}, "connection_disabled"),
    "expired": ("{}", {"attributes": {"exp": _unix(-timedelta(minutes=1))}}, "connection_expired"),
    "not yet valid": ("{}", {"attributes": {"nbf": _unix(timedelta(hours=1))}}, "connection_expired"),
    "malformed": ('{"endpoint": ', {}, "connection_invalid"),
    "unknown member": ('{"api_key": "k", "end_point": "x"}', {}, "connection_invalid"),
    "endpoint not allowed": (
        '{"api_key": "k", "provider": "openai", "endpoint": "https://evil.example/v1"}',
        {},
        "connection_invalid",
    ),
}


@pytest.mark.parametrize(("value", "about", "code"), SECRETS.values(), ids=SECRETS.keys())
async def test_connection_that_cannot_serve_ends_the_job_with_its_own_code(
    world: World, value: str | None, about: dict, code: str
):
    """A missing, disabled, expired or malformed secret fails the job with its own code and calls nothing."""
    customer = world.customer(connection=None)
    if value == "{}":
        world.connect(customer)
        value = world.vault.secrets.get(f"ai--{customer.name}--default")[1].value
    if value is not None:
        world.keep(f"ai--{customer.name}--default", value, **about)

    result = await customer.run()

    assert (result["status"], result["error"]["code"]) == ("failed", code)
    assert customer.account.received == []
    assert await customer.usage() == []


async def test_done_job_is_told_again_and_not_bought_again(world: World):
    """A redelivered job that is done publishes its result without a model call."""
    customer = world.customer()
    first = await customer.deliver(job_id="again")

    second = await customer.deliver(job_id="again")

    assert first == second
    assert len(customer.account.received) == 1
    assert len(await customer.usage()) == 1


async def test_two_deliveries_at_once_make_one_call(world: World):
    """Of two deliveries of a job at once one runs it; the other goes back into the queue."""
    customer, held = world.customer(), Held()
    customer.account.will_answer(held)

    before = await _waiting(world)
    runs = [asyncio.create_task(customer.deliver(message_id="b2f7")) for _ in range(2)]
    await asyncio.wait(runs, return_when=asyncio.FIRST_COMPLETED)
    held.end.set()
    told = await asyncio.gather(*runs)

    assert sorted(one is None for one in told) == [False, True]
    assert len(customer.account.received) == 1
    assert await _waiting(world) == before + 1


async def _waiting(world: World) -> int:
    """How many messages stand in the jobs queue, hidden ones counted."""
    queue = world.queues.get_queue_client(world.environment["JOBS_QUEUE"])
    return (await queue.get_queue_properties()).approximate_message_count


async def _hidden(world: World, customer: str) -> dict:
    """The job that was put back, read with a look at what is hidden: by waiting it out."""
    queue = world.queues.get_queue_client(world.environment["JOBS_QUEUE"])
    until = time.monotonic() + 75
    while time.monotonic() < until:
        async for message in queue.receive_messages(messages_per_page=32, visibility_timeout=1):
            job = json.loads(base64.b64decode(message.content))
            if job["customer"] == customer:
                await queue.delete_message(message)
                return job
        await asyncio.sleep(0.2)
    raise AssertionError("No job was put back.")


async def test_same_id_with_other_content_is_a_conflict(world: World):
    """A second job under the id of another is refused as `conflict` and calls nothing."""
    customer = world.customer()
    await customer.run(job_id="taken")

    result = await customer.run(job_id="taken", input={"prompt": "Something else"})

    assert result["error"]["code"] == "conflict"
    assert len(customer.account.received) == 1


async def test_ids_of_two_customers_do_not_meet(world: World):
    """The same job id of two customers is two jobs."""
    one, other = world.customer(), world.customer()

    results = [await customer.run(job_id="same") for customer in (one, other)]

    assert [result["status"] for result in results] == ["succeeded", "succeeded"]
    assert [len(customer.account.received) for customer in (one, other)] == [1, 1]


@pytest.mark.parametrize(
    "members",
    [
        {"connection": "../other--default"},
        {"connection": "default--x"},
        {"input": {"prompt": "x", "api_key": "k"}},
        {"input": {"prompt": "x", "endpoint": "http://127.0.0.1"}},
        {"endpoint": "http://127.0.0.1"},
        {"api_key": "k"},
    ],
)
async def test_job_cannot_name_its_own_way_out(world: World, members: dict):
    """No member of a job reaches another customer's connection, an endpoint or a key."""
    customer = world.customer()

    result = await customer.run(**members)

    assert result["error"]["code"] == "invalid_job"
    assert customer.account.received == []


async def test_parameters_cannot_change_address_or_authentication(world: World):
    """Parameters go into the body, whatever they are called."""
    customer, other = world.customer(), world.customer()
    parameters = {"api-key": other.account.key, "authorization": other.account.key, "base_url": "http://x"}

    await customer.run(input={"prompt": "x", "parameters": parameters})

    (received,) = customer.account.received
    assert parameters.items() <= received.json.items()
    assert received.headers["api-key"] == customer.account.key
    assert "authorization" not in received.headers
    assert other.account.received == []


async def test_rotated_key_costs_no_job(world: World):
    """A key that was rotated in the vault is read again when the old one is refused, and the job succeeds."""
    customer = world.customer()
    await customer.run()
    renewed = world.endpoint.account()
    del world.endpoint.accounts[customer.account.key]
    customer.account = renewed
    world.connect(customer)

    result = await customer.run()

    assert result["status"] == "succeeded"
    assert len(renewed.received) == 1


async def test_refused_key_fails_clearly_and_reads_the_vault_once_more(world: World):
    """A key that stays refused fails the job as `credential_rejected`, with one more look at the secret."""
    customer = world.customer(api_key="a-wrong-key-of-nobody")

    results = [await customer.run() for _ in range(3)]

    assert [result["error"]["code"] for result in results] == ["credential_rejected"] * 3
    assert results[0]["error"]["status"] == 401
    assert world.vault.reads[f"ai--{customer.name}--default"] == 2


async def test_refused_network_is_told_and_no_reason_to_read_the_key_again(world: World):
    """A firewall that keeps the app out is named, without its own words; another key would not help."""
    customer = world.customer()
    customer.account.will_answer(error(403, "AccessDenied", "Access denied due to Virtual Network/Firewall rules."))

    result = await customer.run()

    assert result["error"]["code"] == "credential_rejected"
    assert "network rules block this app (403)" in result["error"]["message"]
    assert "Access denied" not in result["error"]["message"]
    assert world.vault.reads[f"ai--{customer.name}--default"] == 1


async def test_short_failures_are_sat_out(world: World):
    """A reset, a 500 and a 429 with a short wait are tried again within the call."""
    customer = world.customer()
    customer.account.will_answer(reset, error(500), error(429, retry_after_ms="50"), completion("Made it."))

    result = await customer.run(options={"retry_delay_ms": 10})

    assert result["output"]["text"] == "Made it."
    assert (result["attempts"], result["usage"]["calls"]) == (1, 1)


async def test_long_wait_puts_the_job_back(world: World):
    """A wait beyond a few seconds is not slept through: the job goes back; its next run is a new attempt."""
    customer = world.customer()
    customer.account.will_answer(error(429, retry_after="6"))

    told = await customer.deliver(message_id="m-1")

    assert told is None
    job = await _hidden(world, customer.name)
    assert job["job_id"] == "m-1"
    result = await customer.run(json.dumps(job).encode())
    assert (result["status"], result["attempts"], result["job_id"]) == ("succeeded", 2, "m-1")


async def test_wait_beyond_the_deadline_is_the_jobs_failure(world: World):
    """A job whose deadline comes before the server's waiting time fails now, with the server's reason."""
    customer = world.customer()
    customer.account.will_answer(error(429, message="Slow down.", retry_after="30"))

    result = await customer.run(options={"deadline_s": 20})

    assert result["error"]["code"] == "rate_limited"
    assert "Slow down." in result["error"]["message"]


async def test_job_past_its_deadline_calls_nothing(world: World):
    """A job that comes after its deadline ends as `timeout` without a call."""
    customer = world.customer()
    late = delivery(json.dumps(customer.job(options={"deadline_s": 5})).encode())
    late = type(late)(late.body, late.message_id, late.submitted_at - timedelta(seconds=6))

    result = decoded(await world.services.worker.process(late))

    assert result["error"]["code"] == "timeout"
    assert customer.account.received == []


async def test_filtered_answer_is_failed_and_billed(world: World):
    """An answer that the content filter stopped fails the job, keeps its details, and was paid for."""
    customer = world.customer()
    customer.account.will_answer(completion("", finish_reason="content_filter"))

    result = await customer.run()

    assert (result["status"], result["error"]["code"]) == ("failed", "content_filtered")
    assert result["output"]["finish_reason"] == "content_filter"
    assert result["usage"]["input_tokens"] == 11
    assert len(await customer.usage()) == 1


async def test_answer_that_is_no_completion_is_failed_and_counted(world: World):
    """A 2xx answer that can't be read fails the job and leaves a record that a call was made."""
    customer = world.customer()
    customer.account.will_answer(reply(b"<html>"))

    result = await customer.run()

    assert result["error"]["code"] == "provider_unavailable"
    (record,) = await customer.usage()
    assert record["reported"] is False


async def test_large_result_goes_to_the_blob(world: World):
    """A result that does not fit a message stands whole in its blob, and the message says where and what."""
    customer = world.customer()
    customer.account.will_answer(completion("word " * 20_000))

    told = await customer.deliver(job_id="large")

    assert told is not None
    assert len(told) <= MESSAGE_LIMIT
    result = json.loads(told)
    assert "output" not in result
    blob = result["output_blob"]
    assert blob["name"] == f"{customer.name}/large/result.json"
    client = world.blobs.get_blob_client(blob["container"], blob["name"])
    data = await (await client.download_blob()).readall()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (blob["size"], blob["sha256"])
    assert json.loads(data)["output"]["text"] == "word " * 20_000
    properties = await client.get_blob_properties()
    assert properties.content_settings.content_type == blob["content_type"]


async def test_blob_is_written_where_asked_for(world: World):
    """`output.blob` writes the blob as well; the message still has the output if it fits."""
    customer = world.customer()

    result = await customer.run(output={"blob": True})

    assert result["output"]["text"] == "Hello."
    client = world.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    assert json.loads(await (await client.download_blob()).readall())["status"] == "succeeded"


async def test_output_queue_can_be_none_or_another(world: World):
    """`output.queue` false tells nobody; the name of an allowed queue gets it; any other is refused."""
    customer = world.customer()
    special = world.environment["ALLOWED_RESULT_QUEUES"]

    assert await customer.deliver(output={"queue": False}) is None
    assert await customer.deliver(job_id="sp", output={"queue": special}) is None
    refused = await customer.run(output={"queue": world.environment["JOBS_QUEUE"]})

    assert [json.loads(body)["job_id"] for body in await world.messages(special)] == ["sp"]
    assert refused["error"]["code"] == "invalid_job"
    assert len(customer.account.received) == 2


async def test_input_is_read_from_a_blob(world: World):
    """`input_blob` stands for an input that does not fit a message."""
    customer = world.customer()
    container = world.environment["INPUT_CONTAINERS"]
    text = "x" * 200_000
    client = world.blobs.get_blob_client(container, f"{customer.name}/big.json")
    await client.upload_blob(json.dumps({"prompt": text}).encode())
    job = customer.job(input_blob=f"{container}/{customer.name}/big.json")
    del job["input"]

    result = await customer.run(json.dumps(job).encode())

    assert result["status"] == "succeeded"
    assert customer.account.received[0].json["messages"][0]["content"] == text


@pytest.mark.parametrize("name", ["{inputs}/other/big.json", "{results}/{me}/x/result.json", "{inputs}/{me}/none"])
async def test_input_blob_of_others_is_refused(world: World, name: str):
    """A blob outside the input containers, under another customer's name, or missing is refused."""
    customer = world.customer()
    inputs, results = world.environment["INPUT_CONTAINERS"], world.environment["RESULTS_CONTAINER"]
    job = customer.job(input_blob=name.format(inputs=inputs, results=results, me=customer.name))
    del job["input"]

    result = await customer.run(json.dumps(job).encode())

    assert result["error"]["code"] == "invalid_job"
    assert "`input_blob`" in result["error"]["message"]


async def test_buried_job_is_answered_under_its_first_id(world: World):
    """A job without `job_id` has a new message id in the poison queue, and is answered under its first."""
    customer = world.customer()
    worker = world.services.worker
    body = json.dumps(customer.job()).encode()
    first = delivery(body)
    await _claim_as_a_dying_worker(world, customer.name, first.message_id, body)

    result = decoded(await worker.dead_letter(delivery(body)))

    assert (result["job_id"], result["error"]["code"]) == (first.message_id, "internal")
    assert result["attempts"] == 2
    assert customer.account.received == []


async def _claim_as_a_dying_worker(world: World, customer: str, job_id: str, body: bytes) -> None:
    """Leaves what a worker leaves that was killed: a claim whose lease has ended."""
    asked = fingerprint(decode_job(body, default_id=job_id))
    await world.services.ledger.claim(customer, job_id, fingerprint=asked, submitted_at=datetime.now(UTC))
    await world.table.update_entity(
        {
            "PartitionKey": customer,
            "RowKey": f"j_{job_id}",
            "lease_until": datetime.now(UTC) - timedelta(seconds=1),
        }
    )


async def test_buried_job_that_is_done_is_told_again(world: World):
    """A poison message of a job that is done tells its result; nothing is called, nothing overwritten."""
    customer = world.customer()
    told = await customer.deliver(job_id="done-before")

    again = await world.services.worker.dead_letter(delivery(json.dumps(customer.job(job_id="done-before")).encode()))

    assert told == again
    assert len(customer.account.received) == 1


async def test_buried_message_that_is_no_job_is_answered(world: World):
    """What is no job is answered from the poison queue too, as `invalid_job`."""
    result = decoded(await world.services.worker.dead_letter(delivery(b"\x00\xff", "m-9")))

    assert (result["job_id"], result["error"]["code"]) == ("m-9", "invalid_job")


async def test_named_connection_is_used(world: World):
    """`connection` chooses among the customer's own connections; one it does not have is not found."""
    customer = world.customer()
    world.connect(customer, "eu", default_model="eu-model")

    result = await customer.run(connection="eu")
    missing = await customer.run(connection="us")

    assert (result["model"], result["connection"]["name"]) == ("eu-model", "eu")
    assert missing["error"]["code"] == "connection_not_found"


async def test_model_that_contradicts_the_endpoint_is_refused(world: World):
    """Where the endpoint names the deployment, a job that names another is refused; one that agrees runs."""
    customer = world.customer(endpoint=f"{world.endpoint.url}/openai/deployments/mine")

    refused = await customer.run(model="other")
    agreed = await customer.run(model="mine")

    assert refused["error"]["code"] == "invalid_job"
    assert (agreed["status"], agreed["model"]) == ("succeeded", "mine")
    assert customer.account.received[0].path == "/openai/deployments/mine/chat/completions"
    assert customer.account.received[0].query == {"api-version": "2024-10-21"}


async def test_an_endpoint_that_stays_down_fails_the_job_after_its_retries(world: World):
    """Retries are counted, not begun anew: a job whose endpoint fails for ever ends, in one run."""
    customer = world.customer()
    customer.account.will_answer(*[error(500)] * 9)

    result = await customer.run(options={"max_retries": 3, "retry_delay_ms": 20})

    assert ("provider_unavailable", 1) == (result["error"]["code"], result["attempts"])
    assert len(customer.account.received) == 4


async def test_retries_are_counted_over_all_runs_of_a_job(world: World):
    """A wait of its own that puts the job back uses up a retry; the next runs have so many fewer."""
    customer = world.customer()
    customer.account.will_answer(*[error(503)] * 9)
    job = {"job_id": "patient", "options": {"max_retries": 2, "retry_delay_ms": 60_000, "exponential_backoff": False}}

    told = [await customer.deliver(**job) for _ in range(3)]

    assert told[:2] == [None, None]
    result = decoded(told[2])
    assert ("provider_unavailable", 3) == (result["error"]["code"], result["attempts"])
    assert len(customer.account.received) == 3


async def test_a_servers_own_waiting_time_uses_up_no_retry(world: World):
    """However often a server asks for a long wait, the job goes on until its deadline."""
    customer = world.customer()
    customer.account.will_answer(*[error(429, retry_after="600")] * 3)

    told = [await customer.deliver(job_id="waits", options={"max_retries": 1}) for _ in range(4)]

    assert told[:3] == [None, None, None]
    assert ("succeeded", 4) == (decoded(told[3])["status"], decoded(told[3])["attempts"])


async def test_the_deadline_ends_a_call_that_is_under_way(world: World):
    """A call that is still going on when the job's deadline comes is given up then."""
    customer = world.customer()
    customer.account.will_answer(completion(after_s=30))
    began = time.monotonic()

    result = await customer.run(options={"deadline_s": 0.5})

    assert result["error"]["code"] == "timeout"
    assert time.monotonic() - began < 20


async def test_what_earlier_runs_were_billed_is_told_by_one_that_fails(world: World):
    """A job that is given up after some of its prompts were answered tells the usage of those."""
    customer = world.customer()
    customer.account.will_answer(completion("One."), error(429, retry_after="600"))
    job = {"action": "multi_chat", "input": {"prompts": ["a", "b"]}, "job_id": "half"}
    assert await customer.deliver(**job) is None
    await world.table.update_entity({"PartitionKey": customer.name, "RowKey": "j_half", "failed_attempts": 5})

    result = decoded(await world.services.worker.dead_letter(delivery(json.dumps(customer.job(**job)).encode())))

    assert ("failed", 1, 11) == (result["status"], result["usage"]["calls"], result["usage"]["input_tokens"])
    assert 1 == len(await customer.usage())


async def test_a_job_whose_workers_die_is_given_up(world: World):
    """A job whose claim was left behind five times is answered as `internal`, wherever its messages come from."""
    customer = world.customer()
    body = json.dumps(customer.job(job_id="deadly")).encode()
    await _claim_as_a_dying_worker(world, customer.name, "deadly", body)
    await world.table.update_entity({"PartitionKey": customer.name, "RowKey": "j_deadly", "failed_attempts": 4})

    result = await customer.run(body)

    assert ("internal", 2) == (result["error"]["code"], result["attempts"])
    assert customer.account.received == []


async def test_a_done_job_whose_input_blob_is_gone_is_told_again(world: World):
    """Who removes the input after the result can be told the result again: it is the same one."""
    customer = world.customer()
    container = world.environment["INPUT_CONTAINERS"]
    blob = world.blobs.get_blob_client(container, f"{customer.name}/once.json")
    await blob.upload_blob(b'{"prompt": "Hello?"}')
    job = customer.job(input_blob=f"{container}/{customer.name}/once.json", job_id="once")
    del job["input"]
    first = await customer.deliver(json.dumps(job).encode())
    await blob.delete_blob()

    assert first == await customer.deliver(json.dumps(job).encode())
    assert len(customer.account.received) == 1


@pytest.mark.usefixtures("without_storage_waits")
async def test_result_that_can_not_be_stored_is_given_up_after_a_few_runs(azurite, vault, endpoint):
    """While the results container is missing a job that needs it goes back, is never bought, and ends."""
    async with open_world(azurite, vault, endpoint) as broken:
        await broken.blobs.delete_container(broken.environment["RESULTS_CONTAINER"])
        customer = broken.customer()
        job = {"job_id": "unkept", "output": {"blob": True}}

        told = [await customer.deliver(**job) for _ in range(6)]

    assert told[:5] == [None] * 5
    error = decoded(told[5])["error"]
    assert ("internal", 6) == (error["code"], decoded(told[5])["attempts"])
    assert "ContainerNotFound" in error["message"]
    assert customer.account.received == []


@pytest.mark.usefixtures("without_storage_waits")
async def test_answer_whose_blob_can_not_be_written_is_bought_once(azurite, vault, endpoint):
    """An answer is remembered before its blob is written: while that fails, it is not bought again."""
    async with open_world(azurite, vault, endpoint) as broken:
        container = broken.environment["RESULTS_CONTAINER"]
        customer = broken.customer()
        await customer.run(job_id="first", output={"blob": True})
        await broken.blobs.delete_container(container)

        assert await customer.deliver(job_id="kept", output={"blob": True}) is None
        await broken.blobs.create_container(container)
        result = await customer.run(job_id="kept", output={"blob": True})
        usage = await customer.usage()

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert "Hello." == result["output"]["text"]
    assert f"{customer.name}/kept/result.json" == result["output_blob"]["name"]
    assert ("gpt-4o", "default") == (result["model"], result["connection"]["name"])
    assert len(customer.account.received) == 2
    assert [("answered", 1)] * 2 == [(row["outcome"], row["calls"]) for row in usage]


async def test_a_buried_job_without_an_id_waits_for_its_lease_and_ends_under_its_own(world: World):
    """Of two alike, the one whose worker died is answered, under its id, however often the message goes back."""
    customer = world.customer()
    body = json.dumps(customer.job()).encode()
    customer.account.will_answer(error(429, retry_after="300"))
    assert await world.services.worker.process(delivery(body, "waits")) is None
    job = decode_job(body, default_id="dead")
    ledger, poison = world.services.ledger, f"{world.environment['JOBS_QUEUE']}-poison"
    await ledger.claim(customer.name, "dead", fingerprint=fingerprint(job), submitted_at=datetime.now(UTC))
    recorded = MemoryQueues()
    worker = replace(world.services, queues=recorded).worker

    assert await worker.dead_letter(delivery(body, "poison-1")) is None
    ((again, _),) = recorded.sent[poison]
    ended = {"lease_until": datetime.now(UTC) - timedelta(seconds=1)}
    await world.table.update_entity({"PartitionKey": customer.name, "RowKey": "j_dead"} | ended)
    result = decoded(await worker.dead_letter(delivery(again, "poison-2")))

    assert ("dead", "internal") == (result["job_id"], result["error"]["code"])
    states = {row["RowKey"]: row["state"] for row in await customer.rows() if row["RowKey"].startswith("j_")}
    assert {"j_dead": "done", "j_waits": "waiting"} == states

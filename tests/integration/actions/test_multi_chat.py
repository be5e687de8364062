"""`multi_chat`: many prompts side by side, each bought once, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.base import Step
from shared.actions.multi_chat import join_answers
from shared.errors import RateLimited, RequestRejected, RetryLater, StorageUnavailable, UpstreamFacts
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import MAX_STEP_BYTES
from shared.storage.base import Row
from tests.support.endpoint import Answer, completion, error
from tests.support.fakes import Fault
from tests.support.faulty_tables import FaultyTable, faulty_table
from tests.support.harness import Customer, World, delivery

USAGE = ("calls", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


@dataclass(repr=False)
class Desk:
    """Answers each prompt as it is told to, in whatever order they come, and counts."""

    scripts: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    """What to answer to a prompt, one after the other; after that, or if there is nothing, `About …`."""
    before: Callable[[str], Awaitable[Answer | None]] | None = None
    """Asked before each answer; may give another one."""
    after_s: float = 0
    full: int = 0
    """No answer is given before so many calls have been in flight at once, or could have been for long."""
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def serve(self, customer: Customer) -> Desk:
        """Serves the customer's account from now on."""
        customer.account.answers[:] = [self.answer] * 5000
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        prompt = (await request.json())["messages"][-1]["content"]
        self.asked[prompt] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.in_flight >= self.full:
            self._filled.set()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), 30)
            await asyncio.sleep(self.after_s)
            instead = await self.before(prompt) if self.before else None
            script = self.scripts[prompt]
            answer = instead or (script.pop(0) if script else self._about(prompt))
            response = await answer(request)
        finally:
            self.in_flight -= 1
        if response.status == 200:
            self.answered[prompt] += 1
        return response

    def _about(self, prompt: str) -> Answer:
        self.tokens += 100 + len(prompt)
        return completion(f"About {prompt}", usage={"prompt_tokens": 100, "completion_tokens": len(prompt)})


def prompts(count: int) -> list[str]:
    """As many prompts, of different lengths."""
    return [f"{'x' * (index % 7)}{index}" for index in range(count)]


def job(asked: list[Any], job_id: str = "job-1", **members: Any) -> dict[str, Any]:
    """The members of a job that asks for `asked`."""
    return {"action": "multi_chat", "job_id": job_id, "input": {"prompts": asked}} | members


def statuses(result: dict[str, Any]) -> list[str]:
    """How each prompt went."""
    return [answer["status"] for answer in result["output"]["answers"]]


def texts(result: dict[str, Any]) -> list[str | None]:
    """Each prompt's answer."""
    return [answer.get("text") for answer in result["output"]["answers"]]


def codes(result: dict[str, Any]) -> list[str | None]:
    """Each prompt's error."""
    return [answer.get("error", {}).get("code") for answer in result["output"]["answers"]]


def _call_of(key: str) -> str:
    job_id, _, call = key.split("_", 2)[2].rsplit("_", 2)
    return f"{job_id}_{call}"


async def keys_of(customer: Customer) -> list[str]:
    """The keys of the customer's usage records, their month and nonce left out."""
    return sorted(_call_of(row["RowKey"]) for row in await customer.usage())


async def billed(customer: Customer) -> dict[str, int]:
    """The sum of the customer's usage records."""
    rows = await customer.usage()
    return {name: sum(row[name] for row in rows) for name in USAGE}


async def test_answers_stand_in_the_order_of_the_prompts(world: World):
    """However long each call takes, the answers stand as the prompts do; a prompt may be a list of messages."""
    customer = world.customer()
    desk = Desk().serve(customer)
    for index in range(5):
        desk.scripts[f"p{index}"] = [completion(f"a{index}", after_s=0.05 * (5 - index))]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "p2"}]

    result = await customer.run(**job(["p0", "p1", messages, "p3", "p4"]))

    assert ("succeeded", 0) == (result["status"], result["output"]["failed"])
    assert [f"a{index}" for index in range(5)] == texts(result)
    assert list(range(5)) == [answer["index"] for answer in result["output"]["answers"]]
    sent = [received.json["messages"] for received in customer.account.received]
    assert messages in sent
    assert [{"role": "user", "content": "p0"}] in sent


async def test_parameters_go_with_every_call(world: World):
    """Each call has the job's model and parameters, as one of `chat` would."""
    customer = world.customer()

    await customer.run(**job(["a", "b"], input={"prompts": ["a", "b"], "parameters": {"seed": 7, "stop": ["\n"]}}))

    assert [{"model": "gpt-4o", "seed": 7, "stop": ["\n"]}] * 2 == [
        {name: value for name, value in received.json.items() if name != "messages"}
        for received in customer.account.received
    ]


async def test_one_failing_prompt_does_not_fail_the_others(world: World):
    """A prompt that is refused has its error in its place; the job is partial and has no error of its own."""
    customer = world.customer()
    desk = Desk().serve(customer)
    desk.scripts["1"] = [error(400, "invalid_value", "No such thing.")]

    result = await customer.run(**job(["0", "1", "2"]))

    assert ("partial", 1) == (result["status"], result["output"]["failed"])
    assert ["About 0", None, "About 2"] == texts(result)
    assert {
        "index": 1,
        "status": "failed",
        "error": {
            "code": "request_rejected",
            "message": "The endpoint refused the request (400): No such thing.",
            "status": 400,
            "request_id": "req-e",
            "detail": {"code": "invalid_value", "type": "error"},
        },
    } == result["output"]["answers"][1]
    assert "error" not in result
    assert 2 == result["usage"]["calls"]


async def test_all_failing_is_failed_as_the_first(world: World):
    """Where every prompt failed the job did, as its first prompt; each still says what happened to it."""
    customer = world.customer()
    desk = Desk().serve(customer)
    desk.scripts["0"] = [error(400, "content_filter", "Filtered.", x_request_id="req-0")]
    desk.scripts["1"] = [error(400, "invalid_value", "No such thing.")]

    result = await customer.run(**job(["0", "1"]))

    assert "failed" == result["status"]
    assert ["content_filtered", "request_rejected"] == codes(result)
    assert result["output"]["answers"][0]["error"] == result["error"]
    assert ("content_filtered", 400, "req-0") == tuple(
        result["error"][name] for name in ("code", "status", "request_id")
    )
    assert [] == await customer.usage()


async def test_filtered_prompts_and_answers_are_counted(world: World):
    """A filtered prompt cost nothing; a filtered answer was paid for. Both count as failed."""
    customer = world.customer()
    desk = Desk().serve(customer)
    desk.scripts["prompt"] = [error(400, "content_filter")]
    desk.scripts["answer"] = [completion("", finish_reason="content_filter")]

    result = await customer.run(**job(["prompt", "fine", "answer"]))

    assert ("partial", 2) == (result["status"], result["output"]["failed"])
    assert ["content_filtered", None, "content_filtered"] == codes(result)
    assert "content_filter" == result["output"]["answers"][2]["finish_reason"]
    assert ["job-1_0001", "job-1_0002"] == await keys_of(customer)


async def test_answer_of_several_choices_can_be_partial(world: World):
    """A prompt of which only one of two choices was filtered did not fail, but the job did not go well either."""
    customer = world.customer()
    desk = Desk().serve(customer)
    choices = [{"index": n, "finish_reason": why, "message": {"content": "x"}} for n, why in enumerate(["stop"] * 2)]
    choices[1]["finish_reason"] = "content_filter"
    desk.scripts["1"] = [completion(choices=choices)]

    result = await customer.run(**job(["0", "1"]))

    assert ("partial", 0) == (result["status"], result["output"]["failed"])
    assert ["succeeded", "partial"] == statuses(result)


async def test_unreadable_answer_is_one_prompts_failure(world: World):
    """An answer that is no completion fails its prompt, and its record says that nothing was reported."""
    customer = world.customer()
    desk = Desk().serve(customer)

    async def nothing(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"<html>")

    desk.scripts["1"] = [nothing]

    result = await customer.run(**job(["0", "1"]))

    assert ("partial", [None, "provider_unavailable"]) == (result["status"], codes(result))
    assert [True, False] == [row["reported"] for row in sorted(await customer.usage(), key=lambda row: row["RowKey"])]


@pytest.mark.parametrize("count", [1, 40])
async def test_each_call_has_its_usage_record(world: World, count: int):
    """There is one usage record a prompt, under a key that only this prompt of this job has."""
    customer = world.customer()
    desk = Desk().serve(customer)

    result = await customer.run(**job(prompts(count), "many"))

    assert [f"many_{index:04}" for index in range(count)] == await keys_of(customer)
    assert {f"{datetime.now(UTC):%Y-%m}"} == {row["RowKey"].split("_")[1] for row in await customer.usage()}
    assert count == result["usage"]["calls"]
    assert desk.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]
    assert await billed(customer) == {name: result["usage"][name] for name in USAGE}


async def test_a_thousand_prompts(world: World):
    """A thousand prompts are a thousand answers in order, in a blob, since they fit no message."""
    customer = world.customer()
    Desk().serve(customer)

    result = await customer.run(**job(prompts(1000)))

    assert ("succeeded", 1000) == (result["status"], result["usage"]["calls"])
    assert "output" not in result
    blob = world.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    whole = json.loads(await (await blob.download_blob()).readall())
    assert [f"About {prompt}" for prompt in prompts(1000)] == texts(whole)
    assert 1000 == len(await customer.usage())


@pytest.mark.parametrize(("secret", "width"), [({}, 16), ({"max_concurrency": 3}, 3), ({"max_concurrency": 1}, 1)])
async def test_no_more_in_flight_than_the_connection_allows(world: World, secret: dict[str, int], width: int):
    """As many calls are in flight as `max_concurrency` says, 16 where it says nothing, and no more."""
    customer = world.customer(**secret)
    desk = Desk(after_s=0.03, full=width).serve(customer)

    await customer.run(**job(prompts(3 * width)))

    assert width == desk.most_in_flight


async def test_jobs_of_one_connection_share_its_lane(world: World):
    """Two jobs at once have no more in flight together than one alone; another customer has its own lane."""
    customer, other = world.customer(max_concurrency=4), world.customer(max_concurrency=4)
    desk, others = Desk(after_s=0.03, full=4).serve(customer), Desk(after_s=0.03, full=4).serve(other)

    await asyncio.gather(*(one.run(**job(prompts(8), f"j-{n}")) for n in range(2) for one in (customer, other)))

    assert (4, 4) == (desk.most_in_flight, others.most_in_flight)


async def test_a_long_wait_in_the_middle_costs_nothing_twice(world: World):
    """The job goes back into the queue with what it has; its second run asks only for what is missing."""
    customer = world.customer(max_concurrency=4)
    desk = Desk().serve(customer)
    asked = prompts(20)
    desk.scripts[asked[9]] = [error(429, retry_after="600")]

    told = await customer.deliver(**job(asked))

    first = Counter(desk.asked)
    assert told is None
    assert first.total() < 20
    assert len(await customer.usage()) == desk.answered.total()
    result = await customer.run(**job(asked))
    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert [f"About {prompt}" for prompt in asked] == texts(result)
    assert Counter(asked) == desk.answered
    assert Counter(asked) + Counter([asked[9]]) == desk.asked
    assert [f"job-1_{index:04}" for index in range(20)] == await keys_of(customer)
    assert 20 == result["usage"]["calls"]
    assert desk.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]


async def test_errors_of_the_first_run_are_asked_again(world: World):
    """Only what was answered is remembered: a prompt that was refused before the wait is asked once more."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    desk.scripts["0"] = [error(400, "invalid_value")] * 2
    desk.scripts["2"] = [error(429, retry_after="600")]
    await customer.deliver(**job(["0", "1", "2"]))

    result = await customer.run(**job(["0", "1", "2"]))

    assert ("partial", ["request_rejected", None, None]) == (result["status"], codes(result))
    assert {"0": 2, "1": 1, "2": 2} == desk.asked


async def test_a_key_rotated_in_the_middle_costs_nothing_twice(world: World):
    """When the key is refused halfway and the vault has a new one, the rest is asked with that."""
    customer = world.customer(max_concurrency=4)
    asked = prompts(24)
    renewed = world.endpoint.account()

    async def rotate(prompt: str) -> None:
        if prompt == asked[10]:
            world.endpoint.accounts.pop(customer.account.key, None)
            world.connect(replace(customer, account=renewed))

    desk = Desk(before=rotate).serve(customer)
    desk.serve(replace(customer, account=renewed))

    result = await customer.run(**job(asked))

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert [f"About {prompt}" for prompt in asked] == texts(result)
    assert Counter(asked) == desk.asked == desk.answered
    assert len(renewed.received) > 4
    assert 24 == len(await customer.usage()) == result["usage"]["calls"]


async def test_a_key_revoked_for_good_keeps_what_was_answered(world: World):
    """The calls in flight meet the refusal, the others are not made; what was answered is told and billed."""
    customer = world.customer(max_concurrency=4)
    asked = prompts(50)

    async def revoke(_: str) -> Answer | None:
        return error(401, "401", "Gone.") if desk.answered.total() >= 10 else None

    desk = Desk(before=revoke).serve(customer)

    result = await customer.run(**job(asked))

    answered = desk.answered.total()
    assert 10 <= answered < 14
    assert ("partial", 50 - answered) == (result["status"], result["output"]["failed"])
    assert {None, "credential_rejected"} == set(codes(result))
    assert 0 < desk.asked.total() - answered <= 4
    assert answered == len(await customer.usage()) == result["usage"]["calls"]
    assert 2 == world.vault.reads[f"ai--{customer.name}--default"]


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (error(429, "insufficient_quota"), "quota_exhausted"),
        (error(403, "account_deactivated"), "account_blocked"),
        (error(404, "DeploymentNotFound"), "model_not_found"),
        (error(401, "invalid_api_key"), "credential_rejected"),
    ],
    ids=["quota", "account", "model", "key"],
)
async def test_what_all_would_meet_stops_the_rest(world: World, refusal: Answer, code: str):
    """A refusal that is not about the prompt is met by the calls in flight, not by a thousand more."""
    customer = world.customer(max_concurrency=4)
    desk = Desk().serve(customer)
    for prompt in prompts(1000):
        desk.scripts[prompt] = [refusal] * 9

    result = await customer.run(**job(prompts(1000)))

    assert ("failed", code) == (result["status"], result["error"]["code"])
    assert desk.asked.total() <= 4
    assert [] == await customer.usage()


async def test_quota_that_ends_in_the_middle_keeps_what_was_answered(world: World):
    """What was answered before the account ran dry is told; the rest says why it is not there."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    desk.scripts["2"] = [error(429, "insufficient_quota")]

    result = await customer.run(**job([str(n) for n in range(6)]))

    assert ("partial", 4) == (result["status"], result["output"]["failed"])
    assert [None, None, *["quota_exhausted"] * 4] == codes(result)
    assert 3 == desk.asked.total()


async def take_over(world: World, customer: Customer, job_id: str) -> Lease:
    """Claims a job that another worker runs, as if its lease had ended."""
    ledger = world.services.ledger
    key = {"PartitionKey": customer.name, "RowKey": f"j_{job_id}"}
    asked = (await world.table.get_entity(*key.values()))["fingerprint"]
    await world.table.update_entity(key | {"lease_until": datetime.now(UTC) - timedelta(seconds=1)})
    claim = await ledger.claim(customer.name, job_id, fingerprint=asked, submitted_at=datetime.now(UTC))
    assert isinstance(claim, Lease)
    return claim


async def test_a_lost_lease_ends_the_run_and_says_nothing(world: World):
    """A worker that was taken over tells nothing, soon stops buying, and records what it bought as lost."""
    customer = world.customer(max_concurrency=2)
    asked = prompts(40)
    claims: list[Lease] = []

    async def lose(prompt: str) -> None:
        if prompt == asked[10] and not claims:
            claims.append(await take_over(world, customer, "job-1"))

    desk = Desk(before=lose, after_s=0.02).serve(customer)

    told = await customer.deliver(**job(asked))

    first = desk.asked.total()
    assert told is None
    assert first < 25
    kept = [key for key in await keys_of(customer) if "~" not in key]
    lost = [key for key in await keys_of(customer) if "~" in key]
    assert len(kept) < 15
    assert first == len(kept) + len(lost)
    await world.services.ledger.release(claims[0], RetryLater("Later.", 1))
    result = await customer.run(**job(asked))
    assert ("succeeded", 3, 40) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [f"job-1_{index:04}" for index in range(40)] + lost == await keys_of(customer)
    assert 40 - len(kept) == desk.asked.total() - first


@dataclass(repr=False)
class Shaky:
    """A pipeline on a table whose changes can fail, and a customer."""

    world: World
    customer: Customer
    faulty: FaultyTable

    async def deliver(self, members: dict[str, Any]) -> dict[str, Any] | None:
        """What the pipeline tells of a job."""
        services = replace(self.world.services, ledger=Ledger(self.faulty.table))
        told = await services.worker.process(delivery(json.dumps(self.customer.job(**members)).encode()))
        return None if told is None else json.loads(told)

    async def usage(self) -> list[str]:
        """The keys of the customer's usage records, their month and nonce left out."""
        return [_call_of(row.key) async for row in self.faulty.table.scan(self.customer.name, "u_", "u`")]

    async def free(self) -> None:
        """Ends the lease of the customer's job, where giving it up has failed as well."""
        row = await self.faulty.table.read(self.customer.name, "j_job-1")
        assert row is not None
        ended = {"lease_until": datetime.now(UTC) - timedelta(seconds=1)}
        await self.faulty.table.merge(Row(row.partition, row.key, ended, row.etag))


@pytest.fixture(params=["memory", "azure"])
def shaky(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Shaky:
    """A pipeline on a table of either kind, one call at a time."""
    return Shaky(world, world.customer(max_concurrency=1), faulty_table(request.param, world, monkeypatch))


async def test_a_step_whose_answer_from_storage_got_lost_is_remembered(shaky: Shaky):
    """Storage did it, its answer got lost, and it was asked again: the job goes on as if nothing had been."""
    desk = Desk().serve(shaky.customer)
    shaky.faulty.faults.extend([None, None, Fault.TWICE])

    result = await shaky.deliver(job(prompts(6)))

    assert result is not None
    assert ("succeeded", 6, 6) == (result["status"], result["usage"]["calls"], desk.asked.total())
    assert [f"job-1_{index:04}" for index in range(6)] == await shaky.usage()


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_storage_that_fails_in_the_middle_stops_the_buying(shaky: Shaky, fault: Fault):
    """While steps can't be remembered hardly any more are bought; the next run buys only what is missing."""
    desk = Desk(after_s=0.02).serve(shaky.customer)
    shaky.faulty.faults.extend([None, None, None, *[fault] * 3])

    told = await shaky.deliver(job(prompts(50)))

    assert told is None
    first = desk.asked.total()
    kept = await shaky.usage()
    assert 2 <= len(kept) <= first < 30
    shaky.faulty.faults.clear()
    await shaky.free()  # giving it up may have failed as well
    result = await shaky.deliver(job(prompts(50)))
    assert result is not None
    assert ("succeeded", 2, 50) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert 50 - len(kept) == desk.asked.total() - first
    # Where giving it up failed as well, the run counts as one that died.
    assert [f"job-1_{index:04}" for index in range(50)] == [key for key in await shaky.usage() if key != "job-1_~1"]


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_a_later_step_brings_an_earlier_one_home(shaky: Shaky, fault: Fault):
    """A call in flight when Storage failed is remembered, and with it what could not be: nothing is bought twice."""
    shaky.world.connect(shaky.customer, max_concurrency=2)
    desk = Desk().serve(shaky.customer)
    shaky.faulty.faults.extend([None, fault])

    async def slow(request: web.Request) -> web.StreamResponse:
        while shaky.faulty.faults:  # noqa: ASYNC110  # a deque cannot tell
            await asyncio.sleep(0.01)
        return await completion("At last.")(request)

    desk.scripts |= {"slow": [slow], "never": [completion("At last.")]}

    told = await shaky.deliver(job(["slow", "fast", "never"]))

    assert told is None
    assert {"slow": 1, "fast": 1} == desk.asked
    assert [f"job-1_{index:04}" for index in range(2)] == await shaky.usage()
    result = await shaky.deliver(job(["slow", "fast", "never"]))
    assert result is not None
    assert ["At last.", "About fast", "At last."] == texts(result)
    assert {"slow": 1, "fast": 1, "never": 1} == desk.asked


async def test_storage_that_is_down_is_not_asked_a_thousand_times(world: World):
    """Where the remembered steps can't be read, the run ends at once, and nothing is bought."""
    faulty = faulty_table("memory", world, pytest.MonkeyPatch())
    shaky = Shaky(world, world.customer(max_concurrency=1), faulty)
    desk = Desk().serve(shaky.customer)
    desk.scripts["1"] = [error(429, retry_after="600")]
    assert await shaky.deliver(job(["0", "1"])) is None
    scans = 0
    scan = faulty.table.scan

    async def fail(partition: str, first: str, last: str):
        nonlocal scans
        scans += first.startswith("s_")
        async for row in scan(partition, first, last):
            raise StorageUnavailable(f"Not {row.key}.")
        yield  # a generator, as the real one

    faulty.table.scan = fail  # type: ignore[method-assign]

    assert await shaky.deliver(job(["0", "1"])) is None

    assert (1, {"0": 1, "1": 1}) == (scans, desk.asked)


async def test_steps_that_do_not_fit_a_row_are_kept_and_come_back(world: World):
    """An answer of more than 60 kB stands in a blob until the job is done, and is in the result of a later run."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    large = "ö" * MAX_STEP_BYTES
    desk.scripts["0"] = [completion(large)]
    desk.scripts["1"] = [completion("y" * 20_000)]
    desk.scripts["2"] = [error(429, retry_after="600")]

    assert await customer.deliver(**job(["0", "1", "2"], "large")) is None

    steps = {row["RowKey"]: row for row in await customer.rows() if row["RowKey"].startswith("s_")}
    assert {"s_large~0000": True, "s_large~0001": False} == {key: row["in_blob"] for key, row in steps.items()}
    result = await customer.run(**job(["0", "1", "2"], "large"))
    blob = world.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    whole = json.loads(await (await blob.download_blob()).readall())
    assert [large, "y" * 20_000, "About 2"] == texts(whole)
    assert {"0": 1, "1": 1, "2": 2} == desk.asked


async def test_steps_of_ids_that_begin_alike_do_not_mix(world: World):
    """Jobs `a`, `a_b`, `a-b`, `a.0000` and `a0` of one customer each go on with their own answers."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    ids = ["a", "a_b", "a-b", "a.0000", "a_0000", "a0", "A"]
    for job_id in ids:
        desk.scripts[f"second of {job_id}"] = [error(429, retry_after="600")]
        assert await customer.deliver(**job([f"first of {job_id}", f"second of {job_id}"], job_id)) is None

    results = [await customer.run(**job([f"first of {one}", f"second of {one}"], one)) for one in ids]

    for job_id, result in zip(ids, results, strict=True):
        assert [f"About first of {job_id}", f"About second of {job_id}"] == texts(result)
        assert 2 == result["usage"]["calls"]
    assert {f"first of {job_id}": 1 for job_id in ids} | {f"second of {job_id}": 2 for job_id in ids} == desk.asked
    assert sorted(f"{job_id}_{n:04}" for job_id in ids for n in range(2)) == await keys_of(customer)


async def test_a_deadline_before_the_wait_is_over_ends_with_what_there_is(world: World):
    """Where the endpoint asks for more time than the job has, what was answered is told, the rest says why."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    desk.scripts["2"] = [error(429, message="Slow down.", retry_after="30")]

    result = await customer.run(**job(["0", "1", "2", "3"], options={"deadline_s": 20}))

    assert ("partial", [None, None, "rate_limited", "rate_limited"]) == (result["status"], codes(result))
    assert "Slow down." in result["output"]["answers"][2]["error"]["message"]
    assert (3, 2) == (desk.asked.total(), result["usage"]["calls"])


async def test_a_deadline_that_leaves_nothing_is_failed(world: World):
    """The same, where nothing was answered: the job failed, as its first prompt."""
    customer = world.customer()
    desk = Desk().serve(customer)
    desk.scripts["0"] = [error(429, retry_after="30")]

    result = await customer.run(**job(["0"], options={"deadline_s": 20}))

    assert ("failed", "rate_limited", 429) == (result["status"], result["error"]["code"], result["error"]["status"])


async def test_a_deadline_that_passed_while_the_job_waited(world: World):
    """A job that comes back after its deadline ends as `timeout` and buys nothing more."""
    customer = world.customer(max_concurrency=1)
    desk = Desk().serve(customer)
    desk.scripts["1"] = [error(429, retry_after="6")]
    members = job(["0", "1"], options={"deadline_s": 60})
    body = json.dumps(customer.job(**members)).encode()
    assert await world.services.worker.process(delivery(body)) is None
    key = {"PartitionKey": customer.name, "RowKey": "j_job-1"}
    await world.table.update_entity(key | {"submitted_at": datetime.now(UTC) - timedelta(seconds=61)})

    result = await customer.run(body)

    assert ("failed", "timeout", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert {"0": 1, "1": 1} == desk.asked


async def test_a_job_that_is_done_is_told_again(world: World):
    """A redelivered job of many prompts makes no call."""
    customer = world.customer()
    desk = Desk().serve(customer)
    first = await customer.deliver(**job(prompts(5)))

    assert first == await customer.deliver(**job(prompts(5)))
    assert 5 == desk.asked.total()


OUTCOMES = st.one_of(
    st.builds(lambda text: Step({"status": "succeeded", "text": text}), st.text()),
    st.just(Step({"status": "partial", "error": {"code": "content_filtered", "message": "Filtered."}})),
    st.just(Step({"status": "failed", "error": {"code": "content_filtered", "message": "Filtered."}})),
    st.just(RequestRejected("Refused.", UpstreamFacts(400, "req-1"))),
    st.just(RateLimited("Slow.", UpstreamFacts(429))),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=20))
def test_joined_answers_are_those_of_the_prompts(outcomes: list[Any]):
    """There is an answer a prompt, in order; the status says whether all, some or none went well."""
    joined = join_answers(outcomes)

    assert joined.output is not None
    answers = joined.output["answers"]
    assert list(range(len(outcomes))) == [answer["index"] for answer in answers]
    for outcome, answer in zip(outcomes, answers, strict=True):
        if isinstance(outcome, Step):
            assert outcome.value == {name: value for name, value in answer.items() if name != "index"}
        else:
            assert outcome.code == answer["error"]["code"]
    failed = sum(answer["status"] == "failed" for answer in answers)
    assert failed == joined.output["failed"]
    assert (joined.status == "succeeded") == all(answer["status"] == "succeeded" for answer in answers)
    assert (joined.status == "failed") == (failed == len(answers)) == (joined.error is not None)
    if joined.error is not None:
        assert answers[0]["error"]["code"] == joined.error.code

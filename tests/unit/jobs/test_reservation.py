"""Budgets hold: what a job may cost is reserved before its first call, and settled with its usage records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiohttp import web

from shared.billing import bookings
from shared.billing.bucket_moves import Pool
from shared.billing.bucket_rows import next_start, pool_key
from shared.billing.estimates import OUTPUT_TOKENS
from shared.clock import now, rfc3339
from shared.contract.budget import Budget
from shared.contract.chat import LIMITS
from shared.contract.price_book import decode_price_book
from shared.jobs import ledger, message, reservation, schedule, submission, time_budget
from shared.jobs import worker as jobs_worker
from shared.jobs.drain import Drain
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.retention.abandoned_jobs import AbandonedJobs
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import completion, error
from tests.support.loopback import Answer
from tests.support.workers import OpenWorker, Worker

USED = 18
"""Tokens of the endpoint's answer."""
LIMITED = {"prompt": "Hello?", "parameters": {"max_tokens": 100}}
PRICES = {
    "currency": "USD",
    "prices": [{"provider": "azure_openai", "model": "gpt-4o*", "input": "2", "output": "8"}],
    "models": [{"deployment": "gpt-4o", "model": "gpt-4o"}],
    "markups": [{"percent": "50"}],
}


def budget(limit: str, unit: str = "tokens", **members: Any) -> Budget:
    """Return a monthly budget."""
    return Budget(limit=Decimal(limit), unit=unit, period="month", **members)


async def put(worker: Worker, customer: Customer, **budgets: Budget) -> None:
    """Write a customer's budgets, and have the worker read them."""
    records = worker.services.customer_records
    await records.change(customer.name, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")


async def publish(worker: Worker, prices: Mapping[str, Any] = PRICES) -> None:
    """Publish a price book."""
    books = worker.services.price_books
    await books.publish(decode_price_book(json.dumps(prices).encode()), replaces=await books.current(), by="ann")


def pool(worker: Worker, customer: Customer, name: str, of: Budget) -> Pool:
    """Return the buckets of a budget, as the table has them."""
    key = pool_key(customer.name, name, of, now())
    rows = sorted(row for row in worker.table.rows if row[0] == customer.name and row[1].startswith(key.prefix))
    return Pool([key.read(worker.table.rows[row]) for row in rows], Decimal(1))


def sent(customer: Customer) -> list[dict[str, Any]]:
    """Return the bodies that the endpoint has received."""
    return [json.loads(request.body) for request in customer.account.received]


def addresses(worker: Worker) -> list[str]:
    """Return where the budgets' events go, in the order of their keys."""
    return [row.values["address"] for (_, key), row in sorted(worker.table.rows.items()) if key.startswith("e_")]


async def test_a_job_reserves_and_settles(worker: Worker):
    """Afterwards what it used is spent, nothing is reserved, and the request was sent as it is."""
    customer, tokens, jobs = worker.customer(), budget("1000"), budget("5", "jobs")
    await put(worker, customer, tokens=tokens, jobs=jobs)

    result = await worker.run(customer, job_id="x", input=LIMITED)

    assert "succeeded" == result["status"]
    assert [100] == [body.get("max_tokens") for body in sent(customer)]
    for name, of, spent in (("tokens", tokens, USED), ("jobs", jobs, 1)):
        buckets = pool(worker, customer, name, of)
        assert (spent, 0) == (buckets.spent, buckets.reserved)
    assert "" == worker.row(customer, "x")["reservation"]


async def test_an_answer_gets_the_limit_that_the_budget_covers(worker: Worker):
    """Only if the job sets none: the usual one, or a lower one if the budget has less left."""
    customer = worker.customer()
    await put(worker, customer, main=budget("100000"))
    await worker.run(customer)
    await put(worker, customer, main=budget("1000"))
    await worker.run(customer)

    usual, lower = [body["max_tokens"] for body in sent(customer)]
    assert OUTPUT_TOKENS == usual
    assert 256 <= lower < 1000 - USED


async def test_a_model_with_a_lower_limit_gets_that(worker: Worker):
    """Its refusal says which it is; the next job sends it at once."""
    customer = worker.customer()
    customer.account.will_answer(
        error(400, message="max_tokens is too large: 16384. This model supports at most 4096 completion tokens.")
    )
    await put(worker, customer, main=budget("100000"))
    results = [await worker.run(customer) for _ in range(2)]

    assert ["succeeded"] * 2 == [result["status"] for result in results]
    assert [OUTPUT_TOKENS, 4096, 4096] == [body["max_tokens"] for body in sent(customer)]


async def test_a_budget_that_is_used_up_refuses(worker: Worker):
    """Before any call, with a message that says what is left and when the next period starts."""
    customer = worker.customer()
    await put(worker, customer, main=budget("200"))

    result = await worker.run(customer, job_id="x", input={**LIMITED, "parameters": {"max_tokens": 300}})

    assert ("budget_exceeded", []) == (result["error"]["code"], customer.account.received)
    assert (
        "The budget main of 200 tokens a month has 200 tokens left, and this job may use up to"
        in (result["error"]["message"])
    )
    assert f"The next month starts at {rfc3339(next_start('month', now()))}." in result["error"]["message"]
    assert result == await worker.run(customer, job_id="x", input={**LIMITED, "parameters": {"max_tokens": 300}})


async def test_a_job_waits_for_seconds_for_what_others_have_reserved(worker: Worker):
    """It is requeued and loses no attempt."""
    customer, of = worker.customer(), budget("500")
    await put(worker, customer, main=of)
    await worker.run(customer, input=LIMITED)
    key = pool_key(customer.name, "main", of, now())
    row = worker.table.rows[customer.name, key.bucket_key(3)]
    await worker.table.merge(row.__class__(row.partition, row.key, {"reserved": "400", "share": "431"}, row.etag))

    assert await worker.deliver(customer, job_id="x", input=LIMITED) is None

    ((_, delay_s),) = worker.requeued()
    assert 2 <= delay_s <= 3
    row = worker.row(customer, "x")
    assert ("waiting", 0, None) == (row["state"], row["failed_attempts"], row.get("reservation"))


@pytest.mark.parametrize("enforce", ["hard", "soft"])
async def test_a_hard_budget_in_money_refuses_a_model_without_a_price(
    worker: Worker, enforce: Any, caplog: pytest.LogCaptureFixture
):
    """The error names the model, not what is missing: the customer may read it. The alert notices. A soft one runs."""
    customer = worker.customer()
    await publish(worker)
    await put(worker, customer, main=budget("5", "USD", enforce=enforce))

    result = await worker.run(customer, model="own-model", input=LIMITED)

    if enforce == "soft":
        assert "succeeded" == result["status"]
        return
    assert "budget_exceeded" == result["error"]["code"]
    assert result["error"]["message"].endswith("is in USD, and the model own-model has no price in that.")
    assert f"budget_exhausted customer={customer.name} budget=main unit=USD" in caplog.text
    assert [] == customer.account.received


async def test_money_is_settled_after_markup(worker: Worker):
    """In the budget's currency, exactly."""
    customer, of = worker.customer(), budget("5", "USD")
    await publish(worker)
    await put(worker, customer, main=of)

    assert "succeeded" == (await worker.run(customer, input=LIMITED))["status"]

    (record,) = worker.usage(customer)
    cost = Decimal(record["input_tokens"] * 2 + record["output_tokens"] * 8) / 1_000_000 * Decimal("1.5")
    assert (cost, 0) == (pool(worker, customer, "main", of).spent, pool(worker, customer, "main", of).reserved)


async def test_a_connection_has_a_monthly_budget(worker: Worker):
    """`monthly_budget` is a hard budget of the connection, in the price book's currency."""
    await publish(worker)
    customer = worker.customer(monthly_budget=0.0001)

    result = await worker.run(customer, input=LIMITED)

    assert "budget_exceeded" == result["error"]["code"]
    assert "The budget connection--default of 0.0001 USD a month" in result["error"]["message"]


async def test_the_largest_budget_of_a_connection_is_no_fault(worker: Worker):
    """It is as good as none."""
    await publish(worker)
    customer = worker.customer(monthly_budget=1e308)

    assert "succeeded" == (await worker.run(customer, input=LIMITED))["status"]


async def test_a_budget_counts_its_own_connection_and_model_alone(worker: Worker):
    """Others are free."""
    customer = worker.customer()
    worker.connect(customer, "other")
    await put(worker, customer, a=budget("0", connection="other"), b=budget("0", model="gpt-5"))

    statuses = [
        (await worker.run(customer, **members))["status"]
        for members in ({}, {"connection": "other"}, {"model": "gpt-5"}, {"model": "gpt-4o"})
    ]

    assert ["succeeded", "failed", "failed", "succeeded"] == statuses


async def test_a_model_of_a_budget_is_the_name_that_is_called(worker: Worker):
    """A deployment is not counted as the model that the price book, or its answer, says that it is."""
    customer = worker.customer()
    await publish(worker, PRICES | {"models": [{"deployment": "prod-chat", "model": "gpt-4o"}]})
    await put(worker, customer, main=budget("0", model="gpt-4o"))
    results = [await worker.run(customer, model=model, input=LIMITED) for model in ("prod-chat", "GPT-4o")]

    assert ["succeeded", "failed"] == [result["status"] for result in results]


async def test_what_a_crashed_attempt_reserved_is_spent(worker: Worker):
    """Its call may have been made. The next attempt reserves anew."""
    customer, of = worker.customer(), budget("1000")
    await put(worker, customer, main=of)
    body = customer.body(job_id="x", input=LIMITED)
    await worker.crash(customer, "x", body)
    await worker.change_row(customer, "x", reservation=f'[["main","tokens","{now():%Y-%m}",4,"200"]]')
    await worker.run(customer, input=LIMITED)  # the buckets exist
    key = pool_key(customer.name, "main", of, now())
    row = worker.table.rows[customer.name, key.bucket_key(4)]
    await worker.table.merge(row.__class__(row.partition, row.key, {"reserved": "200"}, row.etag))

    assert "succeeded" == (await worker.run(customer, body))["status"]

    buckets = pool(worker, customer, "main", of)
    assert (200 + 2 * USED, 0) == (buckets.spent, buckets.reserved)
    assert ["answered", "answered", "unanswered"] == [outcome for outcome, _, _ in worker.outcomes(customer)]


async def test_steps_settle_as_they_are_stored(worker: Worker):
    """A job of several calls reserves for all of them, and each takes its part."""
    customer, of = worker.customer(), budget("3000")
    await put(worker, customer, main=of)
    prompts = {"prompts": ["One?", "Two?", "Three?"], "parameters": {"max_tokens": 100}}

    result = await worker.run(customer, action="multi_chat", input=prompts)

    buckets = pool(worker, customer, "main", of)
    assert ("succeeded", 3 * USED, 0) == (result["status"], buckets.spent, buckets.reserved)


async def test_a_job_can_wait_for_the_next_period(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It is in the schedule until then; its deadline does not run meanwhile, and it runs when the period starts."""
    customer = worker.customer()
    await put(worker, customer, main=budget("245"))
    await worker.run(customer, input=LIMITED)

    assert await worker.deliver(customer, job_id="x", input=LIMITED, options={"on_budget": "wait"}) is None

    row, starts_at = worker.row(customer, "x"), next_start("month", now())
    assert ("waiting", 0) == (row["state"], row["failed_attempts"])
    assert timedelta(0) <= row["due_at"] - starts_at < timedelta(minutes=6)
    assert 0 < row["budget_wait_s"] <= 31 * 86_400
    for module in (message, time_budget, reservation, ledger):
        monkeypatch.setattr(module, "now", lambda: row["due_at"])
    result = await worker.run(customer, worker.wakeup(customer, "x"), submitted_at=row["due_at"])
    assert "succeeded" == result["status"]


async def test_a_wait_counts_once(worker: Worker):
    """A worker that dies before it has sent the message on gets the old one again, and the wait begins anew."""
    customer = worker.customer()
    await put(worker, customer, main=budget("245"))
    await worker.run(customer, input=LIMITED)
    waits = []
    for _ in range(3):
        await worker.deliver(customer, job_id="x", input=LIMITED, options={"on_budget": "wait"})
        waits.append(worker.row(customer, "x")["budget_wait_s"])

    assert 0 < waits[0]
    assert abs(waits[2] - waits[0]) < 60


async def test_the_deadline_of_a_job_with_a_start_does_not_run_while_it_waits(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """It counts from `run_at`, later by the wait: not from when the job was submitted."""
    customer, clock = worker.customer(), [datetime(2026, 11, 10, tzinfo=UTC)]
    for module in (message, time_budget, reservation, ledger, submission, jobs_worker, schedule):
        monkeypatch.setattr(module, "now", lambda: clock[0])
    await put(worker, customer, main=budget("245"))
    await worker.run(customer, submitted_at=clock[0], input=LIMITED)
    body = customer.body(job_id="x", input=LIMITED, options={"on_budget": "wait", "run_at": rfc3339(clock[0])})
    assert await worker.deliver(customer, body, submitted_at=clock[0] - timedelta(days=9)) is None

    clock[0] = worker.row(customer, "x")["due_at"]
    result = await worker.run(customer, worker.wakeup(customer, "x"), submitted_at=clock[0])

    assert datetime(2026, 12, 1, tzinfo=UTC) <= clock[0]
    assert "succeeded" == result["status"]


async def test_a_job_waits_that_a_lower_limit_fits_the_next_period(worker: Worker):
    """With the usual limit of its answer it would not fit any."""
    customer, of = worker.customer(), budget("1000")
    await put(worker, customer, main=of)
    await worker.run(customer)
    assert "succeeded" == (await worker.run(customer))["status"]
    bucket = pool(worker, customer, "main", of).buckets[3]
    row = worker.table.rows[customer.name, pool_key(customer.name, "main", of, now()).bucket_key(3)]
    spent = {"spent": str(bucket.spent + 900)}
    await worker.table.merge(row.__class__(row.partition, row.key, spent, row.etag))

    assert await worker.deliver(customer, job_id="x", options={"on_budget": "wait"}) is None
    assert worker.row(customer, "x")["budget_wait_s"] > 0


@pytest.mark.parametrize("of", [budget("1000", enforce="soft"), budget("5", "jobs")], ids=["soft", "jobs"])
async def test_an_answer_gets_no_limit_that_no_budget_needs(worker: Worker, of: Budget):
    """A soft budget refuses nothing, and one of jobs counts a job whatever it uses."""
    customer = worker.customer()
    await put(worker, customer, main=of)
    await worker.run(customer)

    assert [set()] == [body.keys() & {*LIMITS} for body in sent(customer)]


@pytest.mark.parametrize("is_sweep", [False, True])
async def test_what_is_settled_without_a_definition_has_its_event(worker: Worker, is_sweep: bool):
    """A job that ends before it reserves anew, or never, has the event of the line that it crosses delivered."""
    customer, of = worker.customer(), budget("1000", thresholds=[20], notify="https://example.com/")
    await put(worker, customer, main=of)
    body = customer.body(job_id="x", input=LIMITED)
    await worker.crash(customer, "x", body)
    await worker.run(customer, input=LIMITED)  # the buckets exist
    reserved = f'[["main","tokens","{now():%Y-%m}",4,"300"]]'
    await worker.change_row(customer, "x", reservation=reserved, cancelled=True)

    if is_sweep:
        await AbandonedJobs(worker.table).settle(worker.table.rows[customer.name, "j_x"])
    else:
        assert "cancelled" == (await worker.run(customer, body))["error"]["code"]

    assert ["https://example.com/"] == addresses(worker)


@pytest.mark.parametrize("notify", ["https://example.com/new", None])
async def test_an_event_goes_where_the_budget_says_by_then(worker: Worker, notify: str | None):
    """A job may have begun before the budget was changed; the events of one that was deleted go nowhere."""
    customer, of = worker.customer(), budget("1000", thresholds=[1], notify="https://example.com/old")
    await put(worker, customer, main=of)

    async def change(request: web.Request, answer: Answer) -> web.StreamResponse:
        await put(worker, customer, **({"main": msgspec.structs.replace(of, notify=notify)} if notify else {}))
        return await answer(request)

    customer.account.around = change
    await worker.run(customer, input=LIMITED)

    assert [notify or ""] == addresses(worker)


@pytest.mark.parametrize("deadline_s", [60, 86_400])
async def test_a_deadline_that_is_set_runs(worker: Worker, monkeypatch: pytest.MonkeyPatch, deadline_s: int):
    """A job whose budget's next period starts after it ends at once, even if it is as long as the default."""
    customer = worker.customer()
    await put(worker, customer, main=budget("245"))
    await worker.run(customer, input=LIMITED)
    at = now().replace(day=15)
    for module in (reservation, time_budget, message):
        monkeypatch.setattr(module, "now", lambda: at)

    options = {"on_budget": "wait", "deadline_s": deadline_s}
    result = await worker.run(customer, submitted_at=at, input=LIMITED, options=options)

    assert "budget_exceeded" == result["error"]["code"]
    assert result["error"]["message"].endswith("The job's deadline is before that.")


@pytest.mark.parametrize("processing", ["batch", "cheapest"])
async def test_the_deadline_of_a_patient_job_always_runs(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, processing: str
):
    """Also if the job does not set it: its provider's window goes by."""
    customer = worker.customer()
    await put(worker, customer, main=budget("245"))
    await worker.run(customer, input=LIMITED)
    at = now().replace(day=15)
    for module in (reservation, time_budget, message):
        monkeypatch.setattr(module, "now", lambda: at)

    options = {"on_budget": "wait", "processing": processing}
    result = await worker.run(customer, submitted_at=at, input=LIMITED, options=options)

    assert "budget_exceeded" == result["error"]["code"]
    assert result["error"]["message"].endswith("The job's deadline is before that.")


async def test_a_job_that_is_larger_than_the_budget_does_not_wait(worker: Worker):
    """No later period has more."""
    customer = worker.customer()
    await put(worker, customer, main=budget("200"))

    result = await worker.run(customer, input=LIMITED, options={"on_budget": "wait"})

    assert "budget_exceeded" == result["error"]["code"]


async def test_without_budgets_a_job_costs_no_further_operation(worker: Worker):
    """A customer's row is read with every job's claim. A new job reserves in its claim, so budgets cost none either."""
    plain, budgeted = worker.customer(), worker.customer()
    await put(worker, budgeted, main=budget("100000"))
    operations = []
    for customer in (plain, budgeted):
        for _ in range(2):
            await worker.run(customer, input=LIMITED)
        before = worker.table.operations
        await worker.run(customer, input=LIMITED)
        operations.append(worker.table.operations - before)

    assert [2, 2] == operations


async def test_a_job_that_has_waited_is_resumed_from_the_poison_queue(worker: Worker):
    """Its deadline did not run while it waited: the host's own limit does not end it."""
    customer = worker.customer()
    body = customer.body(job_id="x", input=LIMITED)
    submitted_at = now() - timedelta(days=20)
    await worker.services.ledger.submit(
        decode_queued_job(body, default_id="x"),
        fingerprint=fingerprint(decode_queued_job(body, default_id="x")),
        submitted_at=submitted_at,
    )
    for waited_days, is_resumed in ((19.5, True), (10, False)):
        await worker.change_row(customer, "x", budget_wait_s=int(waited_days * 86_400))
        result = await worker.dead_letter(body)
        assert is_resumed == (result is None)
        assert is_resumed == bool(worker.requeued())


async def test_a_raw_request_reserves_the_most_that_its_kind_has_settled(worker: Worker):
    """Of the period; before that, the setting's number of output tokens."""
    customer, of = worker.customer(), budget("100000")
    await put(worker, customer, main=of)
    raw = {"path": "chat/completions", "json": {"model": "gpt-4o", "messages": []}}
    await worker.run(customer, action="raw", input=raw)
    assert USED == pool(worker, customer, "main", of).largest("raw/gpt-4o")

    await put(worker, customer, main=budget(str(3 * USED)))
    results = [await worker.run(customer, action="raw", input=raw) for _ in range(3)]

    assert ["succeeded", "succeeded", "failed"] == [result["status"] for result in results]
    assert f"this job may use up to {USED} tokens" in results[-1]["error"]["message"]


@pytest.mark.parametrize(
    ("action", "members", "images"),
    [
        ("summarize", {"page_images": True}, 50),
        ("respond", {"previous_response_id": "r"}, 2),
        ("chat", {"parameters": {"max_tokens": 1}}, 2),
    ],
)
async def test_images_of_a_job_that_can_not_be_estimated_are_reserved(
    worker: Worker, action: str, members: dict[str, Any], images: int
):
    """
    As many as it has, or as its documents may have pages, whose number is not known yet. So it is also after a job of
    this kind has settled less.
    """
    customer = worker.customer()
    picture = {"type": "input_image", "image_url": "https://example.com/a.png"}
    content: list[Any] = [picture] * 2
    if action == "summarize":
        of: dict[str, Any] = {"blob": f"inputs/{customer.name}/a.pdf"}
    elif action == "respond":
        of = {"input": [{"role": "user", "content": content}]}
    else:
        content = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}] * 2
        content.append({"type": "file", "file": {"file_id": "file-1"}})
        of = {"messages": [{"role": "user", "content": content}]}
    limit = 20_000 + images * 10_000

    await put(worker, customer, main=budget(str(limit - 1)))
    refused = await worker.run(customer, action=action, input=of | members)
    await put(worker, customer, main=budget(str(limit)))
    taken = await worker.deliver(customer, action=action, input=of | members) or {}  # a response is waited for

    await put(worker, customer, main=budget(str(limit - 1)))
    again = await worker.run(customer, action=action, input=of | members)

    assert ["budget_exceeded"] * 2 == [each["error"]["code"] for each in (refused, again)]
    assert f"this job may use up to {limit:,} tokens" in refused["error"]["message"]
    assert "budget_exceeded" != taken.get("error", {}).get("code")


async def test_a_raw_request_that_calls_no_model_needs_no_price(worker: Worker):
    """Nor anything of a budget: it lists what there is."""
    customer = worker.customer()
    await publish(worker)
    await put(worker, customer, main=budget("0", "USD"), tokens=budget("0"))

    assert "succeeded" == (await worker.run(customer, action="raw", model=None, input={"path": "models"}))["status"]


@pytest.mark.parametrize(
    ("path", "model", "named"),
    [
        ("deployments/gpt-5/chat/completions", None, None),
        ("openai/deployments/gpt-5/chat/completions", None, None),
        ("Deployments/GPT-5/chat/completions", None, "gpt-4o"),
        ("deployments/gpt%2D5/chat/completions", "gpt-4o", "gpt-4o"),
        ("responses", "gpt-4o", "GPT-5"),
    ],
)
async def test_a_raw_request_is_counted_by_the_model_that_it_calls(
    worker: Worker, path: str, model: str | None, named: str | None
):
    """A budget of a model can't be passed by naming it in the path or the body, and another one beside it."""
    customer = worker.customer()
    await put(worker, customer, main=budget("0", model="gpt-5"))

    result = await worker.run(customer, action="raw", model=model, input={"path": path, "json": {"model": named}})

    assert ("budget_exceeded", []) == (result["error"]["code"], customer.account.received)


async def test_a_job_that_is_released_reserves_nothing(worker: Worker):
    """It reserves anew when it continues; what an attempt could not settle as answered counts at its estimate."""
    customer, of = worker.customer(), budget("1000")
    await put(worker, customer, main=of)
    customer.account.will_answer(error(429, message="Slow down.", retry_after="3600"))
    assert await worker.deliver(customer, job_id="x", input=LIMITED) is None
    waiting = pool(worker, customer, "main", of)

    result = await worker.run(customer, worker.wakeup(customer, "x"))

    ended = pool(worker, customer, "main", of)
    assert ("succeeded", 0, 0) == (result["status"], waiting.spent, waiting.reserved)
    assert (USED, 0) == (ended.spent, ended.reserved)


async def test_a_job_that_continues_reserves_for_the_rest(worker: Worker):
    """What its stored steps have settled is spent, so a budget that covers the whole job covers the rest of it."""
    customer, of = worker.customer(), budget("1000")
    await put(worker, customer, main=of)
    customer.account.will_answer(
        completion("One."), completion("Two."), error(429, message="Slow.", retry_after="3600")
    )
    prompts = {"prompts": [f"{number}?" for number in range(4)], "parameters": {"max_tokens": 100}}
    assert await worker.deliver(customer, job_id="x", action="multi_chat", input=prompts) is None
    waiting = pool(worker, customer, "main", of)
    await put(worker, customer, main=(lower := budget(str(waiting.spent + 450))))

    result = await worker.run(customer, worker.wakeup(customer, "x"))

    ended = pool(worker, customer, "main", lower)
    assert waiting.spent > 0
    assert ("succeeded", 4 * USED, 0) == (result["status"], ended.spent, ended.reserved)


async def test_a_period_that_ends_during_the_refusal_costs_no_period(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """The next one is the one after that in which the budget had too little left, whatever time it is by then."""
    customer = worker.customer()
    await put(worker, customer, main=budget("200"))
    starts_at, is_refused = next_start("month", now()), list[bool]()

    def ticking() -> datetime:
        return starts_at + timedelta(milliseconds=1 if is_refused else -1)

    refused = bookings.BookingRefused.__init__

    def refuse(*args: Any, **members: Any) -> None:
        is_refused.append(True)
        refused(*args, **members)

    monkeypatch.setattr(bookings.BookingRefused, "__init__", refuse)
    monkeypatch.setattr(reservation, "now", ticking)

    result = await worker.run(customer, input={**LIMITED, "parameters": {"max_tokens": 300}})

    assert f"The next month starts at {rfc3339(starts_at)}." in result["error"]["message"]


async def test_a_budget_with_another_period_leaves_the_buckets_of_the_old_one(worker: Worker):
    """A day's limit and events do not apply to what was spent in the month, and the month counts on if it returns."""
    customer, month = worker.customer(), budget("1000", thresholds=[50])
    await put(worker, customer, main=month)
    await worker.run(customer, input=LIMITED)
    before = pool(worker, customer, "main", month)
    day = msgspec.structs.replace(month, limit=Decimal(1), period="day")
    await put(worker, customer, main=day)
    key = pool_key(customer.name, "main", month, now())

    await worker.services.budgets.pool(key).read(msgspec.structs.replace(month, limit=Decimal(2000)))

    assert before.head.terms._replace(limit=Decimal(2000)) == pool(worker, customer, "main", month).head.terms
    assert [] == [key for _, key in worker.table.rows if key.startswith("e_")]


async def test_a_stopping_worker_leaves_nothing_reserved(open_worker: OpenWorker):
    """The call that was cut off counts with the most that it can have used, and the next attempt reserves again."""
    worker, tokens = open_worker(drain=Drain(calls_s=0)), budget("100000")
    customer, endpoint = worker.customer(), BlockingEndpoint()
    await put(worker, customer, tokens=tokens)
    customer.account.will_answer(endpoint)

    async def invocation() -> None:
        worker.services.drain.join()
        await worker.deliver(customer, job_id="x", input=LIMITED)

    job = asyncio.create_task(invocation())
    await endpoint.called.wait()
    during = pool(worker, customer, "tokens", tokens)
    await worker.services.drain.stop()
    await job
    after = pool(worker, customer, "tokens", tokens)
    ((body, _),) = worker.requeued()
    result = await worker.another().run(customer, body)

    ended = pool(worker, customer, "tokens", tokens)
    assert during.reserved > 0
    assert (0, during.reserved, "") == (after.reserved, after.spent, worker.row(customer, "x")["reservation"])
    assert ("succeeded", 0, during.reserved + USED) == (result["status"], ended.reserved, ended.spent)
    assert [("answered", 1, USED), ("unanswered", 0, 0)] == worker.outcomes(customer)

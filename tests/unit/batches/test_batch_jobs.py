"""Jobs at the price of a batch, from the queue to their results, at the local provider and on a clock that moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from local.provider.account import Account
from local.provider.faults import LOST, BatchFault, CallFault, RouteFault
from shared import clock
from shared.actions.completion import CHAT, CHAT_WITH_TOOLS
from shared.batches.queries import BatchQueries
from shared.contract.documents import JobDocument
from shared.errors import StorageUnavailable
from shared.jobs.status import document_of
from shared.upstream.client import UpstreamClient
from tests.support.document_files import lines, pdf
from tests.support.endpoint import Endpoint
from tests.support.patience import PatientApp, patient_app
from tests.support.workers import open_worker


@pytest.fixture
async def at(client, monkeypatch):
    """The patient_app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


async def test_chat_jobs_of_a_window_are_one_batch(at: PatientApp) -> None:
    customer = at.customer()
    jobs = [await at.send(customer) for _ in range(5)]
    await at.deliver()
    assert at.results == []
    await at.finish(jobs)
    account = at.accounts[customer]
    assert len(account.batches) == 1
    for job in jobs:
        result = at.result(job)
        assert result["status"] == "succeeded"
        assert job in result["output"]["text"]
        assert result["usage"]["processing"] == "batch"
        assert result["usage"]["calls"] == 1
    usage = at.rows(customer, "u_")
    assert [row["processing"] for row in usage] == ["batch"] * 5
    assert account.journal.totals().calls == 5


async def test_jobs_of_customers_and_models_are_never_in_one_batch(at: PatientApp) -> None:
    first, other = at.customer(), at.customer()
    jobs = [await at.send(first), await at.send(first, model="gpt-6-terra"), await at.send(other)]
    await at.finish(jobs)
    assert [len(at.accounts[customer].batches) for customer in (first, other)] == [2, 1]
    assert [at.result(job)["status"] for job in jobs] == ["succeeded"] * 3


async def test_the_prompts_of_a_job_are_lines_of_one_batch(at: PatientApp) -> None:
    customer = at.customer()
    prompts = [f"Say number {number}." for number in range(120)]
    job = await at.send(customer, "multi_chat", input={"prompts": prompts})
    await at.finish([job])
    result = at.result(job)
    assert result["status"] == "succeeded"
    assert [f"number {number}." in answer["text"] for number, answer in enumerate(result["output"]["answers"])] == (
        [True] * 120
    )
    assert result["usage"]["calls"] == 120
    assert len(at.accounts[customer].batches) == 1
    assert len(at.rows(customer, "u_")) == 120


async def test_each_round_of_a_summary_is_a_batch(at: PatientApp) -> None:
    customer = at.customer()
    text = "\n\n".join(f"Paragraph {number}. " + "Words follow words in it. " * 40 for number in range(900))
    job = await at.send(customer, "summarize", input={"text": text[:60_000]})
    await at.finish([job])
    result = at.result(job)
    assert result["status"] == "succeeded"
    assert len(at.accounts[customer].batches) == result["output"]["levels"] + 1


async def test_a_document_is_summarized_in_a_batch(at: PatientApp) -> None:
    """It is read once, before the batch: the attempt that has the answer makes the output from what was stored."""
    customer = at.customer()
    await at.memory.blobs.write("inputs", f"{customer}/a.pdf", pdf([lines("The rent is due.")]), "application/pdf")
    job = await at.send(customer, "summarize", input={"blob": f"inputs/{customer}/a.pdf"})
    await at.finish([job])
    result = at.result(job)
    assert result["status"] == "succeeded", result
    assert [1] == [document["pages"] for document in result["output"]["documents"]]
    assert len(at.accounts[customer].batches) == 1


async def test_texts_are_embedded_in_a_batch(at: PatientApp) -> None:
    customer = at.customer(default_model="text-embedding-3-small")
    job = await at.send(customer, "embed", input={"texts": ["one", "two"]})
    await at.finish([job])
    assert at.result(job)["output"]["vectors"] == 2
    assert len(at.accounts[customer].batches) == 1


async def test_a_refused_parameter_costs_another_batch_and_no_second_answer(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    fault = CallFault(
        status=400,
        code="unsupported_parameter",
        message="Unsupported parameter: 'temperature' is not supported with this model.",
        param="temperature",
        if_parameter="temperature",
    )
    account.faults.calls.add(fault, times=None)
    jobs = [await at.send(customer, input={"prompt": "Hi", "parameters": {"temperature": 0.2}}) for _ in range(3)]
    await at.finish(jobs)
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    assert at.result(jobs[0])["output"]["adapted"] == ["temperature was left out"]
    assert account.journal.totals().calls == 3
    assert len(account.batches) == 2


ONLY_RESPONSES = "This model is only supported in v1/responses and not in v1/{}."
NOT_CHAT = (
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use "
    "v1/completions?"
)
AZURE = "The {} operation does not work with the specified model, gpt-5-codex."


def takes_responses_alone(account: Account, chat: str, completions: str, status: int = 404) -> None:
    """Have an account's models refuse chat completions and completions with these sentences."""
    for parameter, message in (("messages", chat), ("prompt", completions)):
        fault = CallFault(status, "", message, "model", if_parameter=parameter)
        account.faults.calls.add(fault, times=None)


@pytest.mark.parametrize(
    ("style", "refusals", "batches"),
    [
        ("openai", (ONLY_RESPONSES.format("chat/completions"), ""), 3),
        ("openai", (NOT_CHAT, ONLY_RESPONSES.format("completions")), 4),
        ("azure", (AZURE.format("chatCompletion"), AZURE.format("completion"), 400), 3),
    ],
)
async def test_lines_of_a_model_of_responses_cost_another_batch_and_no_second_answer(
    at: PatientApp, style: str, refusals: tuple[Any, ...], batches: int
) -> None:
    """The next jobs' lines are responses at once; two answers of a job are two lines."""
    customer = at.customer(style=style)
    account = at.accounts[customer]
    takes_responses_alone(account, *refusals)
    jobs = [await at.send(customer) for _ in range(3)]
    await at.finish(jobs)
    later = await at.send(customer, input={"prompt": "Again.", "parameters": {"n": 2}})
    await at.finish([later])

    for job in jobs:
        output = at.result(job)["output"]
        assert (f"Echo: Say {job}.", "stop") == (output["text"], output["finish_reason"])
        assert ["chat/completions became responses"] == output["adapted"]
    assert ["Echo: Again."] * 2 == [choice["message"]["content"] for choice in at.result(later)["output"]["choices"]]
    assert 5 == account.journal.totals().calls == len(at.rows(customer, "u_"))
    assert {("batch", "answered")} == {(row["processing"], row["outcome"]) for row in at.rows(customer, "u_")}
    assert batches == len(account.batches)
    assert {} == account.responses


@pytest.mark.parametrize("count", [1, 2])
async def test_lines_of_responses_are_read_by_a_worker_that_has_not_learned_that(
    at: PatientApp, client: UpstreamClient, count: int
) -> None:
    """What is learned is forgotten within the hour, and a batch takes longer."""
    customer = at.customer()
    account = at.accounts[customer]
    takes_responses_alone(account, ONLY_RESPONSES.format("chat/completions"), "")
    await at.finish([await at.send(customer)])
    job = await at.send(customer, input={"prompt": "Again.", "parameters": {"n": count, "stop": "ain"}})
    await at.deliver()
    at.worker = open_worker(cast(Endpoint, None), client, memory=at.memory)
    await at.finish([job])
    output = at.result(job)["output"]
    assert ["Echo: Ag"] * count == [choice["message"]["content"] for choice in output["choices"]]
    assert "chat/completions became responses" == output["adapted"][0]
    assert 1 + count == account.journal.totals().calls == len(at.rows(customer, "u_"))
    assert {"answered"} == {row["outcome"] for row in at.rows(customer, "u_")}


async def test_what_holds_for_tools_alone_is_not_learned_of_all_chats(at: PatientApp, client: UpstreamClient) -> None:
    """Also from a line that another worker has asked for."""
    customer = at.customer()
    connection = await at.worker.services.connections.resolve(customer, "default")
    key = (*connection.identity, "gpt-6-luna")
    at.worker.services.capabilities.learn_replacement(CHAT_WITH_TOOLS, "responses", *key)
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    job = await at.send(customer, input={"prompt": "Again.", "parameters": {"tools": tools}})
    await at.deliver()
    at.worker = open_worker(cast(Endpoint, None), client, memory=at.memory)
    await at.finish([job])
    assert "chat/completions became responses" == at.result(job)["output"]["adapted"][0]
    learned = at.worker.services.capabilities.of(*key)
    assert ("responses", CHAT) == (learned.replacement_for(CHAT_WITH_TOOLS), learned.replacement_for(CHAT))


async def test_several_answers_without_a_refused_parameter_are_one_more_batch(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    takes_responses_alone(account, ONLY_RESPONSES.format("chat/completions"), "")
    message = "Unsupported parameter: 'temperature' is not supported with this model."
    fault = CallFault(400, "unsupported_parameter", message, "temperature", if_parameter="temperature")
    account.faults.calls.add(fault, times=None)
    job = await at.send(customer, input={"prompt": "Hi", "parameters": {"temperature": 0.2, "n": 3}})
    await at.finish([job])
    assert 3 == len(at.result(job)["output"]["choices"])
    assert "temperature was left out" in at.result(job)["output"]["adapted"]
    assert 3 == account.journal.totals().calls
    assert 3 == len(account.batches)


async def test_lines_of_chat_completions_are_read_by_a_worker_that_has_learned_of_responses_since(
    at: PatientApp,
) -> None:
    """Nothing is bought again."""
    customer = at.customer()
    job = await at.send(customer, input={"prompt": "Again.", "parameters": {"n": 3}})
    await at.deliver()
    services = at.worker.services
    connection = await services.connections.resolve(customer, "default")
    services.capabilities.learn_replacement("chat/completions", "responses", *connection.identity, "gpt-6-luna")
    await at.finish([job])
    assert 3 == len(at.result(job)["output"]["choices"])
    assert "adapted" not in at.result(job)["output"]
    assert 1 == at.accounts[customer].journal.totals().calls == len(at.rows(customer, "u_"))


async def test_a_batch_of_a_model_of_responses_that_is_too_slow_is_bought_at_the_flex_tier(at: PatientApp) -> None:
    """As one of chat completions."""
    customer = at.customer()
    account = at.accounts[customer]
    takes_responses_alone(account, ONLY_RESPONSES.format("chat/completions"), "")
    account.durations.in_progress_s = 80_000
    options = {"processing": "cheapest", "deadline_s": 3600, "retry_delay_ms": 0}
    jobs = [await at.send(customer, options=options) for _ in range(2)]
    await at.finish(jobs)
    assert {"succeeded"} == {at.result(job)["status"] for job in jobs}
    assert [("standard", "flex")] * 2 == [
        (row["processing"], row.get("service_tier")) for row in at.rows(customer, "u_")
    ]


async def test_several_answers_that_are_too_late_for_a_batch_are_each_bought_once(at: PatientApp) -> None:
    """Beside those that lines have answered, which need no step; the ones that have to wait are all that is left."""
    customer = at.customer()
    account = at.accounts[customer]
    takes_responses_alone(account, ONLY_RESPONSES.format("chat/completions"), "")
    await at.finish([await at.send(customer)])
    account.faults.batches.add(BatchFault(expire_share=0.5))
    account.faults.batches.add(BatchFault(in_progress_s=80_000), times=None)
    options = {"processing": "cheapest", "deadline_s": 14_400, "retry_delay_ms": 0}
    job = await at.send(customer, input={"prompt": "Again.", "parameters": {"n": 4}}, options=options)
    waits = RouteFault("status", 429, "rate_limit_exceeded", headers={"retry-after": "90"})
    account.faults.routes.add(("responses.create", waits))
    await at.finish([job])

    assert 4 == len(at.result(job)["output"]["choices"])
    records = Counter((row["processing"], row["outcome"]) for row in at.rows(customer, "u_"))
    assert {("batch", "answered"): 1 + 2, ("standard", "answered"): 2} == records
    assert 1 + 4 == account.journal.totals().calls
    assert 2 == len(at.rows(customer, "s_"))


async def test_what_follows_a_call_that_was_too_late_for_a_batch_is_bought_at_once(at: PatientApp) -> None:
    """A line after a call that has none would not be found again once the model's operation is learned."""
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 4000
    await at.finish([await at.send(customer)])  # so long do chat completions take
    takes_responses_alone(account, ONLY_RESPONSES.format("chat/completions"), "")
    job = await at.send(customer, options={"processing": "cheapest", "deadline_s": 5400, "retry_delay_ms": 0})
    await at.finish([job])
    assert "succeeded" == at.result(job)["status"]
    assert ["batch", "standard"] == sorted(row["processing"] for row in at.rows(customer, "u_"))
    assert 1 == len(account.batches)


async def test_a_refusal_of_a_line_is_the_jobs_error(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.calls.add(
        CallFault(status=400, code="invalid_request_error", message="No.", match="bad"), times=None
    )
    bad, good = await at.send(customer, input={"prompt": "bad"}), await at.send(customer, input={"prompt": "good"})
    await at.finish([bad, good])
    assert at.result(bad)["error"]["code"] == "request_rejected"
    assert at.result(good)["status"] == "succeeded"
    assert len(at.rows(customer, "u_")) == 1


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "account_deactivated", "account_blocked"),
        (404, "model_not_found", "model_not_found"),
        (400, "invalid_request_error", "request_rejected"),
    ],
)
async def test_a_refused_creation_is_the_jobs_error(at: PatientApp, status: int, code: str, expected: str) -> None:
    """With the code that a call would have had."""
    customer = at.customer()
    at.accounts[customer].faults.route("batches.create", RouteFault("status", status, code, "Not so."))
    job = await at.send(customer)
    await at.finish([job], within_s=3600)
    assert expected == at.result(job)["error"]["code"]
    assert "(400): The" not in at.result(job)["error"]["message"]
    assert at.result(job)["error"]["message"].endswith(": Not so.")


@pytest.mark.parametrize(
    "fault",
    [
        BatchFault(shuffle=True),
        BatchFault(duplicates=3),
        BatchFault(bom=True),
        BatchFault(validating_s=7200.0),
        BatchFault(shuffle=True, duplicates=2, bom=True),
    ],
    ids=["shuffled", "duplicates", "bom", "slow", "all"],
)
async def test_odd_files_of_a_provider_cost_nothing(at: PatientApp, fault: BatchFault) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.batches.add(fault)
    jobs = [await at.send(customer) for _ in range(7)]
    await at.finish(jobs)
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    assert account.journal.totals().calls == 7 == len(at.rows(customer, "u_"))


async def test_a_creation_whose_answer_got_lost_is_found_and_not_repeated(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.route("batches.create", LOST)
    jobs = [await at.send(customer) for _ in range(3)]
    await at.finish(jobs)
    assert len(account.batches) == 1
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}


async def test_what_an_expired_batch_left_is_bought_in_another_one(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.batches.add(BatchFault(expire_share=0.5))
    jobs = [await at.send(customer) for _ in range(6)]
    await at.finish(jobs)
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    assert len(account.batches) == 2
    assert account.journal.totals().calls == 6 == len(at.rows(customer, "u_"))


async def test_a_batch_that_expires_late_bills_what_was_done(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.batches.add(BatchFault(expire_share=0.5, in_progress_s=4000))
    jobs = [await at.send(customer, options={"deadline_s": 3600}) for _ in range(6)]
    await at.finish(jobs)
    assert sorted(at.result(job)["status"] for job in jobs) == ["failed"] * 3 + ["succeeded"] * 3
    assert {at.result(job).get("error", {}).get("code") for job in jobs} == {None, "timeout"}
    assert account.journal.totals().calls == 3 == len(at.rows(customer, "u_"))


async def test_the_answer_of_another_batch_is_used_however_late_it_is(at: PatientApp) -> None:
    """It was asked for while there was time, and is paid for, though nothing would be asked for any more."""
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.batches.add(BatchFault(expire_share=0.5))
    jobs = [await at.send(customer, options={"deadline_s": 7200}) for _ in range(2)]
    while not any(batch.has_ended for batch in account.batches.values()):
        await at.pass_time(60)
    account.durations.in_progress_s = 4800
    await at.finish(jobs)
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    assert len(account.batches) == 2
    assert account.journal.totals().calls == 2 == len(at.rows(customer, "u_"))


async def test_a_line_in_neither_file_is_told_and_not_bought_again(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.faults.batches.add(BatchFault(missing=1))
    jobs = [await at.send(customer) for _ in range(3)]
    await at.finish(jobs)
    assert sorted(at.result(job)["status"] for job in jobs) == ["failed", "succeeded", "succeeded"]
    assert sorted(row["outcome"] for row in at.rows(customer, "u_")) == ["answered", "answered", "unanswered"]
    assert len(account.batches) == 1


async def test_a_batch_is_cancelled_for_the_deadline_and_its_answers_are_kept(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 40_000
    jobs = [await at.send(customer, options={"deadline_s": 3600}) for _ in range(2)]
    sent_at = at.clock()
    await at.finish(jobs)
    assert at.clock() - sent_at <= 3600 + 60
    assert {at.result(job)["error"]["code"] for job in jobs} == {"timeout"}


async def test_a_job_that_is_cancelled_in_time_is_not_bought(at: PatientApp) -> None:
    customer = at.customer()
    cancelled, other = await at.send(customer), await at.send(customer)
    await at.deliver()
    assert await at.cancel(customer, cancelled) == "cancelled"
    await at.deliver()
    assert at.result(cancelled)["error"]["code"] == "cancelled"
    await at.finish([other])
    assert at.accounts[customer].journal.totals().calls == 1


async def test_a_job_that_is_cancelled_too_late_is_billed_and_not_published(at: PatientApp) -> None:
    customer = at.customer()
    at.accounts[customer].durations.in_progress_s = 1800
    cancelled = await at.send(customer)
    await at.pass_time(600)
    assert await at.cancel(customer, cancelled) == "cancelled"
    await at.finish([cancelled])
    assert at.result(cancelled)["error"]["code"] == "cancelled"
    assert at.result(cancelled).get("output") is None
    (row,) = at.rows(customer, "u_")
    assert (row["outcome"], row["processing"]) == ("answered", "batch")


async def test_the_cheapest_is_a_batch_if_that_ends_in_time(at: PatientApp) -> None:
    customer = at.customer()
    jobs = [await at.send(customer, options={"processing": "cheapest"}) for _ in range(3)]
    await at.finish(jobs)
    assert {row["processing"] for row in at.rows(customer, "u_")} == {"batch"}


@pytest.mark.parametrize("flex", ["has room", "is full", "refused"])
async def test_what_a_slow_batch_left_is_bought_in_time(at: PatientApp, flex: str) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 80_000
    if flex == "is full":
        account.faults.flex_unavailable.add(1, times=None)
    elif flex == "refused":
        refused = CallFault(400, "invalid_value", "Invalid service_tier argument: flex.", "service_tier")
        account.faults.calls.add(replace(refused, if_parameter="service_tier"), times=None)
    options = {"processing": "cheapest", "deadline_s": 3600, "retry_delay_ms": 0}
    jobs = [await at.send(customer, options=options) for _ in range(3)]
    sent_at = at.clock()
    await at.finish(jobs)
    assert at.clock() - sent_at < 3600
    assert {at.result(job)["status"] for job in jobs} == {"succeeded"}
    usage = at.rows(customer, "u_")
    assert [row["processing"] for row in usage] == ["standard"] * 3
    assert {row.get("service_tier") for row in usage} == {"flex" if flex == "has room" else "default"}
    assert account.journal.totals().calls == 3


async def test_a_refusal_of_the_flex_tier_may_be_a_sentence_alone(at: PatientApp) -> None:
    """Some of OpenAI's backends name no parameter."""
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 80_000
    job = await at.send(customer, options={"processing": "cheapest", "deadline_s": 3600})
    account.faults.route("chat", RouteFault("status", 400, "invalid_request_error", "Unsupported service_tier: flex"))
    await at.finish([job])
    assert [row["service_tier"] for row in at.rows(customer, "u_")] == ["default"]


@pytest.mark.parametrize("parameter", ["response_format", None])
async def test_another_refusal_is_not_taken_for_one_of_the_flex_tier(at: PatientApp, parameter: str | None) -> None:
    """It may quote the word; the call is not made again without the tier."""
    customer = at.customer(style="openai")
    account = at.accounts[customer]
    account.durations.in_progress_s = 80_000
    refusal = CallFault(400, "invalid_value", "The schema 'service_tiers', of flexible size, is invalid.", parameter)
    job = await at.send(customer, options={"processing": "cheapest", "deadline_s": 3600})
    await at.pass_time(600)
    account.faults.calls.add(refusal, times=None)
    await at.finish([job])
    assert at.result(job)["error"]["code"] == "request_rejected"
    assert len(account.calls("chat")) == 1


async def test_a_connection_that_is_known_to_be_slow_is_not_tried(at: PatientApp) -> None:
    customer = at.customer()
    account = at.accounts[customer]
    account.durations.in_progress_s = 6000
    options = {"processing": "cheapest", "deadline_s": 86_000}
    await at.finish([await at.send(customer, options=options)])
    assert [row["processing"] for row in at.rows(customer, "u_")] == ["batch"]
    job = await at.send(customer, options={**options, "deadline_s": 7200})
    await at.deliver()
    assert at.result(job)["status"] == "succeeded"


async def test_the_cheapest_of_a_connection_without_batches_is_bought_at_once(at: PatientApp) -> None:
    customer = at.customer(style="azure", default_model="text-embedding-3-small")
    job = await at.send(customer, "embed", input={"texts": ["one"]}, options={"processing": "cheapest"})
    await at.deliver()
    assert at.result(job)["status"] == "succeeded"
    batch = await at.send(customer, "embed", input={"texts": ["one"]})
    await at.deliver()
    assert "Azure does not take the operation embeddings in batches" in at.result(batch)["error"]["message"]


async def test_the_status_of_a_job_names_the_batch_that_it_waits_for(at: PatientApp) -> None:
    customer = at.customer()
    job = await at.send(customer)
    await at.deliver()

    async def status() -> JobDocument:
        record = await at.worker.services.queries.get(customer, job)
        assert record is not None
        return document_of(record)

    waiting = await status()
    (batch,) = await BatchQueries(at.memory.table).since(customer, clock.now() - timedelta(minutes=1))
    assert (waiting.status, waiting.batch, waiting.error) == ("waiting", batch.batch_id, None)
    await at.finish([job])
    assert ((await status()).status, (await status()).batch) == ("succeeded", None)


async def test_a_cancellation_that_is_cut_off_ends_the_job_with_its_batch(at: PatientApp) -> None:
    """Its lines are taken out, and its message could not be sent."""
    customer = at.customer()
    cancelled, other = await at.send(customer), await at.send(customer)
    await at.deliver()
    at.memory.queues.down = True
    with pytest.raises(StorageUnavailable):
        await at.cancel(customer, cancelled)
    at.memory.queues.down = False
    await at.finish([cancelled, other])
    assert at.result(cancelled)["error"]["code"] == "cancelled"
    assert at.accounts[customer].journal.totals().calls == 1


async def test_a_job_of_several_connections_stays_with_its_batch(at: PatientApp) -> None:
    """The first one comes back while the batch of the second is under way; its answers are read there all the same."""
    customer = at.customer()
    job = await at.send(customer, connection=["gone", "default"])
    await at.deliver()
    at.connect(customer, other := at.provider.account(), "gone")
    await at.finish([job])
    connection = at.result(job)["connection"]
    assert ("default", [{"name": "gone", "code": "connection_not_found"}]) == (
        connection["name"],
        connection["skipped"],
    )
    assert ([], 1) == (other.received, at.accounts[customer].journal.totals().calls)

"""Workers of two versions on one Storage: what a later one wrote is left alone, and nothing of it is lost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import pytest

from shared.batches.records import BatchRecord, Group, batch_row, open_values
from shared.batches.records import State as BatchState
from shared.billing.reserved_amounts import ReservedAmount, ReservedFor
from shared.clock import now, rfc3339
from shared.contract.budget import Budget
from shared.contract.callback import CallbackMessage
from shared.contract.documents import CallbackState
from shared.contract.inputs import INPUTS
from shared.contract.usage import Usage
from shared.errors import RetryLater
from shared.jobs.batch_message import BatchMessage
from shared.jobs.envelope import QueuedJob, decode_queued_job
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import first_lease, lease_values
from shared.jobs.lines import TAKEN_OUT, Answer, Line, answer_values, line_row
from shared.jobs.polls import Polls
from shared.jobs.records import JobRecord, State
from shared.jobs.response_rows import creation_row
from shared.jobs.response_steps import Creation
from shared.jobs.schedule import Schedule
from shared.jobs.versions import VERSION, NewerVersion
from shared.jobs.waiting_rows import look_row, response_row
from shared.storage.base import Row
from tests.support.doc_samples import ROOT
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.stored_shapes import member_names
from tests.support.workers import Memory, OpenWorker, Worker

LATER = {"submitted_at": rfc3339(now()), "version": VERSION + 1}
BATCH = BatchRecord(
    *("contoso", "b", "e", "default", "gpt-4o", "chat/completions"),
    *(datetime(2026, 11, 30, tzinfo=UTC),) * 4,
    lease_until=datetime(2026, 11, 30, tzinfo=UTC),
    create_began_at=datetime(2026, 11, 30, tzinfo=UTC),
)
LINE = line_row("contoso", "job", "b", 0, Line("~1", "chat/completions", b"{}"), message=b"{}")
ANSWER = Answer(body=b"{}", request_id="r", error_code="e", error="E")
SHAPES = ROOT / "tests/data/stored_shapes.json"


@pytest.mark.parametrize(
    "members",
    [
        {"invented": {"later": True}},
        {"options": {"invented": 1}},
        {"action": "invented"},
        {"_envelope": LATER | {"submitted_at": {"invented": 1}}},
        {},
    ],
    ids=str,
)
async def test_message_of_a_later_version_goes_back_as_it_is(worker: Worker, members: dict[str, Any]):
    """Whether this version could read it or not, nothing is claimed, called or published; the bytes stay the same."""
    customer = worker.customer()
    body = customer.body(job_id="job", **{"_envelope": LATER, **members})

    assert await worker.deliver(customer, body) is None

    assert [(body, NewerVersion.usual_delay_s)] == worker.requeued()
    assert ({}, []) == (worker.table.rows, customer.account.received)
    assert await worker.dead_letter(body) is None
    assert [body] == [sent for sent, _ in worker.queues.sent[worker.services.settings.poison_queue]]


@pytest.mark.parametrize("invented", [{"options": {"invented": 1}}, {"input": {"invented": 1}}], ids=str)
@pytest.mark.parametrize("members", [{"job_id": "job"}, {}], ids=str)
async def test_senders_message_that_a_later_version_has_begun_is_left_to_it(
    worker: Worker, members: dict[str, str], invented: dict[str, Any]
):
    """
    A sender's message has no version, and may have what only the later one knows. If that one's worker died, the
    message comes again, here: under its id, it goes back.
    """
    customer = worker.customer()
    readable = customer.body(**members)
    unreadable = customer.body(**members, **invented)
    await worker.crash(customer, "job", readable)
    await worker.change_row(customer, "job", version=VERSION + 1)
    before = worker.row(customer, "job")

    assert await worker.deliver(customer, unreadable, message_id="job") is None

    ((sent, delay_s),) = worker.requeued()
    assert json.loads(unreadable) | {"job_id": "job"} == json.loads(sent)
    assert NewerVersion.usual_delay_s == delay_s
    assert (before, []) == (worker.row(customer, "job"), customer.account.received)


async def test_message_that_nobody_can_read_is_refused(worker: Worker):
    """Nothing is on record of its job, or an attempt of this version; while Storage is down, that is not known."""
    customer = worker.customer()
    unreadable = customer.body(job_id="job", options={"invented": 1})

    refused = await worker.run(customer, unreadable)
    await worker.crash(customer, "job", customer.body(job_id="job"))
    again = await worker.run(customer, unreadable)
    worker.table.down = True
    later = await worker.deliver(customer, unreadable)

    assert ["invalid_job"] * 2 == [each["error"]["code"] for each in (refused, again)]
    assert (None, [unreadable]) == (later, [body for body, _ in worker.requeued()])


@pytest.mark.parametrize("version", [{}, {"version": 0}, {"version": VERSION}], ids=str)
async def test_message_of_this_version_or_an_earlier_one_is_read(worker: Worker, version: dict[str, int]):
    """A message without a version is of one before there were versions. What is wrong with it is said as before."""
    customer = worker.customer()
    envelope = {"submitted_at": LATER["submitted_at"], **version}

    good = await worker.run(customer, job_id="good", _envelope=envelope)
    wrong = await worker.run(customer, job_id="wrong", _envelope=envelope, invented=1)

    assert ("succeeded", "invalid_job") == (good["status"], wrong["error"]["code"])


@pytest.mark.parametrize("state", ["queued", "waiting", "running", "cancelled", "done"])
async def test_row_of_a_later_version_is_left_alone(worker: Worker, state: str):
    """Its job is not run, ended or published, whatever its state; the message waits for a worker of that version."""
    customer = worker.customer()
    body = customer.body(job_id="job")
    await worker.crash(customer, "job", body)
    await worker.change_row(customer, "job", state=state, version=VERSION + 1)
    before = worker.row(customer, "job")

    assert await worker.deliver(customer, body) is None

    ((sent, delay_s),) = worker.requeued()
    assert ("job", []) == (json.loads(sent)["job_id"], customer.account.received)
    assert NewerVersion.usual_delay_s <= delay_s <= 1.1 * NewerVersion.usual_delay_s
    assert before == worker.row(customer, "job")


async def test_row_of_a_later_version_is_not_changed(worker: Worker):
    """Neither a cancellation nor another submission of its id changes it or says what it can't know."""
    customer = worker.customer()
    body = customer.body(job_id="job")
    await worker.crash(customer, "job", body)
    await worker.change_row(customer, "job", state="queued", version=VERSION + 1)
    before, job = worker.row(customer, "job"), decode_queued_job(body, default_id="")

    with pytest.raises(NewerVersion):
        await JobUpdates(worker.table).cancel(customer.name, "job")
    with pytest.raises(NewerVersion):
        await worker.services.submissions.submit(job)

    assert before == worker.row(customer, "job")
    assert issubclass(NewerVersion, RetryLater)  # over HTTP: 503, try again


async def test_claim_says_its_version(worker: Worker):
    """A job that a worker has claimed, or that was submitted, has the version in its row; so has its message."""
    customer = worker.customer()
    await worker.run(customer, job_id="ran")
    submitted = decode_queued_job(customer.body(job_id="submitted"), default_id="")
    await worker.services.submissions.submit(submitted)

    assert [VERSION] * 2 == [worker.row(customer, job_id)["version"] for job_id in ("ran", "submitted")]
    ((message, _),) = worker.requeued()
    assert VERSION == json.loads(message)["_envelope"]["version"]


@dataclass
class RecordingTable(MemoryTable):
    """Notes the columns that are written, by the kind of row."""

    columns: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    async def _write(self, changed: Row, beside: Sequence[Row], *rest: Any) -> Sequence[str]:
        for row in (changed, *beside):
            self.columns[row.partition[:9] if row.partition.startswith("~") else row.key[:2]].update(row.values)
        return await super()._write(changed, beside, *rest)


async def written(open_worker: OpenWorker) -> tuple[dict[str, set[str]], dict[str, Any]]:
    """Return the columns of all that is written of jobs, whatever becomes of them, and a stored outcome."""
    table = RecordingTable()
    worker = open_worker(memory=Memory(table))
    customer = worker.customer()
    budget = Budget(limit=Decimal(1_000_000), unit="tokens", period="month")
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )
    await worker.run(customer, job_id="inline")
    await worker.run(customer, job_id="blob", output={"blob": True})
    await worker.defer(customer, "deferred")
    await worker.services.updates.cancel(customer.name, "deferred")
    await worker.crash(customer, "crashed", customer.body())
    await worker.services.updates.cancel(customer.name, "crashed")
    state = CallbackState(status="delivered", attempts=1)
    await worker.services.updates.save_callback_state(customer.name, "inline", state)
    job = decode_queued_job(customer.body(output={"callback": "https://example.com"}), default_id="submitted")
    await worker.services.ledger.submit(job, fingerprint="f", submitted_at=now(), marker="m")
    await worker.claim(customer, "claimed", customer.body(output={"callback": "https://example.com"}))
    outcome = json.loads(worker.table.rows[customer.name, "s_blob~outcome"].values["value"])
    return table.columns, outcome


async def test_stored_shapes_are_those_of_the_version(open_worker: OpenWorker):
    """
    What messages and rows of jobs consist of is on record with its version. Whoever adds or removes a member raises
    VERSION in shared/jobs/versions.py and corrects the file, as docs/architecture.md says: else a worker of the version
    before, beside this one in an update, would refuse what it doesn't know.
    """
    columns, outcome = await written(open_worker)
    responses = MemoryTable()
    await responses.insert(creation_row("contoso", "default", "c", "job"))
    waited_for = {"job_id": "job", "at": now(), "response": "r", "account": "a", "model": "m", "wake_at": now()}
    look = look_row("contoso", "default", "c", waited_for, now(), now())
    polls = Polls(Schedule(responses, MemoryQueues(), "j", "c", "b"))
    await polls.join("contoso", "default", now(), "w_default~c")
    shapes = {
        "message": member_names(QueuedJob),
        "inputs": {action: member_names(kind) for action, kind in sorted(INPUTS.items())},
        "callback": member_names(CallbackMessage),
        "row": sorted({*JobRecord.__dataclass_fields__, *columns["j_"]} - {"customer", "job_id"}),
        "states": sorted(get_args(State)),
        "reservation": list(ReservedAmount.__struct_fields__),
        "reserved_for": member_names(ReservedFor),
        "step": sorted(columns["s_"]),
        "usage": member_names(Usage),
        "outcome": sorted(outcome),
        "schedule": sorted(columns["~schedule"]),
        "batch_message": member_names(BatchMessage),
        "batch": sorted({*batch_row(BATCH).values, TAKEN_OUT}),
        "batch_states": sorted(get_args(BatchState)),
        "batch_group": sorted(open_values(Group("contoso", "default", "gpt-4o", "chat/completions"), [])),
        "response": sorted(responses.rows["contoso", "w_default~c"].values),
        "waiting_response": sorted(response_row("contoso", "default", "c", waited_for).values),
        "look": sorted(look.values),
        "poll": sorted(responses.rows["contoso", "w_default"].values),
        "creation": member_names(Creation),
        "line": sorted({*LINE.values, *answer_values(ANSWER), TAKEN_OUT}),
    }

    assert set(lease_values(first_lease("a", "b", now(), now()), now(), 1)) <= columns["j_"]
    assert {"version": VERSION, **shapes} == json.loads(SHAPES.read_text())

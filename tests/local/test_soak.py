"""The parts of the soak that need no stack: plan, endpoint, journal, log, checks, report."""

import hashlib
import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from local.soak import endpoint as endpoints
from local.soak.endpoint import make_png
from local.soak.evidence import Evidence, ResultMessage, StoredBlob, counted_records
from local.soak.journal import Entry, Journal
from local.soak.log import Log
from local.soak.plan import PlannedJob, format_tag, make_customers, parse_tag, plan_jobs, with_duplicates
from local.soak.reconciliation import CHECKS, reconcile, unused_calls
from local.soak.report import lines, measure, percentile

CHAT, MULTI_CHAT, IMAGE = ("c-1", "job-1"), ("c-1", "job-2"), ("c-2", "job-1")
CALLS = [(*CHAT, 0), (*MULTI_CHAT, 0), (*MULTI_CHAT, 1), (*IMAGE, 0)]
UNUSED = Entry(3.0, "c-1", (*CHAT, 0), "soak-0000009", "reset after", 5, 6, 0, 3.1)


def entry(number):
    return Entry(float(number), CALLS[number][0], CALLS[number], f"soak-000000{number}", "answered", 10, 20 + number, 5)


def text(number):
    return f"{format_tag(CALLS[number])} soak-000000{number} a generated text"


def row(number, **more):
    """The usage record of a call."""
    customer, job_id, index = CALLS[number]
    return {
        "PartitionKey": customer,
        "RowKey": f"u_2026-11-20_{job_id}_{index:04}",
        "job_id": job_id,
        "request_id": f"soak-000000{number}",
        "calls": 1,
        "input_tokens": 10,
        "output_tokens": 20 + number,
        "cached_tokens": 5,
        **more,
    }


def unanswered(key, suffix="~1.1"):
    zeros = dict.fromkeys(("calls", "input_tokens", "output_tokens", "cached_tokens"), 0)
    return {
        "PartitionKey": key[0],
        "RowKey": f"u_2026-11-20_{key[1]}_{suffix}",
        "job_id": key[1],
        "outcome": "unanswered",
        **zeros,
    }


def message(key, output, numbers, **more):
    """The message of a result, with the usage of its calls."""
    usage = {name: sum(row(number)[name] for number in numbers) for name in ("calls", "input_tokens", "output_tokens")}
    usage["cached_tokens"] = 5 * len(numbers)
    result = {"customer": key[0], "job_id": key[1], "status": "succeeded", "output": output, "usage": usage}
    return ResultMessage(json.dumps(result | {"attempts": 1} | more).encode(), 9.0)


def blob(name, data):
    return {"container": "results", "name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def stored(data):
    """A blob as a soak reads it."""
    return StoredBlob(len(data), hashlib.sha256(data).hexdigest(), data[:65_536])


def statement(customer, *rows, unanswered=0):
    """A customer's statement of some records."""
    names = ("calls", "input_tokens", "output_tokens", "cached_tokens")
    lines = [{name: each.get(name) for name in names} | {"outcome": each.get("outcome", "answered")} for each in rows]
    return {"customer": customer, "lines": lines, "totals": {"unanswered": {"records": unanswered}}}


PNG = make_png("soak-0000003")
SOUND = Evidence(
    planned=[PlannedJob(*CHAT, 1, b""), PlannedJob(*MULTI_CHAT, 2, b""), PlannedJob(*IMAGE, 1, b"")],
    messages=[
        message(CHAT, {"text": text(0)}, [0]),
        message(MULTI_CHAT, {"answers": [{"text": text(1)}, {"text": text(2)}]}, [1, 2]),
        message(IMAGE, {"images": [{"blob": blob("image-1.png", PNG)}]}, [3]),
    ],
    journal=[entry(number) for number in range(4)],
    usage=[row(number) for number in range(4)],
    jobs=[{"PartitionKey": key[0], "RowKey": f"j_{key[1]}", "state": "done"} for key in (CHAT, MULTI_CHAT, IMAGE)],
    blobs={"image-1.png": stored(PNG)},
    statements=[statement("c-1", row(0), row(1), row(2)), statement("c-2", row(3))],
)


def changed(**members):
    return replace(SOUND, **members)


def with_entry(number, **more):
    return changed(journal=[*SOUND.journal[:number], replace(entry(number), **more), *SOUND.journal[number + 1 :]])


def with_row(number, **more):
    return changed(usage=[*SOUND.usage[:number], row(number, **more), *SOUND.usage[number + 1 :]])


def with_message(index, other):
    return changed(messages=[*SOUND.messages[:index], other, *SOUND.messages[index + 1 :]])


def with_failure(code):
    failed = message(CHAT, None, [], status="failed", error={"code": code})
    statements = [statement("c-1", row(1), row(2)), statement("c-2", row(3))]
    evidence = replace(with_message(0, failed), usage=SOUND.usage[1:], journal=SOUND.journal[1:])
    return replace(evidence, statements=statements)


UNREPORTED = {"PartitionKey": CHAT[0], "RowKey": f"u_2026-11-20_{CHAT[1]}_0000", "job_id": CHAT[1], "calls": 1}
UNREPORTED |= {"request_id": "soak-0000000"}
UNREADABLE = message(CHAT, None, [], status="failed", error={"code": "provider_unavailable"}, usage={"calls": 1})


def with_large(content):
    """The first job's result without its output, which is in a blob."""
    data = json.dumps({"output": {"text": content + "x" * 100_000}}).encode()
    large = message(CHAT, None, [0], output_blob=blob("large.json", data))
    return replace(with_message(0, large), blobs={**SOUND.blobs, "large.json": stored(data)})


INVALID = {
    "a job without a result": (changed(messages=SOUND.messages[1:]), {"jobs without a result"}),
    "a result of a job that was not sent": (changed(planned=SOUND.planned[1:]), {"results of unknown jobs"}),
    "other bytes the second time": (
        changed(messages=[*SOUND.messages, message(CHAT, {"text": text(0)}, [0], attempts=2)]),
        {"results published with other bytes"},
    ),
    "an internal error": (with_failure("internal"), {"jobs with an unexpected error"}),
    "an unexpected error in one answer": (
        replace(
            with_message(
                1,
                message(MULTI_CHAT, {"answers": [{"text": text(1)}, {"error": {"code": "credential_rejected"}}]}, [1]),
            ),
            usage=[row(0), row(1), row(3)],
            journal=[entry(0), entry(1), entry(3)],
        ),
        {"jobs with an unexpected error"},
    ),
    "a job that is still running": (
        changed(jobs=[{**SOUND.jobs[0], "state": "running"}, *SOUND.jobs[1:]]),
        {"jobs not done in the ledger"},
    ),
    "one answer in two records": (
        changed(usage=[*SOUND.usage, row(0)]),
        {"billed twice", "results with other usage"},
    ),
    "two answers to one call, both billed": (
        changed(
            journal=[*SOUND.journal, replace(entry(0), request_id="soak-0000008")],
            usage=[*SOUND.usage, row(0, request_id="soak-0000008")],
        ),
        {"billed twice", "usage records without an answer", "results with other usage"},
    ),
    "a record of a request that the endpoint refused": (
        with_entry(0, outcome="503"),
        {"billed without an answer", "answers to another call", "customers with other tokens"},
    ),
    "a record of another customer's call": (
        with_row(0, request_id="soak-0000003"),
        {"billed without an answer", "billed twice"},
    ),
    "an answer without a record": (
        changed(usage=SOUND.usage[1:]),
        {"answers without a usage record", "unused calls without a record"},
    ),
    "a record with another tier": (with_row(0, service_tier="flex"), {"customers with other tokens"}),
    "a record without the tokens written to a cache": (
        with_entry(0, cache_write_tokens=3),
        {"customers with other tokens"},
    ),
    "a record with other tokens": (
        with_row(1, output_tokens=1),
        {"customers with other tokens", "results with other usage"},
    ),
    "a request without a record": (changed(journal=[*SOUND.journal, UNUSED]), {"unused calls without a record"}),
    "another customer's key": (
        with_entry(0, customer="c-2"),
        {"requests with another's key", "customers with other tokens"},
    ),
    "an unknown key": (
        changed(journal=[*SOUND.journal, Entry(5.0, "", (*CHAT, 0), "soak-0000008", "wrong key")]),
        {"requests with another's key"},
    ),
    "another job's answer": (with_message(0, message(CHAT, {"text": text(3)}, [0])), {"answers to another call"}),
    "answers in the wrong order": (
        with_message(1, message(MULTI_CHAT, {"answers": [{"text": text(2)}, {"text": text(1)}]}, [1, 2])),
        {"answers to another call"},
    ),
    "a missing image": (
        changed(blobs={"image-1.png": None}),
        {"blobs missing or different", "usage records without an answer"},
    ),
    "the image of another call": (
        changed(blobs={"image-1.png": stored(make_png("soak-0000004"))}),
        {
            "blobs missing or different",
            "answers to another call",
            "answers without a usage record",
            "usage records without an answer",
        },
    ),
    "a statement with other tokens": (
        changed(statements=[statement("c-1", row(0), row(1), row(2)), statement("c-2", row(3, output_tokens=24))]),
        {"statements that are not the journal"},
    ),
    "a statement without a call": (
        changed(statements=[statement("c-1", row(0), row(1)), statement("c-2", row(3))]),
        {"statements that are not the journal"},
    ),
    "a statement without an unanswered call": (
        changed(journal=[*SOUND.journal, UNUSED], usage=[*SOUND.usage, unanswered(CHAT)]),
        {"statements that are not the journal"},
    ),
    "a large answer of another call": (with_large(text(3)), {"answers to another call"}),
    "an error in the log": (changed(errors=["[host 0] ERROR …"]), {"errors in the workers' log"}),
}


VALID = {
    "every job has a result, every call is billed once": SOUND,
    "a lost answer is billed, with its tokens, but is in no result": changed(
        journal=[*SOUND.journal, replace(entry(0), request_id="soak-0000008")],
        usage=[*SOUND.usage, row(0, request_id="soak-0000008", outcome="lost")],
        messages=[message(CHAT, {"text": text(0)}, [0, 0]), *SOUND.messages[1:]],
        statements=[statement("c-1", row(0), row(1), row(2), row(0, outcome="lost")), statement("c-2", row(3))],
    ),
    "a lost answer was recorded after the result": changed(
        journal=[*SOUND.journal, replace(entry(0), request_id="soak-0000008")],
        usage=[*SOUND.usage, row(0, request_id="soak-0000008", outcome="lost")],
        statements=[statement("c-1", row(0), row(1), row(2), row(0, outcome="lost")), statement("c-2", row(3))],
    ),
    "an answer is only in a blob": with_large(text(0)),
    "an answer that nobody can read is a call without tokens": changed(
        journal=[Entry(0.0, "c-1", CALLS[0], "soak-0000000", "unreadable"), *SOUND.journal[1:]],
        usage=[UNREPORTED, *SOUND.usage[1:]],
        messages=[UNREADABLE, *SOUND.messages[1:]],
        statements=[statement("c-1", UNREPORTED, row(1), row(2)), statement("c-2", row(3))],
    ),
    "an unanswered call is in the statement": changed(
        journal=[*SOUND.journal, UNUSED],
        usage=[*SOUND.usage, unanswered(CHAT)],
        statements=[statement("c-1", row(0), row(1), row(2), unanswered=1), statement("c-2", row(3))],
    ),
    "a job failed with a code that the endpoint's faults cause": with_failure("rate_limited"),
}
SECOND, EARLY, LATE = (
    replace(UNUSED, request_id="soak-0000010"),
    replace(UNUSED, outcome="reset before", request_id="soak-0000011"),
    replace(UNUSED, at=9.0, request_id="soak-0000012"),
)
ATTEMPTS = unanswered(CHAT, "~1")
UNUSED_CALLS = {
    "one record for one request": ([UNUSED], [unanswered(CHAT)], [], True),
    "one record for two requests": ([UNUSED, SECOND], [unanswered(CHAT)], [], False),
    "another job's record": ([UNUSED], [unanswered(MULTI_CHAT)], [], False),
    # A worker can't tell a reset before the work from one after it, so each of them needs a record.
    "one record for a reset before and one after the work": ([EARLY, UNUSED], [unanswered(CHAT)], [], False),
    "two records for a reset before and one after the work": ([EARLY, UNUSED], [unanswered(CHAT)] * 2, [], True),
    "an attempt's record for all requests before the kill": ([UNUSED, SECOND], [ATTEMPTS], [UNUSED.at + 1], True),
    "an attempt's record for requests after the last kill": ([UNUSED, SECOND], [ATTEMPTS], [UNUSED.at - 1], False),
    "an attempt's record for a request after the kill": ([UNUSED, EARLY, LATE], [ATTEMPTS], [UNUSED.at + 1], False),
    "a record of its own for a request after the kill": (
        [UNUSED, EARLY, LATE],
        [ATTEMPTS, unanswered(CHAT, "~2.1")],
        [UNUSED.at + 1],
        True,
    ),
}
"""Requests that were paid for and not used, records, times at which workers were killed, and if all have a record."""


def violated(evidence):
    return {name for name, sentences in reconcile(evidence).items() if sentences}


@pytest.mark.parametrize("name", VALID)
def test_a_sound_run_has_no_violations(name):
    """No check finds anything."""
    assert set() == violated(VALID[name])


@pytest.mark.parametrize("name", INVALID)
def test_a_violation_is_found(name):
    """Invalid evidence is found by the checks that it concerns, which return a sentence."""
    evidence, expected = INVALID[name]

    assert expected <= violated(evidence)
    assert all(sentence for sentences in reconcile(evidence).values() for sentence in sentences)


def test_every_check_can_fail():
    """There is invalid evidence here for each check."""
    assert set(CHECKS) == set().union(*(expected for _, expected in INVALID.values()))


@pytest.mark.parametrize(("requests", "records", "kills", "accounted"), UNUSED_CALLS.values(), ids=UNUSED_CALLS)
def test_an_unused_call_needs_a_record(requests, records, kills, accounted):
    """An `unanswered` record accounts for one request; that of an attempt whose worker died for all before the kill."""
    statements = [*SOUND.statements[1:], statement("c-1", row(0), row(1), row(2), unanswered=len(records))]
    evidence = changed(
        journal=[*SOUND.journal, *requests], usage=[*SOUND.usage, *records], kills=kills, statements=statements
    )

    assert not accounted or [each for each in requests if each.billable] == unused_calls(evidence)[0]
    violations = violated(evidence) - {
        "statements that are not the journal"
    }  # it counts the records, whosever they are
    assert (set() if accounted else {"unused calls without a record"}) == violations


def test_a_slow_attempt_has_no_record_of_a_crash():
    """The marker of an attempt that was only slow counts as no answer, and its own records instead of the attempt's."""
    lost = row(0, request_id="soak-0000008", outcome="lost", RowKey=f"u_2026-11-20_{CHAT[1]}_~1.1")
    marker = {"PartitionKey": CHAT[0], "RowKey": f"m_2026-11-21_{CHAT[1]}_~1"}
    placeholders = [unanswered(CHAT, "~1"), unanswered(CHAT, "~10"), unanswered(IMAGE, "~1")]

    counted = counted_records([*placeholders, lost], [marker])

    assert [*placeholders[1:], lost] == counted


def test_a_plan_has_every_kind_and_some_jobs_twice():
    """
    Jobs, their order and the duplicates depend only on the seed. A twentieth of a thousand jobs is sent twice, byte for
    byte; only customers share ids.
    """

    def sent(seed):
        return [job.body for job in with_duplicates(seed, plan_jobs(seed, 1000, make_customers(4)))]

    jobs = plan_jobs(1, 1000, make_customers(4))
    decoded = [json.loads(job.body) for job in jobs]

    assert sent(1) == sent(1) != sent(2)
    assert {1: 950, 2: 50} == Counter(Counter(sent(1)).values())
    assert 1000 == len({job.key for job in jobs}) > len({job.job_id for job in jobs})
    assert {"chat", "multi_chat", "image"} == {job["action"] for job in decoded}
    assert any(job.get("output") == {"blob": True} for job in decoded)
    assert [planned.key for planned in jobs] == [parse_tag(json.dumps(job["input"]))[:2] for job in decoded]


def test_a_fifth_of_the_requests_meets_a_fault():
    """The shares are those of the table of faults, and the same request meets the same fault for the same seed."""
    assert 20 == sum(endpoints.FAULTS.values())

    def faults(seed):
        calls = [("c-1", f"job-{number}", 0) for number in range(2000)]
        return [endpoints.choose_fault(random.Random(f"{seed} {call}")) for call in calls]

    assert faults(1) == faults(1) != faults(2)
    assert 320 < sum(map(bool, faults(1))) < 480
    assert {"", *endpoints.FAULTS} == set(faults(1))


def test_a_journal_counts_the_tries_of_a_call():
    """Each request is an entry with its own id, and is in flight until it ends."""
    journal = Journal(clock=lambda: 1.0)
    first, second = journal.open("c-1", CALLS[0]), journal.open("c-1", CALLS[0])
    journal.close(first, "slow")

    assert (2, 1) == (journal.tries[CALLS[0]], journal.in_flight)
    assert first.request_id != second.request_id
    assert (True, False) == (first.billable, second.billable)


def test_the_log_counts_events():
    """Events are counted by name and reason; the lines of errors are kept, those of tracebacks ignored."""
    log = Log()
    for line in (
        "[host 0] INFO run_job 1a2b: job_finished customer=c job_id=j",
        "[host 0] WARNING run_job 1a2b: job_requeued customer=c job_id=j delay_s=7.1 UpstreamRetryLater: Wait.",
        "[host 1] ERROR run_job 1a2b: job_error customer=c job_id=j KeyError",
        '[host 1]   File "x.py", line 3, in y',
        "[host 1] WARNING host.queues: Message 1 could not be settled.",
        "Functions host 1 was killed by SIGKILL; restarting it.",
    ):
        log.read(line)

    assert {"job_requeued UpstreamRetryLater": 1, "job_error": 1, "warning of host.queues": 1} == log.events
    assert ["[host 1] ERROR run_job 1a2b: job_error customer=c job_id=j KeyError"] == log.errors


def test_percentiles_are_measured_values():
    """The p50 of an even number of values is the lower one in the middle; without values it is 0."""
    hundred = [float(number) for number in range(1, 101)]

    assert (50.0, 99.0, 100.0) == tuple(percentile(hundred, share) for share in (0.5, 0.99, 1.0))
    assert (7.0, 0.0) == (percentile([7.0], 0.5), percentile([], 0.5))


def test_a_violation_stands_out_in_the_table():
    """The table has figures and checks; a check with violations shows the first ones and how many follow."""
    figures = measure(SOUND, dict.fromkeys([CHAT, MULTI_CHAT, IMAGE], 1.0), [CHAT, MULTI_CHAT, IMAGE])
    table = lines(figures, {"jobs without a result": [f"{n} is missing" for n in range(7)], "billed twice": []})
    text = "\n".join(table)

    assert re.search(r"^  latency p50 +8\.0$", text, re.MULTILINE)
    assert "7   <-- FAULT" in text
    assert "4 is missing\n      … and 2 more" in text
    assert re.search(r"^  billed twice +0$", text, re.MULTILINE)

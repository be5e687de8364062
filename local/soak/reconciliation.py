"""
The reconciliation: checks that compare the evidence of a soak. Each returns a sentence for every violation. Pure, so
that tests can pass invalid evidence and see the checks fail.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable

from local.soak.evidence import Evidence, blobs_of, job_key_of, name_of, outcome_of
from local.soak.journal import Entry
from local.soak.plan import FAULT_CODES
from local.soak.token_checks import differing_statements, differing_tokens, differing_usage

_ATTEMPT_RECORD = re.compile(r"_~\d+$")
"""The end of a record's key that is of a whole attempt whose worker died, with the attempt's number."""


def missing_results(evidence: Evidence) -> list[str]:
    """Jobs without a result."""
    return [f"{name_of(job.key)} has no result" for job in evidence.planned if job.key not in evidence.results]


def unknown_results(evidence: Evidence) -> list[str]:
    """Results of jobs that were not sent."""
    sent = {job.key for job in evidence.planned}
    return [f"{name_of(key)} has a result but was not sent" for key in evidence.results if key not in sent]


def differing_results(evidence: Evidence) -> list[str]:
    """Results of jobs that were published more than once, with different bytes. What is no job has no row to repeat."""
    without_row = {job.key for job in evidence.planned if not job.in_ledger}
    return [
        f"{name_of(message.key)} was published again with other bytes"
        for message in evidence.messages
        if message.body != evidence.results[message.key].body and message.key not in without_row
    ]


def unexpected_errors(evidence: Evidence) -> list[str]:
    """Jobs that failed, or failed in part, with a code that nothing in the soak explains."""
    codes_by_job = {job.key: job.codes for job in evidence.planned}
    violations = []
    for key, message in evidence.results.items():
        output = message.result.get("output") or {}
        errors = [message.result.get("error"), *(answer.get("error") for answer in output.get("answers", ()))]
        codes = {error["code"] for error in errors if error} - codes_by_job.get(key, FAULT_CODES)
        violations += [f"{name_of(key)} failed with {code}: {message.result.get('error')}" for code in sorted(codes)]
    return violations


def unfinished_jobs(evidence: Evidence) -> list[str]:
    """Jobs that are not done in the ledger."""
    done = {job_key_of(row) for row in evidence.jobs if row["state"] == "done"}
    return [
        f"{name_of(job.key)} is not done in the ledger"
        for job in evidence.planned
        if job.in_ledger and job.key not in done
    ]


def billed_twice(evidence: Evidence) -> list[str]:
    """Calls with more than one record of a stored answer, and answers with more than one record."""
    calls: Counter[object] = Counter()
    for row in evidence.billed:
        entry = evidence.billable.get(str(row.get("request_id")))
        if entry is not None and outcome_of(row) == "answered":
            calls[entry.call] += 1
    answers = Counter(row.get("request_id") for row in evidence.billed)
    return [
        *(f"call {call} is billed {count} times" for call, count in calls.items() if count > 1),
        *(f"answer {number} is billed {count} times" for number, count in answers.items() if number and count > 1),
    ]


def billed_without_answer(evidence: Evidence) -> list[str]:
    """Usage records of answers that the endpoint did not give, or gave to another job."""
    violations = []
    for row in evidence.billed:
        entry = evidence.billable.get(str(row.get("request_id")))
        job = job_key_of(row)
        if entry is None or entry.call is None:
            violations.append(f"{name_of(job)} is billed for {row.get('request_id')}, which was not answered")
        elif entry.call[:2] != job:
            violations.append(f"{name_of(job)} is billed for {entry.request_id}, an answer to {entry.call}")
    return violations


def unused_calls(evidence: Evidence) -> tuple[list[Entry], list[str]]:
    """
    The billable requests that no record of an answer has: those that are recorded otherwise, and a sentence for each
    of the others.

    An `unanswered` record of the job records one request, even one that was reset before the work was done: only the
    endpoint can tell the two apart. Or it records an attempt whose worker died, with all requests of that attempt,
    which were before the last kill.
    """
    answered = {row.get("request_id") for row in evidence.billed}
    unanswered = [row for row in evidence.usage if outcome_of(row) == "unanswered"]
    crashed = {job_key_of(row) for row in unanswered if _ATTEMPT_RECORD.search(row["RowKey"])}
    available = Counter(job_key_of(row) for row in unanswered if not _ATTEMPT_RECORD.search(row["RowKey"]))
    last_kill = max(evidence.kills, default=float("-inf"))
    recorded, violations = [], []
    for entry in evidence.journal:
        if entry.call is None or entry.request_id in answered:
            continue
        if not entry.billable and entry.outcome != "reset before":
            continue
        job = entry.call[:2]
        is_recorded = job in crashed and entry.at <= last_kill
        if not is_recorded and available[job]:
            available[job] -= 1
            is_recorded = True
        if entry.billable and is_recorded:
            recorded.append(entry)
        elif entry.billable:
            violations.append(f"{entry.call} was paid for ({entry.outcome}, {entry.request_id}), without a record")
    return recorded, violations


def wrong_keys(evidence: Evidence) -> list[str]:
    """Requests with the key of another customer, or with an unknown key."""
    return [
        f"a request for {entry.call} had the key of {entry.customer or 'nobody'}"
        for entry in evidence.journal
        if entry.call is None or entry.call[0] != entry.customer
    ]


def wrong_answers(evidence: Evidence) -> list[str]:
    """Results that have the answer to another call."""
    return [
        f"{answer.expected} has the answer to {answer.call}"
        for answers in evidence.answers.values()
        for answer in answers
        if answer.call != answer.expected
        or getattr(evidence.billable.get(answer.request_id), "call", None) != answer.expected
    ]


def answers_without_record(evidence: Evidence) -> list[str]:
    """Answers of results that no record has."""
    billed = {(job_key_of(row), row.get("request_id")) for row in evidence.billed if outcome_of(row) == "answered"}
    return [
        f"{answer.expected} has answer {answer.request_id}, without a record"
        for key, answers in evidence.answers.items()
        for answer in answers
        if (key, answer.request_id) not in billed
    ]


def records_without_answer(evidence: Evidence) -> list[str]:
    """Records of stored answers that are not in the job's result, although they can be read."""
    unreadable = {entry.request_id for entry in evidence.journal if entry.outcome == "unreadable"}
    published = {(key, answer.request_id) for key, answers in evidence.answers.items() for answer in answers}
    return [
        f"{name_of(job_key_of(row))} is billed for answer {row.get('request_id')}, which its result does not have"
        for row in evidence.billed
        if outcome_of(row) == "answered"
        and job_key_of(row) in evidence.results
        and (job_key_of(row), row.get("request_id")) not in published
        and str(row.get("request_id")) not in unreadable
    ]


def wrong_blobs(evidence: Evidence) -> list[str]:
    """Blobs that a result names and that don't exist, or have another size or hash."""
    violations = []
    for key, message in evidence.results.items():
        for blob in blobs_of(message.result):
            stored = evidence.blobs.get(blob["name"])
            if stored is None:
                violations.append(f"{name_of(key)} names the blob {blob['name']}, which does not exist")
            elif (stored.size, stored.sha256) != (blob["size"], blob["sha256"]):
                violations.append(f"{name_of(key)} names the blob {blob['name']}, which has other content")
    return violations


CHECKS: dict[str, Callable[[Evidence], Iterable[str]]] = {
    "jobs without a result": missing_results,
    "results of unknown jobs": unknown_results,
    "results published with other bytes": differing_results,
    "jobs with an unexpected error": unexpected_errors,
    "jobs not done in the ledger": unfinished_jobs,
    "billed twice": billed_twice,
    "billed without an answer": billed_without_answer,
    "answers without a usage record": answers_without_record,
    "usage records without an answer": records_without_answer,
    "unused calls without a record": lambda evidence: unused_calls(evidence)[1],
    "customers with other tokens": differing_tokens,
    "statements that are not the journal": differing_statements,
    "results with other usage": differing_usage,
    "requests with another's key": wrong_keys,
    "answers to another call": wrong_answers,
    "blobs missing or different": wrong_blobs,
    "errors in the workers' log": lambda evidence: evidence.errors,
}
"""All checks, by what they count. A sound run has no violations."""


def reconcile(evidence: Evidence) -> dict[str, list[str]]:
    """The violations that each check finds."""
    return {name: list(check(evidence)) for name, check in CHECKS.items()}

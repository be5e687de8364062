"""
The comparison: each check gives a sentence for everything that should not be. Pure, so that tests can feed it
doctored evidence and see it complain.
"""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from local.soak.evidence import Evidence, named_blobs, outcome, owner
from local.soak.journal import Entry

TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
ENDPOINTS_OWN = frozenset({"rate_limited", "provider_unavailable", "timeout"})
"""The codes of failures that the endpoint's faults can be the cause of."""

Key = tuple[str, str]

_OF_A_RUN = re.compile(r"_~\d+$")
"""The end of a record's key that is of a whole run whose worker died, by the number of its attempt."""


def lost(seen: Evidence) -> list[str]:
    """Jobs without a result."""
    return [f"{_name(job.key)} has no result" for job in seen.planned if job.key not in seen.results]


def strange(seen: Evidence) -> list[str]:
    """Results of jobs that nobody sent."""
    sent = {job.key for job in seen.planned}
    return [f"{_name(key)} has a result and was never sent" for key in seen.results if key not in sent]


def differing(seen: Evidence) -> list[str]:
    """Results that were told more than once, and not with the same words."""
    return [
        f"{_name(told.key)} was told again in other words"
        for told in seen.told
        if told.body != first_of(seen, told.key)
    ]


def first_of(seen: Evidence, key: Key) -> bytes:
    """The bytes that were told of a job first."""
    return seen.results[key].body


def needlessly_failed(seen: Evidence) -> list[str]:
    """Jobs that failed, in whole or in part, with a code that the endpoint's faults do not explain."""
    complaints = []
    for key, told in seen.results.items():
        output = told.result.get("output") or {}
        errors = [told.result.get("error"), *(part.get("error") for part in output.get("answers", ()))]
        codes = {error["code"] for error in errors if error} - ENDPOINTS_OWN
        complaints += [f"{_name(key)} failed with {code}: {told.result.get('error')}" for code in sorted(codes)]
    return complaints


def unfinished(seen: Evidence) -> list[str]:
    """Jobs that the ledger does not hold as done."""
    done = {owner(row) for row in seen.jobs if row["state"] == "done"}
    return [f"{_name(job.key)} is not done in the ledger" for job in seen.planned if job.key not in done]


def double_billed(seen: Evidence) -> list[str]:
    """Pieces of work with more than one record of an answer that was kept, and answers with more than one record."""
    pieces: Counter[object] = Counter()
    for row in seen.billed:
        entry = seen.paid.get(str(row.get("request_id")))
        if entry is not None and outcome(row) == "answered":
            pieces[entry.piece] += 1
    answers = Counter(row.get("request_id") for row in seen.billed)
    return [
        *(f"{piece} is billed {count} times" for piece, count in pieces.items() if count > 1),
        *(f"answer {number} is billed {count} times" for number, count in answers.items() if number and count > 1),
    ]


def never_answered(seen: Evidence) -> list[str]:
    """Usage records of answers that the endpoint never gave, or gave to another job."""
    complaints = []
    for row in seen.billed:
        entry = seen.paid.get(str(row.get("request_id")))
        if entry is None or entry.piece is None:
            complaints.append(f"{_name(owner(row))} is billed for {row.get('request_id')}, which was never answered")
        elif entry.piece[:2] != owner(row):
            complaints.append(f"{_name(owner(row))} is billed for {entry.request_id}, an answer to {entry.piece}")
    return complaints


def wasted(seen: Evidence) -> tuple[list[Entry], list[str]]:
    """
    Calls that were paid for and are in no record of an answer: those that are accounted for, and a sentence for
    each that is not.

    Accounted for is one that an `unanswered` record of its job stands for. Such a record stands for one call,
    also for one that was reset before the work was done, since nobody but the endpoint can tell the two apart;
    or for a run whose worker died, and so for whatever it had asked for: before the last kill, then.
    """
    known = {row.get("request_id") for row in seen.billed}
    unanswered = [row for row in seen.usage if outcome(row) == "unanswered"]
    died = {owner(row) for row in unanswered if _OF_A_RUN.search(row["RowKey"])}
    left = Counter(owner(row) for row in unanswered if not _OF_A_RUN.search(row["RowKey"]))
    last = max(seen.kills, default=float("-inf"))
    recorded, complaints = [], []
    for entry in seen.journal:
        if entry.piece is None or entry.request_id in known or not (entry.paid or entry.did == "reset before"):
            continue
        job = entry.piece[:2]
        covered = job in died and entry.at <= last
        if not covered and left[job]:
            left[job] -= 1
            covered = True
        if entry.paid and covered:
            recorded.append(entry)
        elif entry.paid:
            complaints.append(f"{entry.piece} was paid for ({entry.did}, {entry.request_id}) and no record says so")
    return recorded, complaints


def tokens_differ(seen: Evidence) -> list[str]:
    """Customers whose records' tokens are not those that the endpoint told in the answers that were kept."""
    told: defaultdict[str, Counter[str]] = defaultdict(Counter)
    kept: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in seen.billed:
        kept[row["PartitionKey"]].update({name: row[name] for name in TOKENS})
        if entry := seen.paid.get(str(row.get("request_id"))):
            told[entry.customer].update({name: getattr(entry, name) for name in TOKENS})
    return [
        f"{customer}: the records say {kept[customer][name]} {name}, the endpoint says {told[customer][name]}"
        for customer in sorted({*told, *kept})
        for name in TOKENS
        if kept[customer][name] != told[customer][name]
    ]


def usage_differs(seen: Evidence) -> list[str]:
    """Results whose `usage` is not the sum of their job's records."""
    sums: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in seen.usage:
        sums[owner(row)].update({name: row[name] for name in ("calls", *TOKENS)})
    return [
        f"{_name(key)}: its result says {told.result['usage'].get(name, 0)} {name}, its records {sums[key][name]}"
        for key, told in seen.results.items()
        for name in ("calls", *TOKENS)
        if told.result["usage"].get(name, 0) != sums[key][name]
    ]


def foreign_keys(seen: Evidence) -> list[str]:
    """Calls that bore another customer's key, or one that nobody has."""
    return [
        f"a call for {entry.piece} came with the key of {entry.customer or 'nobody'}"
        for entry in seen.journal
        if entry.piece is None or entry.piece[0] != entry.customer
    ]


def foreign_answers(seen: Evidence) -> list[str]:
    """Results that hold the answer to something else."""
    return [
        f"{said.place} was told the answer to {said.piece}"
        for each in seen.said.values()
        for said in each
        if said.piece != said.place or getattr(seen.paid.get(said.request_id), "piece", None) != said.place
    ]


def told_but_not_billed(seen: Evidence) -> list[str]:
    """Answers that were told and are in no record."""
    billed = {(owner(row), row.get("request_id")) for row in seen.billed if outcome(row) == "answered"}
    return [
        f"{said.place} was told answer {said.request_id}, which no record has"
        for key, each in seen.said.items()
        for said in each
        if (key, said.request_id) not in billed
    ]


def billed_but_not_told(seen: Evidence) -> list[str]:
    """JobQueries of answers that were kept and are not in their job's result."""
    told = {(key, said.request_id) for key, each in seen.said.items() for said in each}
    return [
        f"{_name(owner(row))} is billed for answer {row.get('request_id')}, which its result does not hold"
        for row in seen.billed
        if outcome(row) == "answered" and owner(row) in seen.results and (owner(row), row.get("request_id")) not in told
    ]


def blobs_differ(seen: Evidence) -> list[str]:
    """Blobs that a result names and that are missing, or others than it says."""
    complaints = []
    for key, told in seen.results.items():
        for blob in named_blobs(told.result):
            data = seen.blobs.get(blob["name"])
            if data is None:
                complaints.append(f"{_name(key)} names the blob {blob['name']}, which is not there")
            elif (len(data), hashlib.sha256(data).hexdigest()) != (blob["size"], blob["sha256"]):
                complaints.append(f"{_name(key)} names the blob {blob['name']}, which holds something else")
    return complaints


def errors(seen: Evidence) -> list[str]:
    """What the workers' log calls an error."""
    return list(seen.errors)


MUST_BE_NONE: dict[str, Callable[[Evidence], Iterable[str]]] = {
    "jobs lost": lost,
    "results of no job": strange,
    "results told in other words": differing,
    "jobs failed needlessly": needlessly_failed,
    "jobs not done in the ledger": unfinished,
    "billed twice": double_billed,
    "billed, never answered": never_answered,
    "told, not billed": told_but_not_billed,
    "billed, not told": billed_but_not_told,
    "wasted calls, unrecorded": lambda seen: wasted(seen)[1],
    "customers whose tokens differ": tokens_differ,
    "results whose usage differs": usage_differs,
    "calls with another's key": foreign_keys,
    "answers to something else": foreign_answers,
    "blobs missing or different": blobs_differ,
    "errors in the workers' log": errors,
}
"""Every check that a sound run has nothing to say to, by what it counts."""


def reconcile(seen: Evidence) -> dict[str, list[str]]:
    """What each check has to say."""
    return {name: list(check(seen)) for name, check in MUST_BE_NONE.items()}


def _name(key: Key) -> str:
    return "/".join(key)

"""The soak: it complains of what is wrong, and has nothing to say of the app, which loses and double-bills nothing."""

import hashlib
import json
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from local.soak import endpoint as endpoints
from local.soak.endpoint import draw
from local.soak.evidence import Evidence, Told
from local.soak.journal import Entry, Journal
from local.soak.log import Log
from local.soak.plan import Planned, make_customers, plan_jobs, read_tag, with_duplicates, write_tag
from local.soak.reconciliation import MUST_BE_NONE, reconcile, wasted
from local.soak.report import lines, measure, percentile

ROOT = Path(__file__).parents[2]
CHAT, MANY, PICTURE = ("c-1", "job-1"), ("c-1", "job-2"), ("c-2", "job-1")
PIECES = [(*CHAT, 0), (*MANY, 0), (*MANY, 1), (*PICTURE, 0)]
WASTE = Entry(3.0, "c-1", (*CHAT, 0), "soak-0000009", "reset after", 5, 6, 0, 3.1)
SHORT_S = 300


def call(number):
    return Entry(
        float(number), PIECES[number][0], PIECES[number], f"soak-000000{number}", "answered", 10, 20 + number, 5
    )


def text(number):
    return f"{write_tag(PIECES[number])} soak-000000{number} so it is said"


def row(number, **more):
    """The usage record of a call."""
    customer, job_id, place = PIECES[number]
    return {
        "PartitionKey": customer,
        "RowKey": f"u_2026-11_{job_id}_{place:04}",
        "job_id": job_id,
        "request_id": f"soak-000000{number}",
        "calls": 1,
        "input_tokens": 10,
        "output_tokens": 20 + number,
        "cached_tokens": 5,
        **more,
    }


def unanswered(key, place="~1.1"):
    none = dict.fromkeys(("calls", "input_tokens", "output_tokens", "cached_tokens"), 0)
    return {
        "PartitionKey": key[0],
        "RowKey": f"u_2026-11_{key[1]}_{place}",
        "job_id": key[1],
        "outcome": "unanswered",
        **none,
    }


def told(key, output, numbers, **more):
    """A result as it is told, with the usage of its calls."""
    usage = {name: sum(row(number)[name] for number in numbers) for name in ("calls", "input_tokens", "output_tokens")}
    usage["cached_tokens"] = 5 * len(numbers)
    result = {"customer": key[0], "job_id": key[1], "status": "succeeded", "output": output, "usage": usage}
    return Told(json.dumps(result | {"attempts": 1} | more).encode(), 9.0)


def blob(name, data):
    return {"container": "results", "name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


DRAWN = draw("soak-0000003")
SOUND = Evidence(
    planned=[Planned(*CHAT, 1, b""), Planned(*MANY, 2, b""), Planned(*PICTURE, 1, b"")],
    told=[
        told(CHAT, {"text": text(0)}, [0]),
        told(MANY, {"answers": [{"text": text(1)}, {"text": text(2)}]}, [1, 2]),
        told(PICTURE, {"images": [{"blob": blob("image-1.png", DRAWN)}]}, [3]),
    ],
    journal=[call(number) for number in range(4)],
    usage=[row(number) for number in range(4)],
    jobs=[{"PartitionKey": key[0], "RowKey": f"j_{key[1]}", "state": "done"} for key in (CHAT, MANY, PICTURE)],
    blobs={"image-1.png": DRAWN},
)


def but(**changed):
    return replace(SOUND, **changed)


def with_row(number, **more):
    return but(usage=[*SOUND.usage[:number], row(number, **more), *SOUND.usage[number + 1 :]])


def with_told(place, told):
    return but(told=[*SOUND.told[:place], told, *SOUND.told[place + 1 :]])


def failed(code):
    return told(CHAT, None, [], status="failed", error={"code": code})


DOCTORED = {
    "a job without a result": (but(told=SOUND.told[1:]), {"jobs lost"}),
    "a result of nobody's job": (but(planned=SOUND.planned[1:]), {"results of no job"}),
    "other words the second time": (
        but(told=[*SOUND.told, told(CHAT, {"text": text(0)}, [0], attempts=2)]),
        {"results told in other words"},
    ),
    "a failure of ours": (
        replace(with_told(0, failed("internal")), usage=SOUND.usage[1:], journal=SOUND.journal[1:]),
        {"jobs failed needlessly"},
    ),
    "a failure of ours in a part": (
        replace(
            with_told(1, told(MANY, {"answers": [{"text": text(1)}, {"error": {"code": "credential_rejected"}}]}, [1])),
            usage=[row(0), row(1), row(3)],
            journal=[call(0), call(1), call(3)],
        ),
        {"jobs failed needlessly"},
    ),
    "a job that is still running": (
        but(jobs=[{**SOUND.jobs[0], "state": "running"}, *SOUND.jobs[1:]]),
        {"jobs not done in the ledger"},
    ),
    "one answer in two records": (
        but(usage=[*SOUND.usage, row(0)]),
        {"billed twice", "results whose usage differs"},
    ),
    "two answers to one prompt, both billed": (
        but(
            journal=[*SOUND.journal, replace(call(0), request_id="soak-0000008")],
            usage=[*SOUND.usage, row(0, request_id="soak-0000008")],
        ),
        {"billed twice", "billed, not told", "results whose usage differs"},
    ),
    "a record of a call that the endpoint refused": (
        but(journal=[replace(call(0), did="503"), *SOUND.journal[1:]]),
        {"billed, never answered", "answers to something else", "customers whose tokens differ"},
    ),
    "a record of another customer's call": (
        with_row(0, request_id="soak-0000003"),
        {"billed, never answered", "billed twice"},
    ),
    "an answer without a record": (but(usage=SOUND.usage[1:]), {"told, not billed", "wasted calls, unrecorded"}),
    "a record of other tokens": (
        with_row(1, output_tokens=1),
        {"customers whose tokens differ", "results whose usage differs"},
    ),
    "a call that nobody wrote down": (but(journal=[*SOUND.journal, WASTE]), {"wasted calls, unrecorded"}),
    "another customer's key": (
        but(journal=[replace(call(0), customer="c-2"), *SOUND.journal[1:]]),
        {"calls with another's key", "customers whose tokens differ"},
    ),
    "a key of nobody": (
        but(journal=[*SOUND.journal, Entry(5.0, "", (*CHAT, 0), "soak-0000008", "refused")]),
        {"calls with another's key"},
    ),
    "another job's answer": (with_told(0, told(CHAT, {"text": text(3)}, [0])), {"answers to something else"}),
    "answers in the wrong order": (
        with_told(1, told(MANY, {"answers": [{"text": text(2)}, {"text": text(1)}]}, [1, 2])),
        {"answers to something else"},
    ),
    "a picture that is gone": (but(blobs={"image-1.png": None}), {"blobs missing or different", "billed, not told"}),
    "a picture of another call": (
        but(blobs={"image-1.png": draw("soak-0000004")}),
        {"blobs missing or different", "answers to something else", "told, not billed", "billed, not told"},
    ),
    "an error in the log": (but(errors=["[host 0] ERROR …"]), {"errors in the workers' log"}),
}


def complaints(seen):
    return {name for name, said in reconcile(seen).items() if said}


def test_a_sound_run_is_not_complained_of():
    """Every job told, every call billed once: no check has anything to say."""
    assert set() == complaints(SOUND)


@pytest.mark.parametrize("name", DOCTORED)
def test_what_is_wrong_is_complained_of(name):
    """Doctored evidence makes the checks speak that it concerns, with a sentence each."""
    seen, expected = DOCTORED[name]

    assert expected <= complaints(seen)
    assert all(sentence for said in reconcile(seen).values() for sentence in said)


def test_every_check_can_fail():
    """No check is there for show: each has evidence here that makes it speak."""
    assert set(MUST_BE_NONE) == set().union(*(expected for _, expected in DOCTORED.values()))


def test_a_wasted_call_is_accounted_for_by_its_record():
    """One `unanswered` record of the job stands for one call that was paid for, and not for two."""
    once = but(journal=[*SOUND.journal, WASTE], usage=[*SOUND.usage, unanswered(CHAT)])
    twice = replace(once, journal=[*once.journal, replace(WASTE, request_id="soak-0000010")])

    assert [WASTE] == wasted(once)[0]
    assert set() == complaints(once)
    assert {"wasted calls, unrecorded"} == complaints(twice)


def test_another_jobs_record_accounts_for_nothing():
    """A call of one job is not explained by what is recorded of another."""
    seen = but(journal=[*SOUND.journal, WASTE], usage=[*SOUND.usage, unanswered(MANY)])

    assert {"wasted calls, unrecorded"} == complaints(seen)


def test_a_reset_before_the_work_needs_a_record_too():
    """A worker can't tell it from one after the work, so a record stands for either, and one is not enough for both."""
    before = replace(WASTE, did="reset before", request_id="soak-0000010")
    seen = but(journal=[*SOUND.journal, before, WASTE], usage=[*SOUND.usage, unanswered(CHAT)])

    assert {"wasted calls, unrecorded"} == complaints(seen)
    assert set() == complaints(replace(seen, usage=[*seen.usage, unanswered(CHAT)]))


def test_a_lost_run_accounts_for_the_calls_before_a_death():
    """The record of a run whose worker died stands for all that it asked for, and for nothing after the last kill."""
    calls = [WASTE, replace(WASTE, request_id="soak-0000010")]
    seen = but(journal=[*SOUND.journal, *calls], usage=[*SOUND.usage, unanswered(CHAT, "~1")], kills=[WASTE.at + 1])

    assert set() == complaints(seen)
    assert {"wasted calls, unrecorded"} == complaints(replace(seen, kills=[WASTE.at - 1]))


def test_a_lost_run_leaves_the_records_of_later_calls_to_them():
    """Calls before a kill and one after it: the run's record stands for the first, a record of its own for the last."""
    calls = [WASTE, replace(WASTE, did="reset before"), replace(WASTE, at=9.0, request_id="soak-0000010")]
    records = [unanswered(CHAT, "~1"), unanswered(CHAT, "~2.1")]
    seen = but(journal=[*SOUND.journal, *calls], usage=[*SOUND.usage, *records], kills=[WASTE.at + 1])

    assert set() == complaints(seen)
    assert {"wasted calls, unrecorded"} == complaints(replace(seen, usage=seen.usage[:-1]))


def test_a_lost_answer_is_billed_and_wasted_nothing():
    """A record with the outcome `lost` has its answer's tokens, and the answer need not be told."""
    again = replace(call(0), request_id="soak-0000008")
    seen = but(
        journal=[*SOUND.journal, again],
        usage=[*SOUND.usage, row(0, request_id="soak-0000008", outcome="lost")],
        told=[told(CHAT, {"text": text(0)}, [0, 0]), *SOUND.told[1:]],
    )

    assert set() == complaints(seen)


def test_failures_of_the_endpoint_are_no_fault():
    """A job may fail with what the endpoint's faults explain."""
    seen = replace(with_told(0, failed("rate_limited")), usage=SOUND.usage[1:], journal=SOUND.journal[1:])

    assert set() == complaints(seen)


def test_a_plan_is_the_same_for_the_same_seed():
    """Jobs, order and duplicates come from the seed alone, and another seed has others."""
    customers = make_customers(3)

    def plan(seed):
        return [job.body for job in with_duplicates(seed, plan_jobs(seed, 200, customers))]

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_a_plan_has_every_kind_and_some_twice():
    """Of a thousand jobs a twentieth is sent twice, byte for byte; ids repeat only across customers."""
    jobs = plan_jobs(1, 1000, make_customers(4))
    sent = Counter(job.body for job in with_duplicates(1, jobs))
    decoded = [json.loads(job.body) for job in jobs]

    assert {1: 950, 2: 50} == Counter(sent.values())
    assert 1000 == len({job.key for job in jobs}) > len({job.job_id for job in jobs})
    assert {"chat", "multi_chat", "image"} == {job["action"] for job in decoded}
    assert any(job.get("output") == {"blob": True} for job in decoded)
    assert all(
        read_tag(json.dumps(job["input"]))[:2] == planned.key for job, planned in zip(decoded, jobs, strict=True)
    )


def test_a_fifth_of_the_calls_meets_a_fault():
    """As the endpoint's table of faults says, and the same call meets the same fault for the same seed."""
    assert 20 == sum(endpoints.FAULTS.values())

    def meets(seed):
        pieces = [("c-1", f"job-{number}", 0) for number in range(2000)]
        return [endpoints.choose_fault(random.Random(f"{seed} {piece}")) for piece in pieces]

    assert meets(1) == meets(1) != meets(2)
    assert 320 < sum(map(bool, meets(1))) < 480
    assert {"", *endpoints.FAULTS} == set(meets(1))


def test_a_journal_counts_the_tries_of_a_piece():
    """Each request is an entry with an id of its own, open until it is dealt with."""
    journal = Journal(clock=lambda: 1.0)
    first, second = journal.open("c-1", PIECES[0]), journal.open("c-1", PIECES[0])
    journal.close(first, "slow")

    assert (2, 1) == (journal.tries[PIECES[0]], journal.in_flight)
    assert first.request_id != second.request_id
    assert (True, False) == (first.paid, second.paid)


def test_the_log_is_counted_by_event():
    """Events are told apart by name and reason; errors are kept, a traceback's lines are not read."""
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


def test_percentiles_are_values_that_were_measured():
    """The p50 of an even number is the lower of the two in the middle; of nothing it is 0."""
    hundred = [float(number) for number in range(1, 101)]

    assert (50.0, 99.0, 100.0) == tuple(percentile(hundred, share) for share in (0.5, 0.99, 1.0))
    assert (7.0, 0.0) == (percentile([7.0], 0.5), percentile([], 0.5))


def test_a_fault_stands_out_in_the_table():
    """Figures and checks in one table; a check that complains says what of, and how much more there is."""
    figures = measure(SOUND, dict.fromkeys([CHAT, MANY, PICTURE], 1.0), [CHAT, MANY, PICTURE])
    shown = "\n".join(lines(figures, {"jobs lost": [f"{n} is lost" for n in range(7)], "billed twice": []}))

    assert re.search(r"^  wait p50 +8\.0$", shown, re.MULTILINE)
    assert "7   <-- FAULT" in shown
    assert "4 is lost\n      … and 2 more" in shown
    assert re.search(r"^  billed twice +0$", shown, re.MULTILINE)


@pytest.mark.long
@pytest.mark.timeout(SHORT_S + 90)  # a stack, and 200 jobs with faults: half a minute on a quiet machine
@pytest.mark.xdist_group("stack")
def test_everything_is_accounted_for(tmp_path):
    """The short form: with faults, two workers killed and a rotation nothing is lost, billed twice or unexplained."""
    file = tmp_path / "figures.json"
    options = {"jobs": 200, "customers": 4, "workers": 2, "kills": 2, "backlog": 60, "seed": 1, "seconds": SHORT_S}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "local", "soak", *arguments, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=SHORT_S + 60,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert dict.fromkeys(MUST_BE_NONE, 0) == report["must be 0"]
    figures, did = report["figures"], report["figures"]["calls by what became of them"]
    assert 200 + 60 + 1 == figures["jobs"] == figures["results"]
    assert (2, 1) == (figures["workers killed"], report["seed"])
    assert figures["runs lost to a dead worker"] > 0 < figures["wasted calls, recorded"]
    assert {"answered", "429", "500", "503", "reset before", "reset after", "slow"} <= set(did)
    assert figures["the other's job took"] <= figures["the backlog took"]
    assert "Everything is accounted for (seed 1)." in done.stdout

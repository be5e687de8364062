"""The parts of the hostile soak that need no stack: attacks, bodies, doors, comparison, memory."""

import asyncio
import gzip
import json
import os
from types import SimpleNamespace

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from local.soak.doors import new_signing_secret, sign
from local.soak.evidence import Evidence, ResultMessage
from local.soak.hostile import comparison
from local.soak.hostile.attacks import LARGE, PREFIX, STEADY, hostile_customer
from local.soak.hostile.bodies import FILLERS, LIMIT, UNREADABLE, Filler, completion, compressed, filler
from local.soak.hostile.comparison import MAX_MIB, Run, compare
from local.soak.hostile.endpoint import ANSWERS
from local.soak.journal import Entry
from local.soak.monitor import Monitor
from local.soak.plan import PlannedJob, make_customers, parse_tag, plan_jobs, with_doors
from shared.contract.job import decode_job

ATTACKS = [*LARGE, *STEADY]
MEMBERS = {"usage": {"prompt_tokens": 3}}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_a_valid_job(attack):
    """Its jobs are valid and numbered, and name their call; the endpoint knows how to answer them."""
    job = attack.job(7, "http://127.0.0.1:1/receiver")
    decoded = decode_job(job.body, default_id="")

    assert (job.key, decoded.customer) == ((f"{PREFIX}{attack.name}", "job-00007"), attack.customer)
    assert (*job.key, 0) == parse_tag(job.body.decode())
    assert attack.answer in ANSWERS
    assert attack.filler in FILLERS
    assert hostile_customer(attack).id == attack.customer


def test_attacks_have_customers_of_their_own():
    """No two attacks share a customer, a name or a key."""
    assert len(ATTACKS) == len({attack.name for attack in ATTACKS})
    assert len(ATTACKS) == len({hostile_customer(attack).key for attack in ATTACKS})


@pytest.mark.long
@pytest.mark.parametrize("name", sorted({*FILLERS} - UNREADABLE - {"odd bytes"}))
def test_an_answer_that_can_be_read_is_a_completion(name):
    """It is JSON with the usage, and its text begins as given."""
    body = json.loads(b"".join(completion("A text ", MEMBERS, filler(name))))

    assert body["usage"] == MEMBERS["usage"]
    assert body["choices"][0]["message"]["content"].startswith("A text ")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if name.startswith("too many") else ()) for name in sorted(UNREADABLE)],
)
def test_an_answer_that_nobody_can_read_is_beyond_a_limit(name):
    """It is larger than the app reads, or has more values, or more levels, than it decodes."""
    fill = filler(name)

    assert len(fill.in_text) > LIMIT or fill.members.count(b",") > 2_500_000 or fill.members.count(b"[") >= 200_000


def test_a_compressed_answer_is_gzip():
    """The pieces are compressed separately, and are one stream."""
    pieces = completion("A text ", MEMBERS, Filler(b"again " * 100_000))

    assert b"".join(pieces) == gzip.decompress(compressed(pieces))


def test_honest_jobs_come_by_every_door():
    """The doors depend only on the seed. A tenth of the jobs have a callback, and nothing else of them changes."""
    jobs = plan_jobs(1, 500, make_customers(3))
    planned = with_doors(1, jobs, "http://127.0.0.1:1")

    assert planned == with_doors(1, jobs, "http://127.0.0.1:1")
    assert {"queue", "http", "wait", "webhook"} == {job.door for job in planned}
    assert 25 < sum(b'"callback"' in job.body for job in planned) < 100
    for job, other in zip(jobs, planned, strict=True):
        before, after = json.loads(job.body), json.loads(other.body)
        assert before.pop("output", {}) == {name: on for name, on in after.pop("output", {}).items() if on is True}
        assert before == after


def test_a_webhook_is_signed_as_specified():
    """The library of the specification's authors verifies it, and only with that secret."""
    secret, job = new_signing_secret(), PlannedJob("c-1", "job-1", 1, b'{"a": 1}')
    headers = sign(secret, job)

    assert {"a": 1} == Webhook(secret).verify(job.body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_signing_secret()).verify(job.body, headers)


def run_of(seconds, *, mib=100.0, together=100.0, statuses=None, called_back=True):
    """A run of 100 honest jobs that took so many seconds each, but for the last, which took 50 times as long."""
    jobs = [PlannedJob("c-1", f"job-{number:05}", 0, b'{"output": {"callback": "x"}}') for number in range(100)]
    results = [
        {"customer": "c-1", "job_id": job.job_id, "status": "succeeded", "usage": {}, "attempts": 1} for job in jobs
    ]
    messages = [ResultMessage(json.dumps(result).encode(), seconds) for result in results]
    rows = [{"PartitionKey": "c-1", "RowKey": f"j_{job.job_id}", "state": "done"} for job in jobs]
    journal = [Entry(0.0, "c-1", ("c-1", job.job_id, 0), f"soak-{number:07}", "answered")
               for number, job in enumerate(jobs)]  # fmt: skip
    watch = Monitor(SimpleNamespace(processes={}))
    watch.worker_mib, watch.together_mib = {1: mib}, {1: together}
    return Run(
        Evidence(jobs, messages, journal, [], rows),
        jobs,
        dict.fromkeys((job.key for job in jobs), 0.0),
        dict.fromkeys((job.key for job in jobs), seconds + 1) if called_back else {},
        watch,
        statuses or {},
    )


BOUNDS = ["callbacks lost", "server errors over HTTP", comparison.LATE, comparison.LARGE]


@pytest.mark.parametrize(
    ("beside", "broken"),
    [
        (run_of(1.4), []),
        (run_of(1.6), BOUNDS[2:3]),
        (run_of(1.4, mib=MAX_MIB + 1), BOUNDS[3:]),
        (run_of(1.4, together=MAX_MIB + 1), BOUNDS[3:]),
        (run_of(1.4, statuses={200: 9, 503: 2, 429: 1}), []),
        (run_of(1.4, statuses={500: 1}), BOUNDS[1:2]),
        (run_of(1.4, called_back=False), BOUNDS[:1]),
    ],
    ids=["sound", "slow", "worker's memory", "memory with side process", "refused", "server error", "no callback"],
)
def test_each_bound_can_break(beside, broken):
    """Latency, memory, callbacks and HTTP each have a bound of their own; being refused is no error."""
    figures, violations = compare(run_of(1.0), beside)

    assert broken == [name for name in BOUNDS if violations[name]]
    assert figures["honest, p99, s"]["ratio"] == figures["honest without a fault, p99, s"]["ratio"]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux has /proc")  # noqa: PTH110
async def test_memory_is_the_kernels():
    """It is what the kernel counts of a process, and of a process with its children."""
    child = await asyncio.create_subprocess_exec("sleep", "5")
    hosts = SimpleNamespace(processes={0: SimpleNamespace(pid=os.getpid())})
    watch = Monitor(hosts)
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0.3)
    watching.cancel()
    child.kill()
    await child.wait()

    assert 10 < watch.worker_mib[os.getpid()] < 10_000
    assert watch.together_mib[os.getpid()] > 10
    assert 0 <= watch.late_s < 60

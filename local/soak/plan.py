"""
What a soak sends: its customers and their jobs, which are the same for the same seed. Pure.

Each prompt begins with a tag that names its call, so that the endpoint can identify it without knowing the app.
Customers share job ids on purpose: an id is unique only for its customer.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from local.stack.customers import Customer

Door = Literal["queue", "http", "wait", "webhook"]
"""The ways to send a job: a message, HTTP, HTTP that waits for the result, and a signed webhook."""
CallKey = tuple[str, str, int]
"""A call, which is billed by itself: customer, job id, index of the prompt in the job."""

DUPLICATE_SHARE = 0.05
"""The share of jobs whose message is sent twice."""
FAULT_CODES = frozenset({"rate_limited", "provider_unavailable", "timeout"})
"""The error codes that the endpoint's faults can cause."""
SHORT_TIMEOUT_S = 2
"""`timeout_s` of a third of the jobs: shorter than the endpoint's slow responses."""

_TAG = re.compile(r"\[soak ([a-z0-9-]+)/([\w.-]+)/(\d+)\]")
_WORDS = ("queue", "job", "worker", "answer", "token", "customer", "key", "ledger")
_WEIGHTS = {"chat": 83, "multi_chat": 7, "chat with blob": 8, "image": 2}
_DOORS: dict[Door, int] = {"queue": 70, "http": 15, "wait": 5, "webhook": 10}
_CALLBACK_SHARE = 0.1
_PROMPTS = 5
_SHORT_TIMEOUT_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job, as it is sent, and how many calls it needs."""

    customer: str
    job_id: str
    calls: int
    body: bytes = field(repr=False)
    codes: frozenset[str] = FAULT_CODES
    """The error codes that the job may end with."""
    in_ledger: bool = True
    """Whether the job gets a row: what is not a job has none."""
    door: Door = "queue"
    """How the job is sent."""

    @property
    def key(self) -> tuple[str, str]:
        """Customer and job id, which identify a job."""
        return self.customer, self.job_id


def make_customers(count: int) -> list[Customer]:
    """`count` customers, each with its own key, on the three kinds of endpoint in turn."""
    kinds = (
        ("/openai/v1", {"provider": "azure_openai", "default_model": "gpt-5.5"}, False),
        ("/openai/deployments/soak-chat/chat/completions?api-version=2024-10-21", {"provider": "azure_openai"}, True),
        ("/v1", {"provider": "openai", "default_model": "gpt-6-luna"}, False),
    )
    customers = []
    for number in range(count):
        path, settings, bare_key = kinds[number % len(kinds)]
        customers.append(Customer(f"soak-{number:03}", path, path, settings, bare_key=bare_key))
    return customers


def plan_jobs(seed: int, count: int, customers: Sequence[Customer]) -> list[PlannedJob]:
    """`count` jobs: most are chats; some have many prompts, write a blob, or make images."""
    chance = random.Random(f"{seed} jobs")  # noqa: S311 -- repeatable on purpose
    numbers: dict[str, int] = {}
    jobs = []
    for _ in range(count):
        customer = chance.choice(customers)
        number = numbers[customer.id] = numbers.get(customer.id, 0) + 1
        (kind,) = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        if kind == "image" and "deployments" in customer.path:  # that endpoint names a chat model
            kind = "chat"
        jobs.append(_job(customer.id, f"job-{number:05}", kind, chance))
    return jobs


def plan_backlog(seed: int, count: int, customer: str) -> list[PlannedJob]:
    """`count` chats of one customer, without short timeouts."""
    chance = random.Random(f"{seed} {customer}")  # noqa: S311 -- repeatable on purpose
    numbers = range(1, count + 1)
    return [_job(customer, f"backlog-{number:05}", "chat", chance, short_timeouts=0) for number in numbers]


def with_duplicates(seed: int, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
    """The messages to send: every job, and some of them again, directly after the first message or much later."""
    chance = random.Random(f"{seed} duplicates")  # noqa: S311 -- repeatable on purpose
    repeated = chance.sample(range(len(jobs)), round(len(jobs) * DUPLICATE_SHARE))
    duplicates = [(at + chance.choice([0.5, chance.uniform(0.5, len(jobs))]), jobs[at]) for at in repeated]
    messages = sorted([*enumerate(jobs), *duplicates], key=lambda message: message[0])
    return [job for _, job in messages]


def with_doors(seed: int, jobs: Sequence[PlannedJob], receiver: str) -> list[PlannedJob]:
    """The jobs, each with the door that it is sent by; the results of some are also posted to the receiver."""
    chance = random.Random(f"{seed} doors")  # noqa: S311 -- repeatable on purpose
    planned = []
    for job in jobs:
        (door,) = chance.choices(list(_DOORS), list(_DOORS.values()))
        body = job.body
        if chance.random() < _CALLBACK_SHARE:
            members = json.loads(body)
            members["output"] = members.get("output", {}) | {"callback": f"{receiver}/{job.customer}/{job.job_id}"}
            body = json.dumps(members).encode()
        planned.append(replace(job, door=door, body=body))
    return planned


def parse_tag(text: str) -> CallKey | None:
    """The call in the tag of a prompt or an answer; None if there is no tag."""
    match = _TAG.search(text)
    return None if match is None else (match[1], match[2], int(match[3]))


def format_tag(call: CallKey) -> str:
    """The tag that `parse_tag` reads."""
    return "[soak {}/{}/{}]".format(*call)


def _job(
    customer: str, job_id: str, kind: str, chance: random.Random, short_timeouts: float = _SHORT_TIMEOUT_SHARE
) -> PlannedJob:
    count = _PROMPTS if kind == "multi_chat" else 1
    prompts = [
        f"{format_tag((customer, job_id, index))} {' '.join(chance.choices(_WORDS, k=chance.randint(4, 60)))}?"
        for index in range(count)
    ]
    job: dict[str, Any] = {"customer": customer, "job_id": job_id, "action": kind.partition(" ")[0]}
    job["input"] = {"prompts": prompts} if kind == "multi_chat" else {"prompt": prompts[0]}
    if kind == "image":
        job["model"] = "gpt-image-2"
    if kind == "chat with blob":
        job["output"] = {"blob": True}
    if chance.random() < short_timeouts:
        job["options"] = {"timeout_s": SHORT_TIMEOUT_S}
    return PlannedJob(customer, job_id, count, json.dumps(job).encode())

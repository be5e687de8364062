"""
What a soak sends: its customers and their jobs, the same for the same seed. Pure.

Every prompt begins with a tag that names its customer, job and place, so that the endpoint can say what it was
asked for without knowing the app. Customers share job ids on purpose: an id is one customer's own.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from local.stack.customers import Customer

Piece = tuple[str, str, int]
"""A piece of work that is paid for by itself: customer, job id, place of the prompt in the job."""

DUPLICATES = 0.05
"""The share of messages that are sent twice."""
CUT_S = 2
"""`timeout_s` of a third of the crowd's jobs: shorter than the endpoint's slow answers."""

_TAG = re.compile(r"\[soak ([a-z0-9-]+)/([\w.-]+)/(\d+)\]")
_WORDS = ("queue", "job", "worker", "answer", "token", "customer", "key", "ledger")
_MIX = {"chat": 83, "multi_chat": 7, "chat with blob": 8, "image": 2}
_PROMPTS = 5
_CUT = 1 / 3


@dataclass(frozen=True, slots=True)
class Planned:
    """One job, as it is sent. `prompts` is how many pieces of work it is."""

    customer: str
    job_id: str
    prompts: int
    body: bytes = field(repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Customer and job id: together they tell jobs apart."""
        return self.customer, self.job_id


def make_customers(count: int) -> list[Customer]:
    """So many customers, each with a key of its own, on the three kinds of endpoint in turn."""
    kinds = (
        ("/openai/v1", {"provider": "azure_openai", "default_model": "gpt-4o"}, False),
        ("/openai/deployments/soak-chat/chat/completions?api-version=2024-10-21", {"provider": "azure_openai"}, True),
        ("/v1", {"provider": "openai", "default_model": "gpt-4o-mini"}, False),
    )
    made = []
    for number in range(count):
        path, settings, bare = kinds[number % len(kinds)]
        made.append(Customer(f"soak-{number:03}", path, path, settings, bare_key=bare))
    return made


def plan_jobs(seed: int, count: int, customers: Sequence[Customer]) -> list[Planned]:
    """`count` jobs: mostly chats, with some of many prompts, with a blob, and of pictures."""
    chance = random.Random(f"{seed} jobs")  # noqa: S311  # repeatable on purpose
    turns: dict[str, int] = {}
    jobs = []
    for _ in range(count):
        customer = chance.choice(customers)
        turn = turns[customer.id] = turns.get(customer.id, 0) + 1
        (kind,) = chance.choices(list(_MIX), list(_MIX.values()))
        if kind == "image" and "deployments" in customer.path:  # that endpoint names a chat model
            kind = "chat"
        jobs.append(_job(customer.id, f"job-{turn:05}", kind, chance))
    return jobs


def plan_backlog(seed: int, count: int, customer: str) -> list[Planned]:
    """`count` chats of one customer, none in a hurry."""
    chance = random.Random(f"{seed} {customer}")  # noqa: S311  # repeatable on purpose
    return [_job(customer, f"backlog-{number:05}", "chat", chance, cut=0) for number in range(1, count + 1)]


def with_duplicates(seed: int, jobs: Sequence[Planned]) -> list[Planned]:
    """The messages to send: every job, and some of them again, right behind the first or much later."""
    chance = random.Random(f"{seed} duplicates")  # noqa: S311  # repeatable on purpose
    again = chance.sample(range(len(jobs)), round(len(jobs) * DUPLICATES))
    places = [(place + chance.choice([0.5, chance.uniform(0.5, len(jobs))]), jobs[place]) for place in again]
    messages = sorted([*enumerate(jobs), *places], key=lambda message: message[0])
    return [job for _, job in messages]


def read_tag(text: str) -> Piece | None:
    """The piece of work that a prompt is, or an answer to it; None where there is no tag."""
    found = _TAG.search(text)
    return None if found is None else (found[1], found[2], int(found[3]))


def write_tag(piece: Piece) -> str:
    """The tag that `read_tag` reads."""
    return "[soak {}/{}/{}]".format(*piece)


def _job(customer: str, job_id: str, kind: str, chance: random.Random, cut: float = _CUT) -> Planned:
    count = _PROMPTS if kind == "multi_chat" else 1
    prompts = [
        f"{write_tag((customer, job_id, place))} {' '.join(chance.choices(_WORDS, k=chance.randint(4, 60)))}?"
        for place in range(count)
    ]
    job: dict[str, Any] = {"customer": customer, "job_id": job_id, "action": kind.partition(" ")[0]}
    job["input"] = {"prompts": prompts} if kind == "multi_chat" else {"prompt": prompts[0]}
    if kind == "image":
        job["model"] = "gpt-image-1"
    if kind == "chat with blob":
        job["output"] = {"blob": True}
    if chance.random() < cut:
        job["options"] = {"timeout_s": CUT_S}
    return Planned(customer, job_id, count, json.dumps(job).encode())

"""The hostile customers: each makes one attack, as jobs that it sends at a pace to an endpoint of its own. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from local.soak.plan import FAULT_CODES, Door, PlannedJob, format_tag
from local.stack.customers import Customer

PREFIX = "hostile-"
"""How the ids of hostile customers begin."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One customer's attack: a burst of jobs, whose calls are answered as `answer` says, and after them the next."""

    name: str
    answer: str
    """See `hostile.endpoint.ANSWERS`."""
    burst: int
    """How many jobs it sends at once."""
    filler: str = ""
    """What fills the answer, one of `hostile.bodies.FILLERS`."""
    seconds: float = 0.0
    """How long the endpoint takes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    action: str = "chat"
    connection: str = ""
    """The beginning of the connection's name, which is another one in each job; empty for the default connection."""
    prompt_bytes: int = 0
    """How long the prompt is."""
    door: Door = "queue"
    waits: bool = False
    """Whether each job is sent over HTTP many times at once, each of which waits for its result."""
    calls_back: bool = False
    """Whether the results go to a receiver that hangs."""
    codes: frozenset[str] = FAULT_CODES

    @property
    def customer(self) -> str:
        """The customer's id."""
        return PREFIX + self.name

    def job(self, number: int, receiver: str) -> PlannedJob:
        """The attack's job of that number."""
        job_id = f"job-{number:05}"
        prompt = f"{format_tag((self.customer, job_id, 0))} {'long ' * (self.prompt_bytes // 5)}"
        messages = [{"role": "user", "content": prompt}]
        job: dict[str, Any] = {"customer": self.customer, "job_id": job_id, "action": self.action}
        job["input"] = {"messages": messages}
        if self.action == "raw":
            job["input"] = {"path": "chat/completions", "json": {"model": "gpt-6-luna", "messages": messages}}
        if self.connection:
            job["connection"] = f"{self.connection}-{number}"
        if self.options:
            job["options"] = dict(self.options)
        if self.calls_back:
            job["output"] = {"callback": f"{receiver}/{number}"}
        return PlannedJob(self.customer, job_id, 1, json.dumps(job).encode(), self.codes, door=self.door)


_ONCE = {"max_retries": 0}

BACKLOG = Attack("backlog", "text", 24, seconds=2.0)
"""More slow jobs than may run at once."""
LARGE = (
    Attack("huge", "body", 3, "text", options=_ONCE),
    Attack("raw", "body", 2, "text, 12 MiB", options=_ONCE, action="raw"),
    Attack("unsized", "chunks", 2, "text, 12 MiB", options=_ONCE),
    Attack("oversized", "chunks", 3, "beyond the limit"),
    Attack("bomb", "gzip", 3, "beyond the limit"),
    Attack("packed", "gzip", 2, "text, 12 MiB"),
    Attack("escapes", "body", 2, "escapes"),
    Attack("members", "body", 2, "members"),
    Attack("lists", "body", 2, "lists"),
    Attack("too-many-members", "body", 3, "too many members"),
    Attack("too-many-lists", "body", 3, "too many lists"),
    Attack("nesting", "body", 5, "nesting"),
    Attack("odd-bytes", "body", 5, "odd bytes"),
    Attack("inputs", "text", 1, prompt_bytes=8_000_000, door="http"),
)
"""Attacks by what is large, or costs much to read. They take turns, and then come all at once."""
STEADY = (
    Attack("drip", "drip", 5, options={"timeout_s": 5, "max_retries": 1}),
    Attack("hang", "hang", 40, options={"timeout_s": 8, "max_retries": 0}),
    Attack("reset", "reset", 2, options={"max_retries": 1}),
    Attack("refused", "401", 2, codes=FAULT_CODES | {"credential_rejected"}),
    Attack("patient", "429", 2, options={"deadline_s": 20}),
    Attack("callbacks", "text", 2, calls_back=True),
    Attack("names", "text", 5, connection="made-up", codes=frozenset({"connection_not_found"})),
    Attack("waits", "text", 1, seconds=5.0, waits=True),
    BACKLOG,
)
"""Attacks by what never ends, always fails, or is too much. They go on all the time."""


def hostile_customer(attack: Attack) -> Customer:
    """The customer that makes the attack."""
    return Customer(attack.customer, attack.name, "/v1", {"provider": "openai", "default_model": "gpt-6-luna"})

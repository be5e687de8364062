"""A model without chat completions over real HTTP, and chat jobs on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.customers import Customer
from tests.support.endpoint import reply
from tests.support.loopback import Answer
from tests.support.workers import Worker

ONLY_RESPONSES = "This model is only supported in v1/responses and not in v1/chat/completions."


@dataclass(repr=False)
class Model:
    """A model that answers on the Responses API alone."""

    refused: Counter[int] = field(default_factory=Counter)
    """Statuses with which it refuses responses, and how often."""
    faults: dict[int, Answer] = field(default_factory=dict)
    """What it answers instead, once, when that many responses were asked for."""
    text: str = "Hello."
    """What it answers; `{}` is the number of the answer."""
    requested: int = 0
    """How many responses were asked for."""
    paths: list[str] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    """The bodies that it has answered."""

    def serve(self, customer: Customer) -> Model:
        """Make it answer the customer's calls from now on."""
        customer.account.answers[:] = [self.answer] * 100
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        self.paths.append(request.path.rpartition("/v1/")[2])
        if self.paths[-1] != "responses":
            error = {"message": ONLY_RESPONSES, "type": "invalid_request_error", "param": "model", "code": None}
            return await reply({"error": error}, status=404)(request)
        self.requested += 1
        if (fault := self.faults.pop(self.requested, None)) is not None:
            return await fault(request)
        status = next(iter(self.refused.elements()), None)
        if status is not None:
            self.refused[status] -= 1
            return await reply({"error": {"message": "No.", "code": "x"}}, status=status)(request)
        self.sent.append(await request.json())
        part = {"type": "output_text", "text": self.text.format(len(self.sent)), "annotations": []}
        body = {
            "id": f"resp_{len(self.sent)}",
            "object": "response",
            "created_at": 1763640000,
            "status": "completed",
            "model": "gpt-6-codex-2026-11-01",
            "output": [{"type": "message", "role": "assistant", "content": [part]}],
            "service_tier": "default",
            "usage": {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 10},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 15},
                "total_tokens": 50,
            },
        }
        return await reply(body)(request)


def carried(worker: Worker, **secret: Any) -> tuple[Customer, Model]:
    """Return a customer whose model takes responses alone, and the model."""
    customer = worker.customer(connection=None)
    connect(worker, customer, **secret)
    return customer, Model().serve(customer)


def connect(worker: Worker, customer: Customer, **secret: Any) -> None:
    """Store a connection of the customer to such a model, or a new version of it."""
    endpoint = f"{customer.account.base}/v1"
    worker.connect(customer, endpoint=endpoint, provider="openai", default_model="gpt-6-codex", **secret)


def asking(**parameters: Any) -> dict[str, Any]:
    """The members of a chat job with these parameters."""
    return {"input": {"prompt": "Hello?", "parameters": parameters}}

"""A chat model that answers each prompt by a script, in whatever order calls arrive, and counts them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.endpoint import Answer, completion
from tests.support.harness import Customer

USAGE = ("calls", "input_tokens", "output_tokens")


@dataclass(repr=False)
class ScriptedModel:
    """Answers a prompt with the next answer of its script; without one, with `About` and the prompt."""

    scripts: defaultdict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    before: Callable[[str], Awaitable[Answer | None]] | None = None
    """Called with each prompt before it is answered; an answer that it returns replaces the script's."""
    after_s: float = 0
    """How long an answer takes."""
    wait_for: int = 0
    """No answer is given until so many calls have been in flight at once, or for 30 s."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls by prompt."""
    answered: Counter[str] = field(default_factory=Counter)
    """Calls that were answered with status 200, by prompt."""
    tokens: int = 0
    """All tokens that answers without a script have reported."""
    max_in_flight: int = 0
    _in_flight: int = 0
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def serve(self, customer: Customer) -> ScriptedModel:
        """Answer all further calls on the customer's account."""
        customer.account.answers[:] = [self.answer] * 5000
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        prompt = (await request.json())["messages"][-1]["content"]
        self.calls[prompt] += 1
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        if self._in_flight >= self.wait_for:
            self._filled.set()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), 30)
            await asyncio.sleep(self.after_s)
            instead = await self.before(prompt) if self.before else None
            script = self.scripts[prompt]
            answer = instead or (script.pop(0) if script else self._default_answer(prompt))
            response = await answer(request)
        finally:
            self._in_flight -= 1
        if response.status == 200:
            self.answered[prompt] += 1
        return response

    def _default_answer(self, prompt: str) -> Answer:
        self.tokens += 100 + len(prompt)
        return completion(f"About {prompt}", usage={"prompt_tokens": 100, "completion_tokens": len(prompt)})


def prompts(count: int) -> list[str]:
    """Return prompts of different lengths."""
    return [f"{'x' * (index % 7)}{index}" for index in range(count)]


def multi_chat(job_prompts: list[Any], job_id: str = "job-1", **members: Any) -> dict[str, Any]:
    """Return the members of a job with these prompts."""
    return {"action": "multi_chat", "job_id": job_id, "input": {"prompts": job_prompts}} | members


def texts(result: dict[str, Any]) -> list[str | None]:
    """Return the text of each answer."""
    return [answer.get("text") for answer in result["output"]["answers"]]


def codes(result: dict[str, Any]) -> list[str | None]:
    """Return the error code of each answer."""
    return [answer.get("error", {}).get("code") for answer in result["output"]["answers"]]


async def call_keys(customer: Customer) -> list[str]:
    """Return the keys of the customer's usage records, without their month and the jobs' incarnations."""
    keys = [row["RowKey"].split("_", 2)[2].rsplit("_", 2) for row in await customer.usage()]
    return sorted(f"{job_id}_{suffix}" for job_id, _, suffix in keys)

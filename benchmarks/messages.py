"""The jobs and the settings that both sides of a benchmark are given. Imports nothing that takes time."""

import json
from typing import Any

KEY = "benchmark-key"
MODEL = "gpt-4o"
PROMPT = "Sum up in three sentences what a queue is good for. " * 8
ENDPOINTS = "BENCHMARK_ENDPOINTS"
"""The environment variable with the base addresses of the AI endpoint, one an imagined account."""


def customer(number: int) -> str:
    """The customer whose account is the endpoint's address of that number."""
    return f"bench-{number}"


def message(number: int) -> bytes:
    """A chat job of that customer, as it stands in the queue."""
    asked = {"messages": conversation()}
    job = {"customer": customer(number), "action": "chat", "model": MODEL, "input": asked}
    return json.dumps(job).encode()


def conversation() -> list[Any]:
    """What the model is asked."""
    return [{"role": "system", "content": "You are brief."}, {"role": "user", "content": PROMPT}]

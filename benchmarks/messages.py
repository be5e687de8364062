"""The jobs and the settings of both sides of a benchmark. Imports only quick modules."""

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local.provider.account import Account

KEY = "benchmark-key"
MODEL = "gpt-4o"
PROMPT = "Describe the uses of a queue, in three sentences. " * 8
ENDPOINTS = "BENCHMARK_ENDPOINTS"
"""The environment variable with the base URLs of the AI endpoint, one for each account."""


def customer(number: int) -> str:
    """The customer whose account is the endpoint's URL with this number."""
    return f"bench-{number}"


def patient_secrets(accounts: "Sequence[Account]") -> dict[str, dict[str, str]]:
    """The connection `patient` of as many customers to the local provider, each with an account of its own."""
    return {
        f"ai--{customer(number)}--patient": {
            "endpoint": account.url,
            "provider": "openai",
            "api_key": account.key,
            "default_model": MODEL,
        }
        for number, account in enumerate(accounts)
    }


def message(number: int, tag: str = "") -> bytes:
    """The queue message of a chat job of that customer. A `tag` is the job's id, and in its prompt."""
    job = {"customer": customer(number), "action": "chat", "model": MODEL, "input": {"messages": conversation(tag)}}
    return json.dumps(job | ({"job_id": tag} if tag else {})).encode()


def conversation(tag: str = "") -> list[Any]:
    """The messages of the chat."""
    return [{"role": "system", "content": "You are brief."}, {"role": "user", "content": PROMPT + tag}]


def result_of(published: bytes) -> dict[str, Any]:
    """Return the result that an app has published, as JSON or as base64 of it."""
    text = published if published.startswith(b"{") else base64.b64decode(published)
    result: dict[str, Any] = json.loads(text)
    return result

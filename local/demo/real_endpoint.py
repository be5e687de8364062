"""The demo on a real endpoint: how the three customers get it, and who is billed for its answers."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from local.stack.customers import Customer, onboard
from local.stack.stack import Stack


def billing_note(endpoint: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Who is billed for the answers of a real endpoint, by the usage records: no one, if no call was answered."""
    if any(record["calls"] for record in records):
        return f"The answers are from {endpoint}; its owner is billed for them."
    return (
        f"{endpoint} answered no call; the table has the errors. "
        "If the host doesn't show which provider's API it serves, name the provider with --provider."
    )


def allow(endpoint: str | None) -> dict[str, str]:
    """The setting that allows a real endpoint, which may be a customer's own gateway."""
    with contextlib.suppress(ValueError):  # the jobs' errors explain an invalid URL
        if endpoint and (host := urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname):
            return {"ALLOWED_ENDPOINT_SUFFIXES": host}
    return {}


async def use_real_endpoint(running: Stack, endpoint: str, model: str, provider: str | None, key: str) -> None:
    """Replace the endpoint of each of the three customers by the real one."""
    settings = {"default_model": model, **({"provider": provider} if provider else {})}
    customers = [Customer(each.id, each.kind, endpoint, settings, key=key) for each in running.customers]
    await onboard(running.vault, "", *customers)

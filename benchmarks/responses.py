"""
Responses that are made in the provider's background, all at once: the memory that the jobs which wait for them cost one
worker, while it looks at them, and their messages. The provider is the local one, outside the measured process.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from benchmarks.environment import RunFailed, open_environment
from benchmarks.messages import patient_secrets
from benchmarks.side import open_side
from local.provider import server as provider
from local.provider.faults import ResponseFault

JOBS = 1000
CUSTOMERS = 4
SECONDS = 60.0
"""For which the responses are looked at once all jobs wait."""
_FIRST = 40
"""Jobs before, after which pools and caches are filled."""
_CREATED_S = 600.0
"""In which all jobs must have come to wait."""


async def measure(jobs: int = JOBS, *, seconds: float = SECONDS) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        endpoint = await parts.enter_async_context(provider.start())
        accounts = [endpoint.account() for _ in range(CUSTOMERS)]
        for account in accounts:
            account.faults.responses.add(ResponseFault("completed", in_progress_s=3600), None)
        secrets = patient_secrets(accounts)
        environment = await parts.enter_async_context(open_environment(1, secrets=secrets))
        side = await parts.enter_async_context(open_side("benchmarks.response_side", environment))
        request = {"customers": CUSTOMERS}
        first = await side.request({**request, "jobs": _FIRST, "seconds": 10.0}, within_s=_CREATED_S)
        looked = sum(len(account.calls("responses.get")) for account in accounts)
        all_of_them = await side.request({**request, "jobs": jobs, "seconds": seconds}, within_s=_CREATED_S + seconds)
    looks = sum(len(account.calls("responses.get")) for account in accounts) - looked
    if all_of_them["waiting"] != _FIRST + jobs or looks < jobs:
        raise RunFailed(f"Jobs do not wait, or are not looked at: {all_of_them}, {looks} looks")
    grown = {"grown_mb": all_of_them["peak_mb"] - first["memory_mb"]}
    return {"jobs": jobs, "customers": CUSTOMERS, "seconds": seconds, "looks": looks, **all_of_them, **grown}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    return (
        f"{figures['jobs']:,} jobs of {figures['customers']} customers wait for responses on one worker: its memory "
        f"grows by {figures['grown_mb']:.0f} MB, to {figures['peak_mb']:.0f} MB.\nIn {figures['seconds']:.0f} s, their "
        f"responses are looked at {figures['looks']:,} times, by {figures['turns']} messages, of which at most "
        f"{figures['messages']} were in the queues at once."
    )

"""An action's context for one call: real limits, breakers and HTTP client, and a ledger in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.contract.job import Job, Options
from shared.jobs.admission import Limiter
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.context import ActionContext
from shared.jobs.drain import Drain
from shared.jobs.lease import first_lease
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.steps import Steps
from shared.telemetry.base import SILENT
from shared.upstream.capabilities import Capabilities
from shared.upstream.circuit_breaker import Breakers
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Access
from tests.support.fakes import MemoryTable


def context_of(client: UpstreamClient, base: str, access: Access, **options: Any) -> ActionContext:
    """The context of a job with these options, on a connection to `base`."""
    job = Job(customer="contoso", action="raw", job_id="job-1", options=Options(**options))
    endpoint = parse_endpoint(f"{base}/openai/v1", provider="azure_openai")
    connection = Connection("contoso", "default", "key_vault", "v1", endpoint, access)
    services = SimpleNamespace(
        client=client,
        limiter=Limiter(),
        drain=Drain(),
        breakers=Breakers(),
        capabilities=Capabilities(),
        telemetry=SILENT,
    )
    attempt = Attempt(job, first_lease("contoso", "job-1", now(), now()), Ledger(MemoryTable()))
    steps = Steps(attempt, cast(Outputs, None), cast(Any, None))  # a call has no steps
    return ActionContext(cast(JobServices, services), attempt, steps, connection)

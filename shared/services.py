"""
The composition root: settings become clients, stores and the worker, once a process, when the first job comes.

Only `function_app`, `aijobs`, `benchmarks` and the tests import it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.connections.identity import Identity
from shared.connections.resolver import Connections
from shared.errors import SettingInvalid
from shared.jobs.admission import Limiter
from shared.jobs.drain import Drain, on_sigterm
from shared.jobs.inputs import Inputs
from shared.jobs.job_prices import JobPrices
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.worker import Worker
from shared.network.pool import Pool
from shared.network.sdk import SdkConnections
from shared.network.tls import tls_context, tls_context_with
from shared.service_parts import ServiceParts
from shared.settings import Settings, read_settings, settings_with_fault
from shared.storage.account import Account
from shared.storage.base import Blobs, Queues, Table
from shared.storage.blobs import AzureBlobs
from shared.storage.queues import AzureQueues
from shared.storage.tables import AzureTable
from shared.telemetry.base import SILENT, Telemetry
from shared.upstream.capabilities import Capabilities
from shared.upstream.circuit_breaker import Breakers
from shared.upstream.client import UpstreamClient

if TYPE_CHECKING:
    from shared.billing.outbox import Outbox
    from shared.connections.key_vault import KeyVaultCredentials

_NOISY_LOGGERS = ("azure", "httpx", "msal")
"""They write a line for each request, with its address."""

_LAST_EXPORT_S = 2.0
"""After a stop that took all its time, the host may end the process meanwhile; that loses telemetry only."""


@dataclass(frozen=True)
class Services(ServiceParts):
    """What a worker process keeps from its first job to its end. Parts that few jobs need are made on first use."""

    settings: Settings
    table: Table
    blobs: Blobs
    queues: Queues
    ledger: Ledger
    customer_records: CustomerRecords
    job_prices: JobPrices
    connections: Connections
    client: UpstreamClient
    limiter: Limiter
    breakers: Breakers
    capabilities: Capabilities
    inputs: Inputs
    outputs: Outputs
    telemetry: Telemetry
    identity: Identity
    sdk: SdkConnections
    pool: Pool
    vault: KeyVaultCredentials | None
    drain: Drain = field(default_factory=Drain)

    @cached_property
    def worker(self) -> Worker:
        """Runs the jobs."""
        return Worker(self)

    async def wake_jobs(self) -> None:
        """Sends the messages of the jobs that the schedule says are due, and what customers' outboxes hold."""
        from shared.storage.bulk import gather_limited  # noqa: PLC0415  # no job needs it

        self.settings.check()
        await gather_limited([self.schedule.send_due(), self.delivery.run()])

    async def close_months(self) -> None:
        """Puts the jobs that close the last month into the queue, for ten minutes at most; the next run continues."""
        from shared.jobs.closing_pass import ClosingPass  # noqa: PLC0415  # no job needs it

        self.settings.check()
        await ClosingPass(self.table, self.statement_jobs, self.price_books).run()

    async def project_budgets(self) -> None:
        """Inserts the events of budgets that will be used up, for nine minutes at most; the next run continues."""
        from shared.jobs.projections import Projections  # noqa: PLC0415  # no job needs it

        self.settings.check()
        await Projections(self.table, self.budgets).run()

    async def retention_sweep(self) -> None:
        """Deletes what is older than its retention, for ten minutes at most; the next sweep continues."""
        from shared.retention.sweep import Sweep  # noqa: PLC0415  # no job needs it

        self.settings.check()
        await Sweep(self.table, self.blobs, self.settings, self.schedule).run()

    async def stop(self) -> None:
        """Ends what runs as well as the time allows, and sends what telemetry has not sent yet."""
        await self.drain.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_EXPORT_S):
                await asyncio.to_thread(self.telemetry.close)

    async def close(self) -> None:
        """Closes every socket. A worker on Azure ends without that; tests and scripts don't."""
        await asyncio.to_thread(self.telemetry.close)
        await self.identity.close()
        await self.client.close()
        await self.sdk.close()
        self.pool.close()


def build(settings: Settings) -> Services:
    """
    Return the services that `settings` describe. Sends nothing yet. Needs a running loop. Raises SettingInvalid.

    To keep customers' credentials elsewhere, pass `Connections` another CredentialStore here.
    """
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    tls = _tls(settings)
    sdk, pool = SdkConnections(tls), Pool(tls)
    identity = Identity(pool, client_id=settings.azure_client_id, entra_client_id=settings.entra_client_id)
    account = Account(settings.job_storage, identity.credential, sdk.transport, pool)
    table, blobs = AzureTable(account, settings.jobs_table), AzureBlobs(account)
    records = CustomerRecords(table)
    telemetry, vault = _telemetry(settings), _vault(settings, identity, sdk, pool)
    return Services(
        settings=settings,
        table=table,
        blobs=blobs,
        queues=AzureQueues(account),
        ledger=Ledger(table, lease_s=settings.lease_seconds, outbox=_outbox(settings, table)),
        customer_records=records,
        job_prices=JobPrices(PriceBooks(table, blobs, settings.statements_container), records),
        connections=Connections(settings, vault),
        client=UpstreamClient(
            identity, allow_local=settings.allow_local_endpoints, allow_private=settings.allow_private_endpoints
        ),
        limiter=Limiter(),
        breakers=Breakers(on_change=telemetry.breaker_changed),
        capabilities=Capabilities(),
        inputs=Inputs(settings, blobs),
        outputs=Outputs(settings, blobs),
        telemetry=telemetry,
        identity=identity,
        sdk=sdk,
        pool=pool,
        vault=vault,
    )


def services(environment: Mapping[str, str] = os.environ) -> Services:
    """
    Return this process's services, built on the first call, for the current task: the worker's stop waits for it.

    If a setting is wrong, their settings have a `fault`: they only requeue messages and refuse requests, until a later
    call finds it corrected.
    """
    global _services  # noqa: PLW0603  # one a process is the point
    if _services is None or _services.settings.fault:
        is_first = _services is None
        try:
            _services = build(read_settings(environment))
        except SettingInvalid as exc:
            _services = _services or build(settings_with_fault(environment, exc))
        if is_first:
            on_sigterm(_stop)
    _services.drain.join()
    return _services


_services: Services | None = None


async def _stop() -> None:
    assert _services is not None  # noqa: S101  # else nothing has set the handler
    await _services.stop()


def _tls(settings: Settings) -> Callable[[], ssl.SSLContext]:
    if not settings.key_vault_ca_file:
        return tls_context
    context = tls_context_with(settings.key_vault_ca_file)  # at once: the file may be missing
    return lambda: context


def _telemetry(settings: Settings) -> Telemetry:
    if not settings.applicationinsights_connection_string:
        return SILENT
    from shared.telemetry.azure_monitor import open_telemetry  # noqa: PLC0415  # only if telemetry is on

    return open_telemetry(settings.applicationinsights_connection_string, content=settings.telemetry_content)


def _outbox(settings: Settings, table: Table) -> Outbox | None:
    if not settings.usage_exports:
        return None
    from shared.billing.outbox import Outbox  # noqa: PLC0415  # only if there are exports

    return Outbox(table, tuple(export.name for export in settings.usage_exports))


def _vault(settings: Settings, identity: Identity, sdk: SdkConnections, pool: Pool) -> KeyVaultCredentials | None:
    if not settings.key_vault_url:
        return None
    from shared.connections.key_vault import KeyVaultCredentials  # noqa: PLC0415  # only if there is a vault

    return KeyVaultCredentials(
        settings.key_vault_url,
        identity.credential(),
        pool,
        transport=sdk.transport,
        private_ca=bool(settings.key_vault_ca_file),
    )

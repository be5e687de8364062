"""The composition root: settings to clients to pipeline, once a worker, when its first job comes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport

from shared.connections.identity import Identity
from shared.connections.resolver import Connections
from shared.jobs.admission import Lanes
from shared.jobs.context import Tools
from shared.jobs.inputs import Inputs
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.worker import Pipeline
from shared.settings import Settings, read_settings
from shared.storage.account import Account
from shared.storage.base import Blobs, Table
from shared.storage.blobs import AzureBlobs
from shared.storage.queues import AzureQueues
from shared.storage.tables import AzureTable
from shared.telemetry.base import SILENT, Telemetry
from shared.upstream.capabilities import Adaptations
from shared.upstream.circuit_breaker import Breakers
from shared.upstream.client import Transport
from shared.upstream.guarded_session import open_session

if TYPE_CHECKING:
    from shared.connections.key_vault import KeyVaultCredentials
    from shared.http.app import Door
    from shared.webhooks.delivery import Callbacks
    from shared.webhooks.signing import Signing

_TALKATIVE = ("azure", "httpx", "msal")
"""Loggers that would write a line a request, addresses included."""


@dataclass(frozen=True)
class Services:
    """What a worker keeps from its first job to its end."""

    pipeline: Pipeline
    identity: Identity
    session: aiohttp.ClientSession
    table: Table
    blobs: Blobs
    secrets: KeyVaultCredentials | None

    @cached_property
    def door(self) -> Door:
        """The HTTP door. No job from a queue needs it."""
        from shared.http.wiring import Parts, open_door  # noqa: PLC0415

        pipeline = self.pipeline
        return open_door(
            Parts(
                pipeline.settings,
                pipeline.tools,
                pipeline.connections,
                self.table,
                self.blobs,
                pipeline.queues,
                self.secrets,
                self.signing,
            )
        )

    @cached_property
    def callbacks(self) -> Callbacks:
        """What makes callbacks. A job only says that there is one to make."""
        from shared.webhooks.delivery import Callbacks  # noqa: PLC0415

        pipeline = self.pipeline
        return Callbacks(pipeline.settings, self.table, pipeline.queues, self.signing, pipeline.tools.transport)

    @cached_property
    def signing(self) -> Signing:
        """The customers' signing secrets, of webhooks and callbacks."""
        from shared.webhooks.signing import Signing  # noqa: PLC0415

        return Signing(self.secrets)

    async def sweep(self) -> None:
        """Removes what has outlived its retention, for ten minutes at most. The next sweep goes on."""
        from shared.retention.sweep import Sweep  # noqa: PLC0415  # no job needs it

        await Sweep(self.table, self.blobs, self.pipeline.settings).run()

    async def close(self) -> None:
        """Closes every socket. A worker on Azure is simply killed; tests and scripts are not."""
        await asyncio.to_thread(self.pipeline.tools.telemetry.close)
        await self.identity.close()
        await self.pipeline.tools.transport.close()
        await self.session.close()


def build(settings: Settings) -> Services:
    """
    The services that `settings` describe. Nothing is sent anywhere yet. Needs a running loop.

    To keep customers' credentials elsewhere, give `Connections` another CredentialStore here.
    """
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    session = open_session(settings.key_vault_ca_file)
    identity = Identity(client_id=settings.azure_client_id, entra_client_id=settings.entra_client_id)
    account = Account(
        settings.job_storage,
        identity.credential,
        lambda: AioHttpTransport(session=session, session_owner=False),
    )
    table, blobs = AzureTable(account, settings.jobs_table), AzureBlobs(account)
    transport = Transport(
        identity, allow_local=settings.allow_local_endpoints, allow_private=settings.allow_private_endpoints
    )
    telemetry = _telemetry(settings)
    tools = Tools(
        ledger=Ledger(table, lease_s=settings.lease_seconds),
        transport=transport,
        lanes=Lanes(),
        breakers=Breakers(on_change=telemetry.breaker),
        adaptations=Adaptations(),
        inputs=Inputs(settings, blobs),
        outputs=Outputs(settings, blobs),
        telemetry=telemetry,
    )
    secrets = _secrets(settings, identity, session)
    pipeline = Pipeline(settings, Connections(settings, secrets), AzureQueues(account), tools)
    return Services(pipeline, identity, session, table, blobs, secrets)


def services(environment: Mapping[str, str] = os.environ) -> Services:
    """This worker's services, built when first asked for. Raises SettingInvalid."""
    global _services  # noqa: PLW0603  # one a worker is the point
    if _services is None:
        _services = build(read_settings(environment))
    return _services


_services: Services | None = None


def _telemetry(settings: Settings) -> Telemetry:
    if not settings.applicationinsights_connection_string:
        return SILENT
    from shared.telemetry.azure_monitor import open_telemetry  # noqa: PLC0415  # only where somebody listens

    return open_telemetry(settings.applicationinsights_connection_string, content=settings.telemetry_content)


def _secrets(settings: Settings, identity: Identity, session: aiohttp.ClientSession) -> KeyVaultCredentials | None:
    if not settings.key_vault_url:
        return None
    from shared.connections.key_vault import KeyVaultCredentials  # noqa: PLC0415  # only where there is a vault

    return KeyVaultCredentials(
        settings.key_vault_url,
        identity.credential(),
        transport=AioHttpTransport(session=session, session_owner=False),
        private_ca=bool(settings.key_vault_ca_file),
    )

"""The documents that describe connections. None of them has a key in it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shared.billing.audit import AuditTrail, differences
from shared.clock import now, rfc3339
from shared.connections.connection import Connection
from shared.connections.endpoint_url import encode_segment
from shared.connections.entra_binding import check_bound
from shared.connections.resolver import Connections, check_dates
from shared.connections.store import SecretInfo, StoredCredential
from shared.contract.documents import ConnectionDocument, ConnectionSettings
from shared.contract.result import ErrorBody
from shared.errors import ConnectionFault
from shared.upstream.messages import EntraAccess


def describe_stored(
    connections: Connections, customer: str, facts: SecretInfo, credential: StoredCredential
) -> ConnectionDocument:
    """A stored connection with its settings, if they are valid, and with the error that a job would end with."""
    settings, error = None, None
    try:
        connection = connections.open_unbound(credential, customer, facts.connection)
        settings = _settings(connection)
        check_bound(connection, credential.tags)
        check_dates(credential, customer, facts.connection, now())
    except ConnectionFault as exc:
        error = _error(exc)
    return describe_listed(customer, facts, settings, error)


def describe_listed(
    customer: str,
    facts: SecretInfo,
    settings: ConnectionSettings | None = None,
    error: ErrorBody | None = None,
) -> ConnectionDocument:
    """A connection as a list of secrets shows it, without its value: name and dates."""
    return ConnectionDocument(
        customer=customer,
        name=facts.connection,
        enabled=facts.enabled,
        version=facts.version or None,
        not_before=_time(facts.not_before),
        expires_on=_time(facts.expires_on),
        created_at=_time(facts.created_at),
        updated_at=_time(facts.updated_at),
        settings=settings,
        error=error,
    )


def describe_disabled(customer: str, name: str, fault: ConnectionFault) -> ConnectionDocument:
    """A connection whose secret is disabled: the vault shows nothing of it."""
    return ConnectionDocument(customer=customer, name=name, enabled=False, error=_error(fault))


async def record_change(
    audit: AuditTrail, by: str, before: ConnectionDocument | None, after: ConnectionDocument | None
) -> None:
    """Write the audit entry of a connection that was stored, replaced or deleted. None: the connection is missing."""
    document = after or before
    assert document is not None  # noqa: S101  # one of them exists
    old, new = differences(_audited(before), _audited(after))
    await audit.append(document.customer, by=by, subject=f"connection {document.name}", before=old, after=new)


def _audited(document: ConnectionDocument | None) -> dict[str, Any]:
    """Return what an audit entry shows of a connection. Its version shows that the key was replaced, and no more."""
    if document is None:
        return {}
    settings = {} if document.settings is None else msgspec.structs.asdict(document.settings)
    members = {"version": document.version, "error": document.error.code if document.error else None, **settings}
    return {name: member for name, member in members.items() if member is not None}


def _settings(connection: Connection) -> ConnectionSettings:
    endpoint, access = connection.endpoint, connection.access
    url = endpoint.base
    if endpoint.deployment:
        url += f"/deployments/{encode_segment(endpoint.deployment)}"
    settings = ConnectionSettings(
        endpoint=url,
        provider=endpoint.provider,
        auth="entra" if isinstance(access, EntraAccess) else "api_key",
        scope=access.scope if isinstance(access, EntraAccess) else None,
        tenant_id=access.tenant_id if isinstance(access, EntraAccess) else None,
        api_version=endpoint.api_version if endpoint.is_version_explicit else None,
        organization=connection.organization,
        project=connection.project,
        default_model=connection.default_model,
        batch_model=connection.batch_model,
        deployment_scope=connection.deployment_scope,
        max_concurrency=connection.max_concurrency,
        monthly_budget=connection.monthly_budget,
    )
    members = msgspec.structs.asdict(settings).items()
    redacted = {name: connection.without_key(value) for name, value in members if isinstance(value, str)}
    return msgspec.structs.replace(settings, **redacted)


def _error(fault: ConnectionFault) -> ErrorBody:
    return ErrorBody(code=fault.code, message=str(fault))


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)

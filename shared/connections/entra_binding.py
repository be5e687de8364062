"""
For which host, scope and tenant a secret lets its connection use the app's own Entra identity.

That identity may have a role on resources of many customers, so a connection with `auth: entra` must not choose its
resource by itself. The tags `entra_host`, `entra_scope` and `entra_tenant` do. Nothing that comes in over HTTP sets
them: only who may write to the vault can, as the command line does for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shared.connections.connection import Connection
from shared.connections.store import StoredCredential
from shared.contract.connection import ENTRA_TAGS, OWN_TAGS, read_tags
from shared.errors import ConnectionInvalid
from shared.upstream.egress_policy import normalize_host
from shared.upstream.messages import EntraAccess

_HOST, _SCOPE, _TENANT = ENTRA_TAGS


@dataclass(frozen=True, slots=True)
class EntraBinding:
    """A use of the app's identity."""

    host: str
    scope: str | None
    """None: the usual one of the endpoint."""
    tenant: str | None
    """None: the app's own."""

    @classmethod
    def of(cls, connection: Connection) -> Self | None:
        """Return the use that a connection makes; None if it has a key."""
        access, usual = connection.access, connection.endpoint.scope
        if not isinstance(access, EntraAccess):
            return None
        scope = None if access.scope == usual else access.scope
        return cls(connection.endpoint.host, scope, access.tenant_id and access.tenant_id.lower())

    @classmethod
    def from_tags(cls, tags: Mapping[str, str], usual_scope: str | None = None) -> Self | None:
        """Return the use that a secret allows; None if it allows none. Raises ConnectionInvalid for ambiguous tags."""
        own = read_tags(tags)
        host, scope, tenant = (own.get(name, "") for name in ENTRA_TAGS)
        if not host:
            return None
        return cls(normalize_host(host), None if scope in ("", usual_scope) else scope, tenant.lower() or None)

    def tags(self) -> dict[str, str]:
        """Return the tags that allow it."""
        return {name: tag for name, tag in zip(ENTRA_TAGS, (self.host, self.scope, self.tenant), strict=True) if tag}

    def __str__(self) -> str:
        return f"{self.host}, {self.scope or 'the usual scope'}, {self.tenant or 'the tenant of the app'}"


def check_bound(connection: Connection, tags: Mapping[str, str]) -> None:
    """Raise ConnectionInvalid if a connection uses the app's identity in a way that its secret's tags do not allow."""
    use = EntraBinding.of(connection)
    if use is None:
        return
    allowed = EntraBinding.from_tags(tags, connection.endpoint.scope)
    if allowed is None:
        problem = f"its secret has no tag `{_HOST}`"
    elif allowed.host != use.host:
        problem = f"its secret's tag `{_HOST}` names another host"
    elif allowed.scope != use.scope:
        problem = f"its secret's tag `{_SCOPE}` is not its `scope`"
    elif allowed.tenant != use.tenant:
        problem = f"its secret's tag `{_TENANT}` is not its `tenant_id`"
    else:
        return
    raise ConnectionInvalid(
        f"The connection uses the app's identity (`auth` entra), but {problem}. The operator has to allow it with "
        f"`aijobs customers bind {connection.customer} --connection {connection.name}`."
    )


def kept_tags(old: StoredCredential, before: Connection | None, after: Connection) -> dict[str, str]:
    """
    Return the tags that a secret keeps when another connection replaces the one in it: its owner's and, if host, scope
    and tenant stay the same, those that allow the use of the app's identity. Key Vault itself keeps none.

    `before` is the connection in `old`; None if there is none that may be used.
    """
    use = EntraBinding.of(after)
    is_same = before is not None and (before.endpoint.host, before.access) == (after.endpoint.host, after.access)
    return owners_tags(old) | (use.tags() if use is not None and is_same else {})


def bound_tags(secret: StoredCredential, use: EntraBinding) -> dict[str, str]:
    """Return the tags of a secret with those that allow this use of the app's identity, and no other."""
    return {name: tag for name, tag in secret.tags.items() if name.strip().lower() not in ENTRA_TAGS} | use.tags()


def owners_tags(secret: StoredCredential) -> dict[str, str]:
    """Return the tags of a secret that say nothing about its value."""
    return {name: tag for name, tag in secret.tags.items() if name.strip().lower() not in OWN_TAGS}

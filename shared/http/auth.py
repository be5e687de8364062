"""
Who calls, and what they may.

By default the host asks for a function key before anything of ours runs, and whoever has it may do
everything. With HTTP_AUTH=entra, App Service authentication stands in front: it checks the token, and tells
of it in a header that it takes away from what comes from outside
(learn.microsoft.com/azure/app-service/configure-authentication-user-identities).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.http.problems import Problem, not_found
from shared.http.routes import Role
from shared.settings import Settings

_PRINCIPAL = "x-ms-client-principal"
_ROLES = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. `roles` None: may everything. `customer`: whose data alone it may see, where it is tied to one."""

    roles: frozenset[str] | None = None
    customer: str | None = None

    def check_role(self, role: Role) -> None:
        """Raises Problem 403."""
        if self.roles is not None and role not in self.roles:
            raise Problem(403, "forbidden", f"The token has no role {role}, which this needs.")

    def check_reads(self, customer: str, what: str) -> None:
        """Raises Problem 404 for another customer's, in the words for what does not exist."""
        if self.customer is not None and customer != self.customer:
            raise not_found(what)

    def check_writes(self, customer: str) -> None:
        """Raises Problem 403."""
        if self.customer is not None and customer != self.customer:
            raise Problem(403, "forbidden", "The token is tied to another customer.")


def read_caller(headers: Mapping[str, str], settings: Settings) -> Caller:
    """
    Whoever sent a request with these headers. Raises Problem: 401 where nobody is signed in, 503 where the
    authentication that the settings name does not stand in front of the app.
    """
    if settings.http_auth == "key":
        return Caller()
    if not settings.website_auth_enabled:
        # Nobody would take a forged header away.
        raise Problem(503, "unavailable", "HTTP_AUTH is entra, but App Service authentication is not switched on.")
    claims = _claims(headers.get(_PRINCIPAL, ""))
    roles = frozenset(said for kind, said in claims if kind in _ROLES and isinstance(said, str))
    # However it is written: a claim that is passed over would leave the caller tied to nobody.
    tie = settings.entra_customer_claim.casefold()
    told = [said for kind, said in claims if kind.casefold() == tie]
    if not all(isinstance(said, str) for said in told):
        # Left out, it would tie the caller to nobody, and so let it see everybody's.
        raise Problem(403, "forbidden", "The token names its customer with something that is no text.")
    tied = set(told)
    if len(tied) > 1:
        raise Problem(403, "forbidden", "The token names more than one customer.")
    return Caller(roles, next(iter(tied), None))


def _claims(principal: str) -> list[tuple[str, Any]]:
    """Each claim's type and what it says."""
    try:
        said = msgspec.json.decode(base64.b64decode(principal, validate=True))
        claims = said["claims"]
        return [(claim["typ"], claim.get("val")) for claim in claims if isinstance(claim.get("typ"), str)]
    except (msgspec.MsgspecError, TypeError, KeyError, AttributeError, ValueError, RecursionError):
        raise Problem(401, "unauthorized", "Nobody is signed in: send a token of this app's audience.") from None

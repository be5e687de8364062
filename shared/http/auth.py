"""
Who sends a request, and what they may do.

By default the host asks for a function key before it calls the app, and whoever has the key may do everything. With
HTTP_AUTH=entra, App Service authentication is in front of the app: it checks the token and passes its claims in a
header, which it removes from requests that come from outside
(learn.microsoft.com/azure/app-service/configure-authentication-user-identities).

Its session cookie is refused: a browser sends a cookie by itself, also with a request that another site's page makes.
No page can send a bearer token that it doesn't have.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.contract.names import NAME_RULE, is_name
from shared.http.problems import Problem, not_found
from shared.http.routes import Role
from shared.settings import Settings

_PRINCIPAL = "x-ms-client-principal"
_has_session_cookie = re.compile(r"(^|[;,\s])AppServiceAuthSession").search
_NAME_CLAIMS = (
    "name",
    "preferred_username",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "azp",
    "appid",
)
"""What a token calls its caller: a person's name comes before an application's id."""
_ID_CLAIMS = ("oid", "http://schemas.microsoft.com/identity/claims/objectidentifier")
_ROLE_CLAIMS = frozenset({"roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request."""

    roles: frozenset[str] | None = None
    """None: may do everything."""
    customer: str | None = None
    """The one customer that the caller is tied to; None: to none, so it needs the role Customers.All."""
    name: str = field(default="function key", compare=False)
    """Who the caller is, for the audit trail."""

    def has_role(self, role: Role) -> bool:
        """Whether the caller may do what needs this role."""
        return self.roles is None or role in self.roles

    def check_role(self, role: Role, *others: Role) -> None:
        """Raises Problem 403 if the caller has none of these roles."""
        if not any(map(self.has_role, (role, *others))):
            roles = " or ".join((role, *others))
            raise Problem(403, "forbidden", f"The token lacks the role {roles}, which this request needs.")

    def check_reads(self, customer: str, what: str) -> None:
        """Raises Problem 404 for what another customer has, in the words for what does not exist."""
        if not self._reaches(customer):
            raise not_found(what)

    def check_writes(self, customer: str) -> None:
        """Raises Problem 403."""
        if not self._reaches(customer):
            raise Problem(403, "forbidden", "The token is tied to another customer.")

    def check_operator(self) -> None:
        """Raises Problem 403 if the caller is tied to a customer, even the one in the path."""
        if self.customer is not None:
            raise Problem(403, "forbidden", "The token is tied to a customer, and this is the operator's alone.")

    def _reaches(self, customer: str) -> bool:
        return self.has_role("Customers.All") if self.customer is None else customer == self.customer


def read_caller(headers: Mapping[str, str], settings: Settings) -> Caller:
    """
    The sender of a request with these headers.

    Raises Problem: 401 if nobody is signed in, 403 if the token reaches no customer, 503 if the authentication that the
    settings name is not in front of the app.
    """
    if settings.http_auth == "key":
        return Caller()
    if not settings.website_auth_enabled:
        # Nothing would remove a forged header.
        raise Problem(503, "unavailable", "HTTP_AUTH is entra, but App Service authentication is not enabled.")
    _check_bearer(headers)
    claims = _claims(headers.get(_PRINCIPAL, ""))
    roles = frozenset(value for name, value in claims if name in _ROLE_CLAIMS and isinstance(value, str))
    # In any case: a claim that is overlooked would leave the caller tied to nobody.
    claim = settings.entra_customer_claim.casefold()
    values = [value for name, value in claims if name.casefold() == claim]
    if not all(is_name(value) for value in values):
        # Ignored, it would tie the caller to nobody, and Customers.All would let it see every customer.
        raise Problem(403, "forbidden", f"The token's claim {settings.entra_customer_claim} is not {NAME_RULE}.")
    customers = set(values)
    if len(customers) > 1:
        raise Problem(403, "forbidden", "The token names more than one customer.")
    caller = Caller(roles, next(iter(customers), None), _caller_name(claims))
    if caller.customer is None and not caller.has_role("Customers.All"):
        message = f"The token reaches no customer: it needs the claim {settings.entra_customer_claim}, or the role "
        raise Problem(403, "forbidden", f"{message}Customers.All.")
    return caller


def _check_bearer(headers: Mapping[str, str]) -> None:
    """Raises Problem 401 unless it is a bearer token, and nothing else, that App Service authentication has checked."""
    if _has_session_cookie(headers.get("cookie", "")):
        # Even beside a token: which of the two the claims are from is not documented.
        message = "A session of the browser is not accepted: send a bearer token, and no cookie AppServiceAuthSession."
        raise Problem(401, "unauthorized", message)
    if headers.get("authorization", "").partition(" ")[0].lower() != "bearer":
        message = "The request has no bearer token: send one that was issued for this app, in the header Authorization."
        raise Problem(401, "unauthorized", message)


def _caller_name(claims: list[tuple[str, Any]]) -> str:
    """Such as `Ann Lee (9f3c…)`: the name that the token has, and the object id, which nobody else has."""
    texts = {name: "".join(filter(str.isprintable, text)) for name, text in claims if isinstance(text, str)}
    name, object_id = (next(filter(None, map(texts.get, names)), "") for names in (_NAME_CLAIMS, _ID_CLAIMS))
    return f"{name} ({object_id})" if name and object_id else name or object_id or "token"


def _claims(principal: str) -> list[tuple[str, Any]]:
    """Each claim's type and value."""
    try:
        claims = msgspec.json.decode(base64.b64decode(principal, validate=True))["claims"]
        return [(claim["typ"], claim.get("val")) for claim in claims if isinstance(claim.get("typ"), str)]
    except (msgspec.MsgspecError, TypeError, KeyError, AttributeError, ValueError, RecursionError):
        message = "The request has no valid token: send one that was issued for this app."
        raise Problem(401, "unauthorized", message) from None

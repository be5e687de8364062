"""The headers with which a request with a bearer token arrives from App Service authentication."""

from __future__ import annotations

import base64
import json
from typing import Any

BEARER = {"authorization": "Bearer a.b.c"}


def encoded(principal: Any) -> dict[str, str]:
    """The headers with this principal, encoded as JSON unless it is bytes."""
    data = principal if isinstance(principal, bytes) else json.dumps(principal).encode()
    return {**BEARER, "x-ms-client-principal": base64.b64encode(data).decode()}


def token(*roles: str, customer: str | None = None, typ: str = "roles") -> dict[str, str]:
    """The headers of a caller with these roles, tied to a customer if one is given."""
    claims = [{"typ": typ, "val": role} for role in roles]
    claims += [] if customer is None else [{"typ": "customer", "val": customer}]
    return encoded({"auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles"})

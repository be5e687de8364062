"""
A customer's share of the requests that cost more than a read of Storage: beyond it, 429, and nothing was done.

The operator's own requests, of which the path names no customer, have a share like a customer's.
"""

from __future__ import annotations

from functools import wraps

from shared.http.app import Handler
from shared.http.auth import Caller
from shared.http.messages import Request, Response
from shared.http.problems import Problem
from shared.shares import Shares

MAX_WAITS = 48
"""Requests with `Prefer: wait` that a worker keeps waiting at once, of the 64 that an instance takes by default."""
MAX_VAULT_REQUESTS = 16
"""Requests at once that read or change secrets: Key Vault allows some 400 operations a second, jobs' own included."""
LIST_WEIGHT = 4
"""Of a list of secrets, which takes one operation for each 25 secrets of the vault."""
MAX_CONNECTION_TESTS = 16
"""Tests of connections at once."""
MAX_STATEMENTS = 8
"""Statements at once that are added up from usage records."""
OVERVIEW_WEIGHT = 4
"""Of a page of all customers' statements."""
RETRY_AFTER_S = 5


def within_share(handler: Handler, shares: Shares, weight: int = 1) -> Handler:
    """
    Return a handler that takes a customer's share for as long as it runs, or raises Problem 429.

    The customer is the one that the caller is tied to, else that of the path: no customer takes the operator's share.
    """

    @wraps(handler)
    async def handle(request: Request, caller: Caller) -> Response:
        with shares.tried(caller.customer or request.params.get("customer", ""), weight) as is_taken:
            if not is_taken:
                message = "Too many such requests are being answered: repeat this one later."
                raise Problem(429, "rate_limited", message, {"Retry-After": str(RETRY_AFTER_S)})
            return await handler(request, caller)

    return handle

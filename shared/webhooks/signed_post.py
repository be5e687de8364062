"""
A try to deliver a message to the URL that a customer named for it, signed: what became of it, and when the next is due.

Callbacks and budgets' events are delivered so. Who keeps the message until its next try is the caller's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.errors import ConnectionInvalid, UpstreamError
from shared.upstream.client import UpstreamClient
from shared.webhooks.signing import NoSigningSecret, Signing

RETRY_DELAYS_S = (5.0, 5 * 60.0, 30 * 60.0, 2 * 3600.0, 5 * 3600.0, 10 * 3600.0)
"""Seconds from each try to the next, at least: the start of the Standard Webhooks specification's own example."""
TIMEOUT_S = 15.0
"""Of one try; the specification recommends 15 to 30 seconds."""
GONE = 410
"""The status of a receiver that wants nothing more."""
_MAX_RETRY_AFTER_S = 24 * 3600.0
"""The longest wait that a receiver can ask for."""
_HONOR_RETRY_AFTER = (429, 503)

TryStatus = Literal["waiting", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class TryResult:
    """The result of a try. `waiting`: it is retried after `delay_s` seconds or more."""

    status: TryStatus
    error: str = ""
    last_status: int = 0
    delay_s: float = 0


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """What is posted: the same at each try."""

    customer: str
    id: str
    url: str
    body: bytes
    member: str
    """The member that has the URL, for error messages."""


async def post_signed(client: UpstreamClient, signing: Signing, message: SignedMessage, tries: int) -> TryResult:
    """Post a message, `tries` tries having been made before. Raises VaultUnavailable: then no try was made."""
    try:
        signature = await signing.sign(message.customer, message.id, message.body)
        headers = {"content-type": "application/json", **signature}
        receipt = await client.post(
            message.url,
            message.body,
            headers,
            customer=message.customer,
            timeout_s=TIMEOUT_S,
            member=message.member,
        )
    except (NoSigningSecret, ConnectionInvalid) as exc:
        return TryResult("failed", str(exc))
    except UpstreamError as exc:
        return retry_or_fail(tries, str(exc))
    status = receipt.status
    if 200 <= status < 300:  # noqa: PLR2004
        return TryResult("delivered", "", status)
    if status == GONE:
        return TryResult("failed", "The receiver wants no more callbacks (410).", status)
    retry_after_s = (receipt.retry_after_s or 0) if status in _HONOR_RETRY_AFTER else 0
    if 300 <= status < 400:  # noqa: PLR2004
        error = f"The receiver answered with a redirect ({status}); redirects are not followed."
    else:
        error = f"The receiver answered {status}."
    return retry_or_fail(tries, error, status, retry_after_s)


def retry_or_fail(tries: int, error: str, last_status: int = 0, retry_after_s: float = 0) -> TryResult:
    """Return the result of a try that failed, `tries` tries having been made before."""
    if tries >= len(RETRY_DELAYS_S):
        return TryResult("failed", f"Given up after {tries + 1} tries. {error}", last_status)
    delay_s = max(RETRY_DELAYS_S[tries], min(retry_after_s, _MAX_RETRY_AFTER_S))
    return TryResult("waiting", error, last_status, delay_s)

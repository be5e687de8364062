"""Signing secrets, and what their holders sign with the library of the specification's authors."""

from __future__ import annotations

import base64
import uuid
from datetime import datetime

from standardwebhooks import Webhook

from shared.clock import now


def new_secret() -> str:
    """A signing secret as the specification has it."""
    return f"whsec_{base64.b64encode(uuid.uuid4().bytes * 2).decode()}"


def signed(secret: str, body: bytes, *, webhook_id: str = "msg_1", at: datetime | None = None) -> dict[str, str]:
    """The headers with which the authors' library signs a body."""
    sent_at = at or now()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, sent_at, body.decode()),
    }

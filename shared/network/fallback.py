"""What the log has if a request was not sent directly with a certain outcome."""

from __future__ import annotations

import logging

from shared.event_names import NAMESPACE, SDK_REPEATED
from shared.network.hosts import Host

logger = logging.getLogger(NAMESPACE)


def log_repeated(host: Host, reason: str) -> None:
    """Log that an SDK sends a request again."""
    logger.warning("%s host=%s: %s", SDK_REPEATED, host.name, reason)

"""Logs a fault of ours without its text."""

from __future__ import annotations

import logging
import traceback

from shared.event_names import JOB_ERROR

log = logging.getLogger("customer_ai_jobs")


CRASHED = "The job failed by a fault of the software, which its log describes."


def log_crash(exc: Exception, named: str) -> None:
    """Logs a fault of ours, without the exception's text: a library's may quote what it was given, a header too."""
    where = "".join(traceback.format_tb(exc.__traceback__))
    log.error("%s %s %s\n%s", JOB_ERROR, named, type(exc).__name__, where)

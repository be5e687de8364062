"""Logs a fault of ours: its kind and its place, never its text."""

from __future__ import annotations

import logging
import traceback

from shared.event_names import JOB_ERROR

CRASHED = "The job failed because of a fault in this software. Its log has the details."

log = logging.getLogger("customer_ai_jobs")


def log_crash(exc: Exception, job: str) -> None:
    """Log the exception without its text: a library's text may quote what it was given, even a header."""
    trace = "".join(traceback.format_tb(exc.__traceback__))
    log.error("%s %s %s\n%s", JOB_ERROR, job, type(exc).__name__, trace)

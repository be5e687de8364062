"""What log lines say of exceptions: nothing that a prompt or an answer may be quoted in."""

from __future__ import annotations

import logging
import traceback

from shared.errors import RetryLater, UpstreamError, UpstreamRetryLater
from shared.event_names import JOB_ERROR, NAMESPACE

CRASHED = "The job failed because of a fault in this software. Its log has the details."

log = logging.getLogger(NAMESPACE)


def log_crash(exc: Exception, job: str) -> None:
    """Log the exception without its text: a library's text may quote what it was given, even a header."""
    trace = "".join(traceback.format_tb(exc.__traceback__))
    log.error("%s %s %s\n%s", JOB_ERROR, job, type(exc).__name__, trace)


def log_text(exc: Exception) -> str:
    """
    Return our own sentence on why something has to wait, and of an endpoint's error the code and the status alone.

    What an endpoint says may quote a prompt, an answer or a header; any other exception, what it was given.
    """
    reason = exc.reason if isinstance(exc, UpstreamRetryLater) else exc
    if isinstance(reason, UpstreamError):
        return f"{reason.code} ({reason.facts.status or 'no response'})"
    return str(reason) if isinstance(reason, RetryLater) else type(reason).__name__


def drop_frames(exc: BaseException) -> None:
    """
    Forget where an exception that is handled came from, and what caused it.

    Its frames refer to the job's input and answers, and some of them to the exception itself: all of that, and the
    memory that it counts as, would stay until the garbage collector comes by.
    """
    seen: BaseException | None = exc
    while seen is not None:
        exc, seen = seen, seen.__cause__ or seen.__context__
        exc.__traceback__ = exc.__cause__ = exc.__context__ = None

"""
What can go wrong in the Functions host. Every message is a sentence for the person who starts it.

HostError               the host cannot start: a setting, host.json, or a binding is wrong
└── AppNotLoaded        the app did not load; carries the worker's traceback
WorkerSilent            an invocation that will never be answered
"""


class HostError(Exception):
    """The host cannot start."""


class AppNotLoaded(HostError):
    """The worker could not load the app; `traceback` is the worker's own text."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class WorkerSilent(Exception):
    """
    The function let something other than an `Exception` out (`CancelledError`, mostly), which Azure's
    worker never answers: the host waits for `functionTimeout` and then kills it.
    """

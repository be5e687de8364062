"""
Errors of the Functions host. Each message is a sentence for the person who starts it.

HostError               the host can't start: a setting, host.json or a binding is invalid
└── AppNotLoaded        the app could not be loaded; has the worker's traceback
NoResponse              an invocation that Azure's worker would never respond to
"""


class HostError(Exception):
    """The host can't start."""


class AppNotLoaded(HostError):
    """The worker could not load the app. `traceback` is the worker's own text."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class NoResponse(Exception):
    """
    The function raised something other than an `Exception` (mostly `CancelledError`). Azure's worker never responds
    to that: the host waits for `functionTimeout` and then kills the worker.
    """

"""
What the host prints: the app's log records as Azure would store them, and the host's own warnings.

Azure stores only the formatted message and the level of a record, and only if it was logged during an invocation.
What Azure would drop is printed and marked.
"""

import logging
import os
import sys
from collections.abc import Mapping

from azure_functions_runtime.utils.executor import invocation_id_cv

_ENGINE = "azure.functions"
_HOST = "host."


def start_logging(running: Mapping[str, str]) -> None:
    """Write log records to stderr. `running` maps the invocations in flight to their functions' names."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(running))
    handler.addFilter(_is_printed)
    root = logging.getLogger()
    root.addHandler(handler)
    debug = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING", "").lower() in {"1", "true", "t", "yes", "y"}
    root.setLevel(logging.DEBUG if debug else logging.INFO)


def _is_printed(record: logging.LogRecord) -> bool:
    if record.name == _ENGINE:
        # The engine logs an app's exceptions with their tracebacks; the host logs them, too, from the invocation.
        return record.levelno >= logging.WARNING and not record.exc_info
    if record.levelno < logging.WARNING and invocation_id_cv.get() is None:
        return not record.name.startswith("azure.")  # the host's own requests
    return True


class _Formatter(logging.Formatter):
    def __init__(self, running: Mapping[str, str]) -> None:
        super().__init__()
        self._running = running

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname} {self._source(record)}: {super().format(record)}"

    def _source(self, record: logging.LogRecord) -> str:
        if record.name.startswith(_HOST) or record.name == _ENGINE:
            return record.name
        invocation_id = invocation_id_cv.get()
        if invocation_id in self._running:
            return f"{self._running[invocation_id]} {invocation_id[:8]}"
        return "(outside an invocation: Azure drops this)"

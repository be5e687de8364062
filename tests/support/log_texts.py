"""The texts of log records."""

from __future__ import annotations

import traceback

import pytest


def log_texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return each record's message and traceback, except those of the local stack."""
    texts = []
    for record in caplog.records:
        if record.name.startswith("local"):
            continue
        texts.append(record.getMessage())
        if record.exc_info:
            texts.append("".join(traceback.format_exception(*record.exc_info)))
    return texts

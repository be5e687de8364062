"""
The app's clock at another time: a plugin, so that what fails only then fails today.

`MOVED_TO=2028-02-29T12:00:00+00:00 .venv/bin/python -m pytest -p tests.support.moved_clock -n0 tests/unit/jobs` runs
tests as if it were that moment, and time goes on from there. Only `shared.clock` is moved, and the library that signs
webhooks, so tests have to ask that for the time as well. What the emulator of Storage checks stays in the present.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, tzinfo

from standardwebhooks import webhooks

from shared import clock

MOVED_TO = "MOVED_TO"
_PRESENT = datetime.now(UTC)
_AHEAD = datetime.fromisoformat(os.environ.get(MOVED_TO) or _PRESENT.isoformat()) - _PRESENT


class _Moved(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + _AHEAD


if _AHEAD:
    clock.datetime = _Moved  # type: ignore[misc]
    webhooks.datetime = _Moved  # type: ignore[misc]

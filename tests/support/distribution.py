"""Which process runs which tests."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

SDKS = "modules with SDKs"
_USES_SDKS = re.compile(r"^from tests\.support\.(?:sdks|sdk_types|claude_types|responses_types) import ", re.MULTILINE)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """
    One process runs a module, and one of them all the modules with the providers' own packages.

    Anthropic's takes two seconds of a processor to import, and OpenAI's one, and their types alone half of one: each
    process would import all of them.
    """

    def _split_scope(self, nodeid: str) -> str:
        module: str = super()._split_scope(nodeid)
        return SDKS if uses_sdks(self.config.rootpath / module) else module


@cache
def uses_sdks(module: Path) -> bool:
    """Return whether a module imports what loads such a package."""
    return _USES_SDKS.search(module.read_text(encoding="utf-8")) is not None

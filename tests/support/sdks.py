"""
The providers' and the protocol's own packages, which few tests use and which take seconds to import: each test process
would import them to collect its tests. A package is loaded when something of it is used.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["anthropic", "mcp", "openai"]


class _Package:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest looks for some of each object in a test module
            raise AttributeError(name)
        return getattr(sys.modules.get(self.name) or _load(self.name), name)


def _load(name: str) -> ModuleType:
    """Import a package without looking for garbage among its thousand classes, which takes a fifth of the time."""
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.enable()


if TYPE_CHECKING:
    import anthropic
    import mcp
    import openai
else:
    anthropic, mcp, openai = map(_Package, ("anthropic", "mcp", "openai"))

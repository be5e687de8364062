"""
The providers' and the protocol's own packages, which few tests use and which take seconds to import: each test process
would import them to collect its tests. A package is loaded when something of it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["anthropic", "mcp", "openai"]


class _Package:
    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest looks for some of each object in a test module
            raise AttributeError(name)
        return getattr(import_module(self.name), name)


if TYPE_CHECKING:
    import anthropic
    import mcp
    import openai
else:
    anthropic, mcp, openai = map(_Package, ("anthropic", "mcp", "openai"))

"""The syntax of source files."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def parse(path: Path) -> ast.Module:
    """
    Parse a file, and collect no garbage meanwhile.

    A finalizer that runs in the middle, and that makes pytest parse a file for its message, fails the outer parse in
    CPython 3.11: "AST constructor recursion depth mismatch".
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if was_enabled:
            gc.enable()

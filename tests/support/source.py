"""Source files, and their syntax."""

from __future__ import annotations

import ast
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

# As the formatter writes them: each on a line of its own, or on several in parentheses.
_IMPORT = re.compile(r"^[ \t]*(?:import ([^\n]+)|from (\S+) import (?:\(([^)]+)\)|([^(\n]+)))", re.MULTILINE)


def imports(text: str) -> Iterator[tuple[str, set[str]]]:
    """
    The modules that a module imports, each with what it imports from it, within functions and for types included.

    To parse all modules takes a second and a half. A line of a docstring that looks like an import counts as one.
    """
    for modules, module, several, one_line in _IMPORT.findall(text):
        names = {
            each.split()[0] for each in re.sub(r"#.*", "", modules or several or one_line).split(",") if each.split()
        }
        if modules:
            yield from ((name, set()) for name in names)
        else:
            yield module, names


def python_files(folder: Path) -> Iterator[Path]:
    """The Python files in a folder, without a look into the thousands that npm has installed."""
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in {"node_modules", "__pycache__"}]
        yield from (Path(path, name) for name in names if name.endswith(".py"))


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

"""
Draws which package imports which, from the code, into docs/architecture.md: `.venv/bin/python docs/dependencies.py`.

Imports within functions and imports for types count. An arrow that follows from others is left out of the drawing
(`jobs` imports `errors`, but so does what `jobs` imports); the table below the drawing has them all.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
COMMAND = ".venv/bin/python docs/dependencies.py"
BEGIN = f"<!-- Made from the code by `{COMMAND}`; a test fails when it is out of date. -->"
END = "<!-- End of what is made from the code. -->"

# The formatter gives each import a line of its own. To parse all modules would take a second.
_IMPORT = re.compile(
    r"^[ \t]*(?:(?:from|import) shared\.(\w+)|from shared import (?:\(([^)]+)\)|([^(\n]+)))", re.MULTILINE
)

Graph = Mapping[str, frozenset[str]]
"""The packages, and what each imports directly."""


def read_graph(root: Path = ROOT) -> Graph:
    """The packages and modules right under `shared`, and `function_app`, each with those that it imports."""
    graph: dict[str, set[str]] = {"function_app": set(_imports(root / "function_app.py"))}
    for path in sorted((root / "shared").rglob("*.py")):
        package = path.relative_to(root / "shared").parts[0].removesuffix(".py")
        if package != "__init__":
            graph.setdefault(package, set()).update(_imports(path))
    return {package: frozenset(imported - {package}) for package, imported in graph.items()}


def reduce(graph: Graph) -> Graph:
    """The graph without the arrows that follow from others. The graph has no circle: import-linter holds that."""
    reached: dict[str, frozenset[str]] = {}

    def reach(package: str) -> frozenset[str]:
        if package not in reached:
            reached[package] = graph[package].union(*(reach(each) for each in graph[package]))
        return reached[package]

    return {package: imported.difference(*(reach(each) for each in imported)) for package, imported in graph.items()}


def render(graph: Graph) -> str:
    """The drawing and the table, as Markdown."""
    nodes = [f'    {package}["{package}"]' for package in graph]
    arrows = [f"    {package} --> {each}" for package, imported in reduce(graph).items() for each in sorted(imported)]
    drawing = ["```mermaid", "flowchart TD", *sorted(nodes), *sorted(arrows), "```"]
    rows = [
        f"| `{package}` | {', '.join(f'`{each}`' for each in sorted(imported)) or 'nothing'} |"
        for package, imported in sorted(graph.items())
    ]
    return "\n".join([BEGIN, "", *drawing, "", "| package | imports |", "| --- | --- |", *rows, "", END])


def update(page: str, graph: Graph) -> str:
    """The page with the drawing of `graph` between the two markers. Raises ValueError if a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/architecture.md needs these two lines around the drawing:\n{BEGIN}\n{END}")
    return before + render(graph) + after


def _imports(path: Path) -> Iterator[str]:
    for package, several, one_line in _IMPORT.findall(path.read_text(encoding="utf-8")):
        yield from [package] if package else re.findall(r"(\w+)(?: as \w+)?", several or one_line)


if __name__ == "__main__":
    try:
        PAGE.write_text(update(PAGE.read_text(encoding="utf-8"), read_graph()), encoding="utf-8")
    except ValueError as exc:
        sys.exit(str(exc))

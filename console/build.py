"""
The console: one page, put together from the files here and uPlot's, which is committed with the app.

The page loads nothing. Its style and its scripts are in it, and the app's Content-Security-Policy names their hashes.
"""

from __future__ import annotations

from pathlib import Path

COMMAND = "python -m console"
"""Writes the files."""
_PROJECT = Path(__file__).parents[1]
_SOURCES = Path(__file__).parent
_FOLDER = _PROJECT / "shared" / "http" / "static"
UPLOT = _PROJECT / "local" / "node_modules" / "uplot"
"""The npm package of the charts, which local/package.json pins."""
SCRIPTS = (
    *("dom", "decimal", "format", "api", "section"),
    *("chart", "usage", "budgets", "batches", "jobs", "statements", "overview", "main"),
)
"""The page's scripts, in their order. They are one function, so nothing outside of it reaches the key."""


def console_files() -> dict[Path, bytes]:
    """What each file should contain, by its path: the page, and the licence of uPlot, which is in the page."""
    page = (_SOURCES / "page.html").read_text(encoding="utf-8")
    script = "\n".join((_SOURCES / "js" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {
        "style": read_package("dist/uPlot.min.css") + (_SOURCES / "style.css").read_text(encoding="utf-8"),
        "library": read_package("dist/uPlot.iife.min.js"),
        "script": f'(() => {{\n"use strict";\n{script}}})();\n',
    }
    for name, text in parts.items():
        if "</s" in text:
            raise ValueError(f"The {name} would end its element: it has `</s`.")
        page = page.replace(f"{{{{{name}}}}}", text)
    return {
        _FOLDER / "console.html": page.encode(),
        _FOLDER / "uplot-license.txt": read_package("LICENSE").encode(),
    }


def read_package(file: str) -> str:
    """The text of a file of uPlot's package."""
    return (UPLOT / file).read_text(encoding="utf-8")


def write_files() -> list[Path]:
    """Writes the files; returns their paths within the project."""
    files = console_files()
    for path, content in files.items():
        path.write_bytes(content)
    return [path.relative_to(_PROJECT) for path in files]


def stale_files() -> list[Path]:
    """The files that are missing or have other content than they should, by their paths within the project."""
    return [
        path.relative_to(_PROJECT)
        for path, content in console_files().items()
        if not path.is_file() or path.read_bytes() != content
    ]

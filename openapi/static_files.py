"""The files with the OpenAPI document, its page and the tools for agents: parts of the app, committed with it."""

from __future__ import annotations

import json
from pathlib import Path

from openapi.document import document
from openapi.mcp_tools import tools
from openapi.page import write_page
from shared.http.mcp_tools import TOOLS_FILE

COMMAND = "python -m openapi"
"""Writes the files."""
_PROJECT = Path(__file__).parents[1]
_FOLDER = _PROJECT / "shared" / "http" / "static"


def static_files() -> dict[Path, bytes]:
    """What each file should contain, by its path. Raises InputMissing."""
    described = document()
    listed = tools(described["components"]["schemas"])
    text = json.dumps(described, indent=1, ensure_ascii=False)
    return {
        _FOLDER / "openapi.json": f"{text}\n".encode(),
        _FOLDER / "docs.html": write_page(described).encode(),
        _FOLDER / TOOLS_FILE: f"{json.dumps(listed, separators=(',', ':'), ensure_ascii=False)}\n".encode(),
    }


def write_files() -> list[Path]:
    """Writes the files; returns their paths within the project. Raises InputMissing."""
    files = static_files()
    for path, content in files.items():
        path.write_bytes(content)
    return [path.relative_to(_PROJECT) for path in files]


def stale_files() -> list[Path]:
    """
    The files that are missing or have other content than they should, by their paths within the project.

    Raises InputMissing.
    """
    return [
        path.relative_to(_PROJECT)
        for path, content in static_files().items()
        if not path.is_file() or path.read_bytes() != content
    ]

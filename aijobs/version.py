"""The project's version. It is written once, as `version` of the `[project]` table in pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

_PROJECT = "customer-ai-jobs"
_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def project_version() -> str:
    """
    Return the version in the checkout's pyproject.toml or, without a checkout, the installed package's.

    The checkout comes first: the metadata of an editable install is as old as the installation. Raises
    PackageNotFoundError if there is neither.
    """
    if _PYPROJECT.is_file():
        project = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == _PROJECT:  # a pyproject.toml in site-packages is somebody else's
            return str(project["version"])
    return version(_PROJECT)

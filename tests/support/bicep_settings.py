"""The settings that the template sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.bicep import members as members_of
from tests.support.bicep import read, value

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
MAIN = read(INFRA / "main.bicep")


def settings_of_template() -> dict[str, Any]:
    """The app settings that the template sets, with the defaults of its parameters; None: known when deployed."""
    given = next(module for module in MAIN.modules() if module.symbol == "app").given["settings"]
    names = MAIN.variables(**MAIN.defaults())
    return {name: value(node, names) for name, node in members_of(given).items()}

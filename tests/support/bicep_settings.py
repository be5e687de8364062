"""The app settings of the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.bicep import members as members_of
from tests.support.bicep import read, value

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
MAIN = read(INFRA / "main.bicep")


def settings_of_template() -> dict[str, Any]:
    """The app settings of the template, by its parameters' defaults; None if only a deployment knows the value."""
    params = next(module for module in MAIN.modules() if module.symbol == "app").params
    names = MAIN.variables(**MAIN.defaults())
    return {name: value(node, names) for name, node in members_of(params["settings"]).items()}


def readable_settings() -> dict[str, str]:
    """The same as the app reads them: text, with a URL for each value that only a deployment knows."""
    settings = settings_of_template().items()
    return {name: "https://known.when.deployed" if text is None else str(text) for name, text in settings}

"""The app settings of the template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.bicep import members as members_of
from tests.support.bicep import read, value

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
CLIENT_ID = "01234567-89ab-cdef-0123-456789abcdef"
MAIN = read(INFRA / "main.bicep")


def settings_of_template() -> dict[str, Any]:
    """The app settings of the template, by its parameters' defaults; None if only a deployment knows the value."""
    params = next(module for module in MAIN.modules() if module.symbol == "app").params
    names = MAIN.variables(**MAIN.defaults())
    return {name: value(node, names) for name, node in members_of(params["settings"]).items()}


def readable_settings() -> dict[str, str]:
    """The same as the app reads them: text, with a value of the right form for each that only a deployment knows."""
    return {
        name: known_when_deployed(name) if text is None else str(text) for name, text in settings_of_template().items()
    }


def known_when_deployed(name: str) -> str:
    """A value of the form that the setting has."""
    if name == "APPLICATIONINSIGHTS_CONNECTION_STRING":
        return f"InstrumentationKey={CLIENT_ID};IngestionEndpoint=https://known.when.deployed/"
    is_client = name == "AZURE_CLIENT_ID" or name.endswith("__clientId")
    return CLIENT_ID if is_client else "https://known.when.deployed"

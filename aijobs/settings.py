"""
The app settings of a deployment: from a file in a format that other tools write, or from environment variables.

The formats are `local.settings.json` (Core Tools and the local stack), the list of `az functionapp config appsettings
list` and the `NAME="value"` lines of `azd env get-values`.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aijobs.console import warn
from aijobs.diagnostics import CommandError, cant_be_read
from shared.connections.key_vault import KeyVaultCredentials
from shared.secret import is_reference
from shared.services import Services, build
from shared.settings import Settings, read_settings

_IDENTITY = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
"""The local stack's token endpoint. azure-identity reads these from the environment only."""
HOST_STORAGE = "AzureWebJobsStorage"
SETTINGS_FILE = "local.settings.json"
_LINE = re.compile(r"(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
OUTPUTS = {
    "JOB_QUEUE_URI": "JobStorage__queueServiceUri",
    "JOB_BLOB_URI": "JobStorage__blobServiceUri",
    "JOB_TABLE_URI": "JobStorage__tableServiceUri",
}
"""The settings that outputs of the template (infra/main.bicep) stand for, in a file that azd wrote."""


class SettingsFileError(CommandError):
    """The settings file can't be read."""


@asynccontextmanager
async def open_services(file: Path | None, *, vault: bool = False) -> AsyncIterator[Services]:
    """
    Build the app's services from the settings that `read_app_settings` returns.

    Key Vault is included only if `vault` is true; most commands don't need it. Raises SettingsFileError,
    SettingInvalid, and CommandError if a required vault is not configured.
    """
    settings = read_app_settings(file)
    if not vault:
        settings = replace(settings, key_vault_url="", key_vault_ca_file="")
    elif not settings.key_vault_url:
        raise CommandError("The settings name no Key Vault: KEY_VAULT_URL is not set.")
    if settings.key_vault_ca_file and not _exists(settings.key_vault_ca_file):
        raise CommandError("The file in KEY_VAULT_CA_FILE does not exist: the local stack was stopped or restarted.")
    services = build(settings)
    try:
        yield services
    finally:
        await services.close()


def read_app_settings(file: Path | None) -> Settings:
    """
    Return the settings in a file. If it is None: those in environment variables or, if these name no Storage, in the
    local.settings.json of this directory or the nearest one above.

    Raises SettingsFileError, SettingInvalid.
    """
    return read_settings(read_values(file))


def read_values(file: Path | None) -> Mapping[str, str]:
    """Return the texts of the settings that `read_app_settings` returns. Raises SettingsFileError."""
    if file is None and not any(name == "JobStorage" or name.startswith("JobStorage__") for name in os.environ):
        file = find_settings_file(Path.cwd())
    values = os.environ if file is None else _read(file)
    if file is not None and values.get(_IDENTITY[0]):
        identity = {name: values[name] for name in _IDENTITY if name in values}
        for name, text in identity.items():
            if not (text.isascii() and text.isprintable()):  # the environment can't hold every text
                raise SettingsFileError(f"{file}: the value of {name} must be printable ASCII.")
        os.environ.update(identity)
        for name in ("NO_PROXY", "no_proxy"):  # the local stack listens on this machine only
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    return _without_references(values)


def find_settings_file(directory: Path) -> Path:
    """Return the nearest local.settings.json, upwards from a directory. Raises SettingsFileError."""
    for parent in (directory, *directory.parents):
        file = parent / SETTINGS_FILE
        if not file.is_file():
            continue
        if hasattr(os, "getuid") and file.stat().st_uid != os.getuid():  # anybody may write to /tmp
            raise SettingsFileError(f"{file} belongs to another user. To use it, pass --settings {file}.")
        if parent != directory:
            _name(file)
        return file
    raise SettingsFileError(
        f"There are no settings: no {SETTINGS_FILE} in this directory or above, and no JobStorage in the environment. "
        "Pass --settings FILE, or start the local stack with `python3 dev.py start`."
    )


@functools.cache  # once, however often a command reads them
def _name(file: Path) -> None:
    warn(f"Settings: {file}")


def require_vault(services: Services) -> KeyVaultCredentials:
    """Return the vault of services that were opened with `vault=True`."""
    assert services.vault is not None  # noqa: S101  # checked by `open_services`
    return services.vault


def _exists(file: str) -> bool:
    return Path(file).is_file()


def _without_references(values: Mapping[str, str]) -> Mapping[str, str]:
    # Only Azure resolves a reference. Here it would be read as the value itself: a connection string or a key.
    references = [name for name, value in values.items() if is_reference(value)]
    if "JobStorage" in references:
        raise SettingsFileError(
            "JobStorage is a Key Vault reference, which only the app in Azure resolves. Set it to the connection "
            "string itself in a file of your own."
        )
    # The host's own storage stays: it is not used here, and without a text it would seem to be missing.
    return {name: "" if name in references and name != HOST_STORAGE else text for name, text in values.items()}


def _read(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise cant_be_read(str(file), exc) from exc
    except UnicodeDecodeError:
        raise SettingsFileError(f"{file} is not UTF-8.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and all(map(_LINE.fullmatch, lines)):
        values = dict(_parse_line(file, line) for line in lines)
        return {setting: values[output] for output, setting in OUTPUTS.items() if output in values} | values
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise SettingsFileError(f"{file} is neither JSON nor lines of NAME=value.") from None  # the cause has the text
    return {name: _text(file, name, value) for name, value in _json_values(file, content).items()}


def _text(file: Path, name: str, value: Any) -> str:
    """Return a value as Azure keeps it, which has texts alone."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value)
    raise SettingsFileError(f"{file}: the value of {name} must be a text in quotes, and quotes in it be escaped.")


def _json_values(file: Path, content: Any) -> dict[str, Any]:
    if isinstance(content, list) and content and all(isinstance(item, dict) and "name" in item for item in content):
        return {str(item["name"]): item.get("value") for item in content}
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise SettingsFileError(f"{file} has no object `Values`, and is not a list of app settings.")
    if content.get("IsEncrypted"):
        raise SettingsFileError(f"{file} is encrypted. Run `func settings decrypt` first.")
    return values


def _parse_line(file: Path, line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").partition("=")
    try:
        return name, "".join(shlex.split(value)) if value[:1] in {'"', "'"} else value.strip()
    except ValueError:
        raise SettingsFileError(f"{file}: the value of {name} has no closing quote.") from None

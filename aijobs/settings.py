"""
Where a command's settings come from: the environment, or a file in one of the forms in which tools write them.

`local.settings.json` of Core Tools and of the local stack; the list that `az functionapp config appsettings list`
prints; lines of `NAME="value"`, as `azd env get-values` prints them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aijobs.diagnostics import Refused
from shared.connections.key_vault import KeyVaultCredentials
from shared.services import Services, build
from shared.settings import Settings, read_settings

_IDENTITY = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
"""Where the local stack gives tokens: azure-identity looks for it in the environment alone."""
_LINE = re.compile(r"(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
OUTPUTS = {
    "JOB_QUEUE_URI": "JobStorage__queueServiceUri",
    "JOB_BLOB_URI": "JobStorage__blobServiceUri",
    "JOB_TABLE_URI": "JobStorage__tableServiceUri",
}
"""What the template's outputs (infra/main.bicep) call settings, where azd writes them."""
_REFERENCE = "@Microsoft.KeyVault("


class SettingsUnread(Refused):
    """The settings file can't be read."""


@asynccontextmanager
async def opened(file: Path | None, *, vault: bool = False) -> AsyncIterator[Services]:
    """
    The app's services on the settings in a file, or in the environment where there is none.

    `vault`: with Key Vault, which most commands do not need. Raises SettingsUnread, SettingInvalid, Refused
    where a vault is needed and the settings name none.
    """
    settings = read_app_settings(file)
    if not vault:
        settings = replace(settings, key_vault_url="", key_vault_ca_file="")
    elif not settings.key_vault_url:
        raise Refused("The settings name no Key Vault: KEY_VAULT_URL is not set.")
    if settings.key_vault_ca_file and not _is_there(settings.key_vault_ca_file):
        raise Refused("KEY_VAULT_CA_FILE names a file that is not there: the local stack has stopped, or restarted.")
    _check_storage(settings)
    services = build(settings)
    try:
        yield services
    finally:
        await services.close()


def read_app_settings(file: Path | None) -> Settings:
    """The settings in a file, or in the environment. Raises SettingsUnread, SettingInvalid."""
    values = os.environ if file is None else _read(file)
    if file is not None and values.get(_IDENTITY[0]):
        os.environ.update({name: values[name] for name in _IDENTITY if name in values})
        for name in ("NO_PROXY", "no_proxy"):  # the local stack's addresses are this machine's own
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    return read_settings(_resolvable(values))


def vault_of(services: Services) -> KeyVaultCredentials:
    """The vault of services that were opened with one."""
    assert services.vault is not None  # noqa: S101  # `opened` has seen to it
    return services.vault


def _check_storage(settings: Settings) -> None:
    text = settings.job_storage.connection_string
    if text is None:
        return
    parts = dict(part.strip().partition("=")[::2] for part in text.reveal().split(";"))
    signed = {"AccountKey", "SharedAccessSignature"} & set(parts)
    if "UseDevelopmentStorage" not in parts and not (signed and {"AccountName", "TableEndpoint"} & set(parts)):
        raise Refused(
            "JobStorage is no connection string of a storage account: it has an AccountName and an AccountKey, as "
            "`az storage account show-connection-string` prints it."
        )


def _is_there(file: str) -> bool:
    return Path(file).is_file()


def _resolvable(values: Mapping[str, str]) -> Mapping[str, str]:
    # What only Azure resolves would be taken for the value itself: a connection string, or a bare key.
    refers = [name for name, value in values.items() if value.strip().startswith(_REFERENCE)]
    if {"JobStorage"} & set(refers):
        raise SettingsUnread(
            "JobStorage is a Key Vault reference, which only the app in Azure resolves: set it to the connection "
            "string itself in a file of your own."
        )
    return {name: "" if name in refers else value for name, value in values.items()}


def _read(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise SettingsUnread(f"{file} can't be read: {exc.strerror}.") from exc
    except UnicodeDecodeError:
        raise SettingsUnread(f"{file} is not UTF-8.") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and all(map(_LINE.fullmatch, lines)):
        values = dict(_assignment(file, line) for line in lines)
        return {setting: values[output] for output, setting in OUTPUTS.items() if output in values} | values
    try:
        content = json.loads(text)
    except ValueError:
        raise SettingsUnread(f"{file} is not JSON, nor lines of NAME=value.") from None  # the cause holds the text
    return {name: value for name, value in _values(file, content).items() if isinstance(value, str)}


def _values(file: Path, content: Any) -> dict[str, Any]:
    if isinstance(content, list) and content and all(isinstance(one, dict) and "name" in one for one in content):
        return {one["name"]: one.get("value") for one in content}
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise SettingsUnread(f"{file} has no object `Values`, and is no list of app settings.")
    if content.get("IsEncrypted"):
        raise SettingsUnread(f"{file} is encrypted: `func settings decrypt` makes it readable.")
    return values


def _assignment(file: Path, line: str) -> tuple[str, str]:
    name, _, value = line.removeprefix("export ").partition("=")
    try:
        return name, "".join(shlex.split(value)) if value[:1] in {'"', "'"} else value.strip()
    except ValueError:
        raise SettingsUnread(f"{file}: the value of {name} has a quote that does not end.") from None

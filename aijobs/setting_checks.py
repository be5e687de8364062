"""
Checks of `doctor`: the app settings themselves. Nothing is called.

The app's own settings must be what the app requires. Those of the Functions host, and names that nobody reads, are
looked at here alone: the app never sees what is wrong with them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from aijobs.finding import Finding
from aijobs.settings import HOST_STORAGE, OUTPUTS
from shared.errors import SettingInvalid
from shared.network.tls import tls_context_with
from shared.secret import is_reference
from shared.setting_values import check_id, is_id, match_url, split
from shared.settings import STORAGE, find_faults, setting_names
from shared.storage_settings import (
    SERVICES,
    StorageAccount,
    check_connection_string,
    check_service_url,
    read_account,
)

BODY_LIMIT = "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"
MAX_BODY = 16_842_752
"""The largest body that the app takes."""
_INSIGHTS = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_RUNTIME = "FUNCTIONS_WORKER_RUNTIME"
_ACCOUNT_NAME = re.compile(r"[a-z0-9]{3,24}")
_PARTS = tuple(f"{service}ServiceUri" for service in SERVICES)
_OURS = (*setting_names(), STORAGE, *(f"{STORAGE}__{part}" for part in (*_PARTS, "clientId", "credential")))
_HOSTS = (HOST_STORAGE, BODY_LIMIT, _RUNTIME)
_HOST_PREFIX = f"{HOST_STORAGE}__"
_HOST_PARTS = (
    *_PARTS,
    "fileServiceUri",
    "accountName",
    "clientId",
    "credential",
    "managedIdentityResourceId",
    "tenantId",
)
# Set by Azure alone, or read by others: the host, the SDKs, azd. They are like ours, but not meant to be.
_OTHERS = {
    *("AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "ENTRA_TENANT_ID", "APP_CLIENT_ID", "WEBSITE_AUTH_ENABLED"),
    *("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "FUNCTIONS_WORKER_PROCESS_COUNT", *OUTPUTS),
}
_COPY = "APPSETTING_"
"""Azure sets each app setting a second time, under its name with this prefix."""
_MIN_SIMILARITY = 0.86
_WORDS = {"on", "off", "yes", "no", "all", "none", "any", "everyone", "everybody"}


def check_settings(values: Mapping[str, str]) -> list[Finding]:
    """Return what is wrong with the settings of an app, as they are in a file or in the environment."""
    findings = [Finding("settings", "error", fault) for fault in (*find_faults(values), *_find_file_fault(values))]
    if not findings:
        findings = [Finding("settings", "ok", "The app's settings are valid.")]
    return [*findings, *_check_telemetry(values), *_check_host(values), *_check_words(values), *_check_names(values)]


def _find_file_fault(values: Mapping[str, str]) -> Iterable[str]:
    if ca_file := values.get("KEY_VAULT_CA_FILE", "").strip():
        try:
            tls_context_with(ca_file)
        except SettingInvalid as exc:
            yield f"{exc} The local stack's is gone when the stack stops."


def _check_telemetry(values: Mapping[str, str]) -> Iterable[Finding]:
    text = values.get(_INSIGHTS, "").strip()
    parts = (part.partition("=") for part in text.split(";"))
    members = {name.strip().lower(): value.strip() for name, _, value in parts}
    urls = [value for name, value in members.items() if name.endswith("endpoint")]
    if text and not (is_id(members.get("instrumentationkey", "")) and all(map(match_url, urls))):
        message = (
            f"{_INSIGHTS} must be the connection string of an Application Insights resource, such as "
            "InstrumentationKey=…;IngestionEndpoint=https://…; its overview in the portal shows it. Jobs run, but "
            "nothing is sent."
        )
        yield Finding("telemetry", "error", message)


def _check_host(values: Mapping[str, str]) -> Iterable[Finding]:
    if not OUTPUTS.keys() & values.keys():  # azd's file has what the template returns, not the host's settings
        yield _check_host_storage(values)
        yield _check_body_limit(values.get(BODY_LIMIT, "").strip())
    runtime = values.get(_RUNTIME, "").strip()
    if runtime not in {"", "python"}:
        yield Finding("host", "error", f"{_RUNTIME} must be python.")


def host_account(values: Mapping[str, str]) -> StorageAccount | None:
    """
    Return the Functions host's own account, or None if the settings have none, or only a reference to it.

    Raises SettingInvalid, which names the setting or the part.
    """
    own = {name.lower(): text.strip() for name, text in values.items()}  # the host takes names in any case
    parts = {part: own.get(f"{HOST_STORAGE}__{part}".lower(), "") for part in (*_PARTS, "accountName", "clientId")}
    name = parts["accountName"]
    account = read_account({HOST_STORAGE: own.get(HOST_STORAGE.lower(), "")}, HOST_STORAGE)
    if account.connection_string is not None:
        text = account.connection_string.reveal()
        if is_reference(text):
            return None
        check_connection_string(HOST_STORAGE, text)
        return account
    if name and not _ACCOUNT_NAME.fullmatch(name):
        raise SettingInvalid(f"{HOST_STORAGE}__accountName must be the name of a storage account, not its URL or id.")
    for service, part in zip(SERVICES, _PARTS, strict=True):
        if parts[part]:
            check_service_url(f"{HOST_STORAGE}__{part}", parts[part], service)
    if parts["clientId"]:
        check_id(f"{HOST_STORAGE}__clientId", parts["clientId"])
    url = parts["blobServiceUri"] or (f"https://{name}.blob.core.windows.net" if name else "")
    return StorageAccount(None, parts["queueServiceUri"], url, parts["tableServiceUri"], "") if url else None


def _check_host_storage(values: Mapping[str, str]) -> Finding:
    try:
        account = host_account(values)
    except SettingInvalid as exc:
        return Finding("host", "error", str(exc))
    if account is not None or is_reference(values.get(HOST_STORAGE, "")):
        return Finding("host", "ok", f"{HOST_STORAGE} names a storage account for the Functions host.")
    message = (
        f"{HOST_STORAGE} is not set, and neither is {HOST_STORAGE}__accountName or {HOST_STORAGE}__blobServiceUri: the "
        "Functions host doesn't start without a storage account of its own."
    )
    # Without the runtime, which is always beside it in a file, these may be a part of the app's settings.
    return Finding("host", "error" if _RUNTIME in values else "warning", message)


def _check_body_limit(text: str) -> Finding:
    right = f"Set it to {MAX_BODY}, the largest body that the app takes."
    if not text:
        return Finding("host", "warning", f"{BODY_LIMIT} is not set: the host reads bodies of up to 100 MB. {right}")
    if not text.isascii() or not text.isdecimal() or len(text) > 12:  # noqa: PLR2004
        return Finding("host", "error", f"{BODY_LIMIT} must be a number of bytes. {right}")
    if int(text) > MAX_BODY:
        return Finding("host", "warning", f"{BODY_LIMIT} lets the host read larger bodies than the app takes. {right}")
    if int(text) < MAX_BODY:
        return Finding("host", "warning", f"{BODY_LIMIT} lets the host refuse bodies that the app takes. {right}")
    return Finding("host", "ok", f"{BODY_LIMIT} is the largest body that the app takes.")


def _check_words(values: Mapping[str, str]) -> Iterable[Finding]:
    setting = "ALLOW_STATIC_CONNECTION"
    for entry in split(values.get(setting, "")):
        if entry.lower() in _WORDS:
            message = f"{setting} names a customer {entry}. For all customers, write * alone; for none, leave it empty."
            yield Finding("settings", "warning", message)


def _check_names(names: Iterable[str]) -> Iterable[Finding]:
    """Name the settings that nobody reads, and whose names are much like one that somebody does."""
    read = [name for name in (*_OURS, *_HOSTS) if name not in _OTHERS]
    for name in names:
        if name in _OURS or name in _OTHERS or name.startswith(_COPY):
            continue
        is_part = name.lower().startswith(_HOST_PREFIX.lower())  # the prefix is most of such a name
        meant = (
            _HOST_PREFIX + closest_name(name[len(_HOST_PREFIX) :], _HOST_PARTS) if is_part else closest_name(name, read)
        )
        if meant.lower() == name.lower() and (is_part or meant in _HOSTS):  # the host takes any case
            continue
        if meant != name:
            yield Finding("settings", "warning", f"Nothing reads {name}. Did you mean {meant}?")


def closest_name(name: str, names: Iterable[str]) -> str:
    """Return which of the names `name` may be a misspelling of, or `name` itself if it is like none of them."""
    meant_by = {_letters(each): each for each in names}
    letters = _letters(name)
    close = [letters] if letters in meant_by else get_close_matches(letters, meant_by, n=1, cutoff=_MIN_SIMILARITY)
    return meant_by[close[0]] if close else name


@functools.lru_cache(1024)  # each name that nobody reads is compared with all that somebody does
def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

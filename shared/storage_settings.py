"""The settings that name a storage account, in the two forms of the Functions host: how they are read and checked."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.setting_values import check_id, check_resolved, match_url

_ENDPOINTS = ("Endpoint", "SecondaryEndpoint")
SERVICES = ("queue", "blob", "table")
_ACCOUNT = re.compile(r"[A-Za-z0-9-]{1,63}")
_ANY_SERVICE = re.compile(r"\.(blob|queue|table|file|dfs|web)\.")


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _is_domain(text: str) -> bool:
    match = match_url(f"https://{text}")
    return match is not None and match["port"] is None and match["path"] is None


def _is_url_of(service: str, url: str) -> bool:
    match = match_url(url)
    named = match and _ANY_SERVICE.search(match["host"].lower())
    return match is not None and (named is None or named[1] == service)


_MEMBERS: tuple[tuple[str, Callable[[str], object], str], ...] = (
    ("AccountName", _ACCOUNT.fullmatch, "the name of an account"),
    ("AccountKey", _is_base64, "a key, which is base64"),
    ("SharedAccessSignature", lambda text: "sig" in parse_qs(text), "a shared access signature"),
    ("DefaultEndpointsProtocol", lambda text: text.lower() in {"http", "https"}, "https"),
    ("EndpointSuffix", _is_domain, "a domain such as core.windows.net"),
    *(
        (f"{service.capitalize()}{kind}", partial(_is_url_of, service), f"a URL of the {service} service")
        for service in SERVICES
        for kind in _ENDPOINTS
    ),
)
"""The members of a connection string that have a form, whether a text has it, and what it is."""


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """The account that holds the jobs: a connection string, or URLs for the app's identity."""

    connection_string: Secret | None
    queue_service_uri: str
    blob_service_uri: str
    table_service_uri: str
    client_id: str
    """The user-assigned identity to use, if any."""


def read_account(environment: Mapping[str, str], setting: str) -> StorageAccount:
    """Return the account that a setting names, or its parts. Nothing is checked."""

    def part(name: str) -> str:
        return environment.get(f"{setting}__{name}", "").strip()

    connection_string = _without_empty_parts(environment.get(setting, ""))
    return StorageAccount(
        connection_string=Secret(connection_string) if connection_string else None,
        queue_service_uri=part("queueServiceUri"),
        blob_service_uri=part("blobServiceUri"),
        table_service_uri=part("tableServiceUri"),
        client_id=part("clientId"),
    )


def check_account(environment: Mapping[str, str], setting: str) -> None:
    """Check the account of all three services. Raises SettingInvalid, which names the setting or the part."""
    for name in (setting, *(f"{setting}__{service}ServiceUri" for service in SERVICES)):
        check_resolved(name, environment.get(name, ""))
    account = read_account(environment, setting)
    if account.connection_string is not None:
        check_connection_string(setting, account.connection_string.reveal())
        return
    urls = {service: getattr(account, f"{service}_service_uri") for service in SERVICES}
    if not all(urls.values()):
        raise SettingInvalid(
            f"{setting} must be a connection string, or {setting}__queueServiceUri, {setting}__blobServiceUri and "
            f"{setting}__tableServiceUri must all be set, to URLs."
        )
    for service, url in urls.items():
        check_service_url(f"{setting}__{service}ServiceUri", url, service)
    if account.client_id:
        check_id(f"{setting}__clientId", account.client_id)


def check_service_url(setting: str, url: str, service: str) -> None:
    """Check the URL of one service, used with an identity: the SDKs send tokens by https alone."""
    match = match_url(url)
    named = match and _ANY_SERVICE.search(match["host"].lower())
    is_right = match and match["scheme"].lower() == "https" and (named is None or named[1] == service)
    if not is_right or (named and match and match["path"] not in {None, "/"}) or re.search(r"[?#]", url):
        raise SettingInvalid(
            f"{setting} must be a URL such as https://ACCOUNT.{service}.core.windows.net, without a path and a query."
        )


def check_connection_string(setting: str, text: str) -> None:
    """Check the connection string of a storage account, without empty parts."""
    parts = [part.partition("=") for part in text.split(";")]
    members = {name.lower(): value for name, _, value in parts}  # with the blanks that the SDKs don't remove
    if text.strip().lower().startswith(("http://", "https://")):
        raise SettingInvalid(
            f"{setting} is a URL, but must be a connection string. URLs belong in {setting}__queueServiceUri, "
            f"{setting}__blobServiceUri and {setting}__tableServiceUri."
        )
    if members == {"usedevelopmentstorage": "true"}:
        return
    if "usedevelopmentstorage" in members:
        raise SettingInvalid(
            f"{setting} is a connection string whose UseDevelopmentStorage is not all: write =true alone."
        )
    has_credential = {"accountname", "accountkey"} <= members.keys() or "sharedaccesssignature" in members
    has_address = "accountname" in members or all(f"{service}endpoint" in members for service in SERVICES)
    if any(f"{service}endpoint" not in members for service in SERVICES if f"{service}secondaryendpoint" in members):
        raise SettingInvalid(
            f"{setting} is a connection string with a secondary endpoint, but without its primary one."
        )
    if not (has_credential and has_address and all(equals and value for _, equals, value in parts)):
        raise SettingInvalid(
            f"{setting} is not the connection string of a storage account: it needs an AccountName and an AccountKey. "
            "`az storage account show-connection-string` prints it."
        )
    for name, is_valid, kind in _MEMBERS:
        if name.lower() in members and not is_valid(members[name.lower()]):
            raise SettingInvalid(f"{setting} is a connection string whose {name} is not {kind}.")


def _without_empty_parts(connection_string: str) -> str:
    """Return a connection string as all SDKs read it: the host's takes two semicolons in a row, Python's don't."""
    return ";".join(part.strip() for part in connection_string.split(";") if part.strip())

"""Values of app settings: how a text is read, and which are valid. Each raises SettingInvalid, naming the setting."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.errors import SettingInvalid
from shared.secret import is_reference

_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}
_URL = re.compile(r"https?://[^/?#\s]+")
_VAULT_URL = re.compile(r"https://[^/?#\s]+/?", re.IGNORECASE)
_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_RESULT_QUEUE = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*=)?[a-z0-9]+(-[a-z0-9]+)*")
_TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{2,62}")


def flag(setting: str, text: str) -> bool:
    """Return yes or no."""
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise SettingInvalid(f"{setting} must be true or false.")


def integer(setting: str, text: str, minimum: int, maximum: int) -> int:
    """Return a number in that range."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not minimum <= int(text) <= maximum:  # noqa: PLR2004
        raise SettingInvalid(f"{setting} must be a whole number from {minimum} to {maximum}.")
    return int(text)


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a list, which commas or semicolons separate."""
    return tuple(part for part in (piece.strip() for piece in text.replace(";", ",").split(",")) if part)


def without_empty_parts(connection_string: str) -> str:
    """Return a connection string as all SDKs read it: the host's takes two semicolons in a row, Python's don't."""
    return ";".join(part.strip() for part in connection_string.split(";") if part.strip())


def check_resolved(setting: str, text: str) -> None:
    """Check that a value is not a reference to a secret, which Azure leaves in its place if it can't resolve it."""
    if is_reference(text):
        raise SettingInvalid(
            f"{setting} is a reference to a secret that Azure has not resolved: check that the secret exists, and that "
            "the app's identity may read it. The portal shows the reason beside the setting."
        )


def check_name(setting: str, name: str) -> None:
    """Check the name of a queue or container: Storage would refuse each request for any other one."""
    if not _NAME.fullmatch(name):
        raise SettingInvalid(
            f"{setting} must be a name of 3 to 63 lower-case letters, digits and single hyphens, which begins and ends "
            "with a letter or digit."
        )


def check_result_queues(setting: str, entries: Sequence[str]) -> None:
    """Check a list of queues, some of them for one customer."""
    for number, entry in enumerate(entries, 1):
        if not _RESULT_QUEUE.fullmatch(entry):  # not quoted: callers read this, and it may name a customer
            raise SettingInvalid(
                f"{setting} must be pairs such as contoso=contoso-results, or queues for all customers, separated by "
                f"commas: entry {number} is neither."
            )


def check_table_name(setting: str, name: str) -> None:
    """Check the name of a table."""
    if not _TABLE_NAME.fullmatch(name):
        raise SettingInvalid(f"{setting} must be a name of 3 to 63 letters and digits, which begins with a letter.")


def check_vault_url(setting: str, url: str) -> None:
    """Check the URL of a key vault. With a path, every secret would seem to be missing."""
    if not _VAULT_URL.fullmatch(url):
        raise SettingInvalid(f"{setting} must be a URL such as https://my-vault.vault.azure.net, without a path.")


def check_storage_urls(setting: str, *urls: str) -> None:
    """Check the URLs of the services of a storage account that is used with an identity."""
    if not all(map(_URL.match, urls)):
        raise SettingInvalid(
            f"{setting} must be a connection string, or {setting}__queueServiceUri, {setting}__blobServiceUri and "
            f"{setting}__tableServiceUri must all be set, to URLs."
        )


def check_connection_string(setting: str, text: str) -> None:
    """Check the connection string of a storage account, as `without_empty_parts` returns it."""
    names = {part.partition("=")[0].lower() for part in text.split(";")}
    has_credential = bool({"accountkey", "sharedaccesssignature"} & names)
    has_address = bool({"accountname", "tableendpoint"} & names)
    is_complete = "usedevelopmentstorage" in names or (has_credential and has_address)
    if not is_complete or not all("=" in part for part in text.split(";")):
        raise SettingInvalid(
            f"{setting} is not the connection string of a storage account: it needs an AccountName and an AccountKey. "
            "`az storage account show-connection-string` prints it."
        )

"""Values of app settings: how a text is read, and which are valid. Each raises SettingInvalid, naming the setting."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

from shared.errors import SettingInvalid
from shared.secret import is_reference

_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}
# Values of ALLOW_STATIC_CONNECTION. Anything else is a list of customer ids.
ALL_CUSTOMERS = {"*", "true", "1"}
NO_CUSTOMERS = {"", "false", "0"}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_URL = re.compile(
    rf"(?P<scheme>https?)://(?P<host>(?:{_LABEL}\.)*{_LABEL})(?::(?P<port>[0-9]{{1,5}}))?(?P<path>/\S*)?", re.IGNORECASE
)
_MAX_PORT = 65535
_CUSTOMER = re.compile(r"(?=.{1,50}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MODEL = re.compile(r"[^\s\"'`|\[\]{}()<>]{1,200}")
_CLAIM = re.compile(r"[!#-&(-_a-~]{1,200}")
_SCOPE = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+/\.default", re.IGNORECASE)
_POISON = "-poison"
_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_MAX_NAME = 63
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


def choice(setting: str, text: str, values: Sequence[str]) -> str:
    """Return one of these values."""
    if text not in values:
        raise SettingInvalid(f"{setting} must be {' or '.join(values)}.")
    return text


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a list, which commas or semicolons separate."""
    return tuple(part for part in (piece.strip() for piece in text.replace(";", ",").split(",")) if part)


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


def check_names(setting: str, names: Sequence[str]) -> None:
    """Check the names of containers."""
    for name in names:
        check_name(setting, name)


def poison_of(queue: str) -> str:
    """Return the name of a queue's poison queue, by the rule of the Functions host."""
    return f"{queue}{_POISON}"


def check_trigger_queue(setting: str, name: str) -> None:
    """Check the name of a queue that has a poison queue, which the host creates under a longer name."""
    check_name(setting, name)
    if len(name) > _MAX_NAME - len(_POISON):
        raise SettingInvalid(
            f"{setting} must have at most {_MAX_NAME - len(_POISON)} characters, because the name of its poison queue "
            f"ends in {_POISON}."
        )


def check_result_queues(setting: str, entries: Sequence[str]) -> None:
    """Check a list of queues, some of them for one customer."""
    for number, entry in enumerate(entries, 1):
        customer, pair, queue = entry.rpartition("=")
        # Not quoted: callers read this, and it may name a customer.
        if not _NAME.fullmatch(queue) or (pair and not _CUSTOMER.fullmatch(customer)):
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
    match = match_url(url)
    if match is None or match["scheme"].lower() != "https" or match["path"] not in {None, "/"}:
        raise SettingInvalid(f"{setting} must be a URL such as https://my-vault.vault.azure.net, without a path.")


def match_url(url: str) -> re.Match[str] | None:
    """Return the `scheme`, `host`, `port` and `path` of an http or https URL that every client reads alike."""
    match = _URL.fullmatch(url)
    return match if match and int(match["port"] or 1) <= _MAX_PORT else None


def is_id(text: str) -> bool:
    """Whether a text is a UUID, as Azure's ids are."""
    return _ID.fullmatch(text) is not None


def check_id(setting: str, text: str) -> None:
    """Check the client id of an identity or app registration."""
    if not is_id(text):
        raise SettingInvalid(f"{setting} must be a client id such as 01234567-89ab-cdef-0123-456789abcdef.")


def check_customers(setting: str, text: str) -> None:
    """Check a list of customers, or a word for all or none."""
    if text.lower() in ALL_CUSTOMERS | NO_CUSTOMERS:
        return
    for number, entry in enumerate(split(text), 1):
        if not _CUSTOMER.fullmatch(entry):  # not quoted, as above
            raise SettingInvalid(
                f"{setting} must be ids of customers, separated by commas, or *, true or false alone: entry {number} "
                "is not an id."
            )


def check_models(setting: str, models: Sequence[str]) -> None:
    """Check a list of models or deployments."""
    if not all(map(_MODEL.fullmatch, models)):
        raise SettingInvalid(
            f"{setting} must be names of models, separated by commas, without quotes, brackets and spaces."
        )


def check_suffixes(setting: str, suffixes: Sequence[str]) -> None:
    """Check the ends of hosts, such as contoso.com, .contoso.com or *.contoso.com."""
    for number, suffix in enumerate(suffixes, 1):
        if not _HOST.fullmatch(suffix.lower().removeprefix("*").strip(".")):
            raise SettingInvalid(
                f"{setting} must be ends of hosts such as contoso.com, separated by commas, without https://: "
                f"entry {number} is not one."
            )


def check_hosts(setting: str, hosts: Sequence[str]) -> None:
    """Check hosts in full."""
    for number, host in enumerate(hosts, 1):
        name = host.lower().removesuffix(":443").rstrip(".")
        with contextlib.suppress(UnicodeError):
            name = name.encode("idna").decode()
        if "." not in name or not _HOST.fullmatch(name):
            raise SettingInvalid(
                f"{setting} must be hosts in full, such as ai.contoso.com, separated by commas: entry {number} is not "
                "one."
            )


def check_scopes(setting: str, scopes: Sequence[str]) -> None:
    """Check scopes of Entra tokens. An app's own token is always for all that it may do, so they end in /.default."""
    for number, scope in enumerate(scopes, 1):
        if not _SCOPE.fullmatch(scope):
            raise SettingInvalid(
                f"{setting} must be scopes such as https://contoso.com/.default, separated by commas: entry {number} "
                "is not one."
            )


def check_claim(setting: str, text: str) -> None:
    """Check the type of a claim."""
    if not _CLAIM.fullmatch(text):
        raise SettingInvalid(f"{setting} must be the type of a claim, such as customer, without quotes and spaces.")

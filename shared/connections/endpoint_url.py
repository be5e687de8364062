"""
Parses the text of a pasted URL, accepts only what all URL parsers read alike, and normalizes it. Pure.

It knows no provider. Error messages quote nothing of the text, because a key may have been pasted anywhere.
"""

import re
from ipaddress import IPv6Address
from urllib.parse import parse_qsl, quote, unquote

from shared.errors import ConnectionInvalid

DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_LENGTH = 2048
_MAX_PORT = 65535
_MAX_HOST = 253

# What gets copied along with a URL: white space, quotes, the angle brackets of a mail, JSON's comma.
_WRAPPING = " \t\r\n\"'`<>,;\xa0\u2018\u2019\u201c\u201d\u200b\ufeff"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_AUTHORITY = re.compile(
    rf"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?)(?::(?P<port>[0-9]{{1,5}}))?"
)
_RESOURCE_NAME = re.compile(r"(?=.{3,32}\Z)(?!sk-)[a-z][a-z0-9]*(?:-[a-z0-9]+)+")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_SMUGGLED = re.compile(r"[\x00-\x1f\x7f/\\%\ufffd]|^\.{1,2}$")
_API_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,39}")


def unwrap(text: str) -> str:
    """Return `text` without the white space, quotes and brackets that were copied along with it."""
    return text.strip(_WRAPPING)


def is_resource_name(pasted: str) -> bool:
    """
    Whether a text can only be the name of an Azure resource. It will be a part of a host, which is looked up in public.

    A key must not be: keys have no hyphen, capitals, 36 characters as a UUID, or begin with `sk-`.
    """
    return _RESOURCE_NAME.fullmatch(pasted) is not None


def split_url(pasted: str) -> tuple[str, str, str, str]:
    """
    Return scheme, authority, path and query. A fragment is dropped, because it is never sent.

    The default scheme is https. Raises ConnectionInvalid if the text is not an http or https URL.
    """
    if not pasted:
        raise ConnectionInvalid(
            "The connection needs an `endpoint`, such as https://RESOURCE.openai.azure.com/openai/v1."
        )
    if len(pasted) > _MAX_LENGTH:
        raise ConnectionInvalid(f"The `endpoint` must not be longer than {_MAX_LENGTH:,} characters.")
    if not pasted.isascii():
        raise ConnectionInvalid("The `endpoint` must be ASCII: write an international host in its xn-- form.")
    if _UNSAFE.search(pasted):
        raise ConnectionInvalid(
            "The `endpoint` must be one URL without white space, control characters or backslashes."
        )
    match = _SCHEME.match(pasted)
    scheme = match[1].lower() if match else "https"
    if scheme not in DEFAULT_PORTS:
        raise ConnectionInvalid("The `endpoint` must be an https URL.")
    rest = pasted[match.end() :] if match else pasted.lstrip("/")
    before_fragment = rest.partition("#")[0]
    before_query, _, query = before_fragment.partition("?")
    authority, slash, path = before_query.partition("/")
    # A single word is not a URL. The most likely one is the key, in the wrong member.
    if pasted.startswith("sk-") or not (match or "@" in authority or re.search(r"[.\[]|^localhost", authority)):
        raise ConnectionInvalid(
            "The `endpoint` must be a URL, such as https://RESOURCE.openai.azure.com/openai/v1; a key belongs in "
            "`api_key`."
        )
    return scheme, authority, slash + path, query


def parse_authority(authority: str) -> tuple[str, int | None]:
    """Return the host, in lower case and without brackets, and the port. Raises ConnectionInvalid."""
    if "@" in authority:
        raise ConnectionInvalid(
            "The `endpoint` must not contain a user name or password: remove the part before the @, and put the key "
            "into `api_key`."
        )
    match = _AUTHORITY.fullmatch(authority.lower())
    try:
        # Fails for an invalid IPv6 address, and for the empty text if there is neither a name nor an address.
        host = (match and match["name"]) or str(IPv6Address(match["address"] if match else ""))
    except ValueError:
        host = ""
    port = int(match["port"]) if match and match["port"] else None
    if not 0 < len(host) <= _MAX_HOST or port == 0 or (port or 0) > _MAX_PORT:
        raise ConnectionInvalid(
            "The `endpoint` must have a host such as RESOURCE.openai.azure.com, and a port, if any, from 1 to "
            f"{_MAX_PORT}."
        )
    return host, port


def normalize_path(path: str) -> str:
    """
    Return the path with single slashes and one encoding, so that equal endpoints compare equal.

    Raises ConnectionInvalid for a path that servers could read in different ways.
    """
    names = []
    for segment in filter(None, path.split("/")):
        name = unquote(segment)
        if not _SEGMENT.fullmatch(segment):
            raise ConnectionInvalid(
                "The path of the `endpoint` has a character that is invalid in a URL, as in a placeholder: paste the "
                "URL with the real names in it."
            )
        if _SMUGGLED.search(name):
            raise ConnectionInvalid(
                "The path of the `endpoint` must not contain . or .. segments, nor encoded slashes, backslashes or "
                "percent signs."
            )
        names.append(encode_segment(name))
    return "".join(f"/{name}" for name in names)


def parse_api_version(query: str, own: str | None) -> str | None:
    """Return `own`, or else the api-version of the query, or None. Raises ConnectionInvalid for any other query."""
    members = parse_qsl(query, keep_blank_values=True)
    if any(name.lower() != "api-version" for name, _ in members):
        raise ConnectionInvalid("The `endpoint` must have no query except api-version; a key belongs in `api_key`.")
    versions = {own} if own else {value for _, value in members if value}
    if len(versions) > 1:
        raise ConnectionInvalid("The `endpoint` must have one api-version, not several.")
    version = next(iter(versions), None)
    if version and not _API_VERSION.fullmatch(version):
        raise ConnectionInvalid(
            "The `api_version`, or the api-version in the `endpoint`, must be a version such as 2024-10-21."
        )
    return version


def encode_segment(name: str) -> str:
    """Return one path segment, encoded as in the official client (openai 3.52, _utils/_path.py)."""
    return quote(name, safe="!$&'()*+,;=:@", errors="replace")

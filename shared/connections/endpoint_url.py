"""
The text of a pasted address: taken apart, held to what every URL parser agrees on, written one way. Pure.

Knows no provider. Refusals quote nothing of what was pasted: a key may stand anywhere in it.
"""

import re
from ipaddress import IPv6Address
from urllib.parse import parse_qsl, quote, unquote

from shared.errors import ConnectionInvalid

DEFAULT_PORTS = {"http": 80, "https": 443}

_MAX_LENGTH = 2048
_MAX_PORT = 65535
_MAX_HOST = 253

# What gets copied around an address: white space, quotes, the brackets of a mail, JSON's comma.
_WRAPPING = " \t\r\n\"'`<>,;\xa0\u2018\u2019\u201c\u201d\u200b\ufeff"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_AUTHORITY = re.compile(
    rf"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*)\.?)(?::(?P<port>[0-9]{{1,5}}))?"
)
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_SMUGGLED = re.compile(r"[\x00-\x1f\x7f/\\%\ufffd]|^\.{1,2}$")
_API_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,39}")


def unwrap(text: str) -> str:
    """`text` without the white space, quotes and brackets that were copied along with it."""
    return text.strip(_WRAPPING)


def split_address(pasted: str) -> tuple[str, str, str, str]:
    """
    Scheme, authority, path and query; a fragment says nothing to a server and is dropped.

    Without a scheme it is https. Raises ConnectionInvalid for what is no http address.
    """
    if not pasted:
        raise ConnectionInvalid(
            "The connection needs an `endpoint`, such as https://RESOURCE.openai.azure.com/openai/v1."
        )
    if len(pasted) > _MAX_LENGTH:
        raise ConnectionInvalid(f"The `endpoint` must not be longer than {_MAX_LENGTH:,} characters.")
    if not pasted.isascii():
        raise ConnectionInvalid("The `endpoint` must be plain ASCII: give an international host in its xn-- form.")
    if _UNSAFE.search(pasted):
        raise ConnectionInvalid(
            "The `endpoint` must be one URL with no white space, control character or backslash in it."
        )
    match = _SCHEME.match(pasted)
    scheme = match[1].lower() if match else "https"
    if scheme not in DEFAULT_PORTS:
        raise ConnectionInvalid("The `endpoint` must be an https URL.")
    rest = pasted[match.end() :] if match else pasted.lstrip("/")
    before_fragment = rest.partition("#")[0]
    before_query, _, query = before_fragment.partition("?")
    authority, slash, path = before_query.partition("/")
    # A word alone is no address; the commonest such word is the key, in the wrong member.
    if pasted.startswith("sk-") or not (match or "@" in authority or re.search(r"[.\[]|^localhost", authority)):
        raise ConnectionInvalid("The `endpoint` must be a URL; a key belongs into `api_key`.")
    return scheme, authority, slash + path, query


def parse_authority(authority: str) -> tuple[str, int | None]:
    """Host, in lower case and without brackets, and port. Raises ConnectionInvalid, for a user name too."""
    if "@" in authority:
        raise ConnectionInvalid(
            "The `endpoint` must not carry a user name or password: leave out what stands before the @ "
            "and put the key into `api_key`."
        )
    match = _AUTHORITY.fullmatch(authority.lower())
    try:
        # A match of neither name nor address fails here too, as does an address that is none.
        host = (match and match["name"]) or str(IPv6Address(match["address"] if match else ""))
    except ValueError:
        host = ""
    port = int(match["port"]) if match and match["port"] else None
    if not 0 < len(host) <= _MAX_HOST or port == 0 or (port or 0) > _MAX_PORT:
        raise ConnectionInvalid(
            "The `endpoint` must name a host such as RESOURCE.openai.azure.com, and a port, if any, from 1 "
            f"to {_MAX_PORT}."
        )
    return host, port


def normal_path(path: str) -> str:
    """
    The path with single slashes and one way of encoding, so that equal endpoints compare equal.

    Raises ConnectionInvalid for what two servers could read in two ways.
    """
    names = []
    for segment in filter(None, path.split("/")):
        name = unquote(segment)
        if not _SEGMENT.fullmatch(segment):
            raise ConnectionInvalid(
                "The path of the `endpoint` holds a character that no URL has, as a placeholder does: "
                "paste the address with the real names in it."
            )
        if _SMUGGLED.search(name):
            raise ConnectionInvalid(
                "The path of the `endpoint` must not hold . or .. segments, nor encoded slashes, "
                "backslashes or percent signs."
            )
        names.append(encode_segment(name))
    return "".join(f"/{name}" for name in names)


def api_version_in(query: str, own: str | None) -> str | None:
    """`own`, or else the `query`'s api-version, if any. Raises ConnectionInvalid for any other query."""
    members = parse_qsl(query, keep_blank_values=True)
    if any(name.lower() != "api-version" for name, _ in members):
        raise ConnectionInvalid("The `endpoint` must carry no query but api-version: a key belongs into `api_key`.")
    versions = {own} if own else {value for _, value in members if value}
    if len(versions) > 1:
        raise ConnectionInvalid("The `endpoint` must carry one api-version, not several.")
    version = next(iter(versions), None)
    if version and not _API_VERSION.fullmatch(version):
        raise ConnectionInvalid(
            "The `api_version`, or the api-version in the `endpoint`, must be one such as 2024-10-21."
        )
    return version


def encode_segment(name: str) -> str:
    """One path segment, encoded as the official client does (openai 3.52, _utils/_path.py)."""
    return quote(name, safe="!$&'()*+,;=:@", errors="replace")

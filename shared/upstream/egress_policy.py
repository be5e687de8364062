"""
Which hosts we may send to: endpoints of connections, callbacks of jobs. Pure.

A name under an allowed suffix can still resolve to a private address; that is for the transport, which
sees the address. Refusals quote nothing of the URL.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from shared.errors import ConnectionInvalid

# Each provider's own hosts; a test holds this against the hosts that `providers` knows.
DEFAULT_ALLOWED_SUFFIXES: tuple[str, ...] = (
    "openai.azure.com",
    "openai.azure.us",
    "openai.azure.cn",
    "cognitiveservices.azure.com",
    "cognitiveservices.azure.us",
    "cognitiveservices.azure.cn",
    "services.ai.azure.com",
    "services.ai.azure.us",
    "services.ai.azure.cn",
    "api.cognitive.microsoft.com",
    "models.ai.azure.com",
    "api.openai.com",
)

# What an Entra token may be for. A token is the app's own and good at every resource of its audience: one
# for the vault or for Storage, sent to an endpoint that a secret names, would open all customers to it.
DEFAULT_ALLOWED_SCOPES: tuple[str, ...] = tuple(
    f"https://{audience}.azure.{cloud}/.default"
    for audience in ("ai", "cognitiveservices")
    for cloud in ("com", "us", "cn")
)

_MAX_PORT = 65535
# Narrower than RFC 3986, so that no two URL parsers can disagree about the host.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9-]+(?:\.[a-z0-9-]+)*\.?)(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?#][\x21-\x5b\x5d-\x7e]*)?",
    re.IGNORECASE,
)
# What resolvers read as an IPv4 address ends in a number: 127.1, 2130706433, 0x7f000001, 0177.0.0.1.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def check_allowed(url: str, *, suffixes: Sequence[str], allow_local: bool, member: str = "endpoint") -> None:
    """
    Lets `url` pass: https to a host that is, or stands under, one of `suffixes`, on any port.

    A suffix may be written `contoso.com`, `.contoso.com` or `*.contoso.com`; an empty one allows
    nothing. `allow_local` adds http and https on loopback. Raises ConnectionInvalid, which speaks of
    `member`, for everything else, addresses in place of names included.
    """
    host = check_public(url, allow_local=allow_local, member=member)
    allowed = [name for suffix in suffixes if (name := suffix.strip().lower().removeprefix("*").strip("."))]
    if not _is_loopback(host) and not any(host == name or host.endswith(f".{name}") for name in allowed):
        raise ConnectionInvalid(
            f"The host of the `{member}` is not allowed; the app setting ALLOWED_ENDPOINT_SUFFIXES allows "
            f"those under {', '.join(allowed) or 'no suffix at all'}."
        )


def check_public(url: str, *, allow_local: bool, member: str = "endpoint") -> str:
    """
    As `check_allowed`, whatever the host's suffix; gives the host, in lower case.

    For addresses that nobody's key goes to, such as that of a picture which a provider has made.
    """
    match = _URL.fullmatch(url)
    if not match or not 0 < int(match["port"] or 443) <= _MAX_PORT:
        raise ConnectionInvalid(f"The `{member}` must be an https URL with a host name and no user name.")
    host = match["host"].lower().removesuffix(".")
    if _is_loopback(host):
        if not allow_local:
            raise ConnectionInvalid(
                f"The `{member}` must not be on this machine: the app setting ALLOW_LOCAL_ENDPOINTS is off."
            )
        return host
    if match["scheme"].lower() != "https":
        raise ConnectionInvalid(f"The `{member}` must begin with https://.")
    if host.startswith("[") or "." not in host or host.endswith(".localhost") or _ENDS_IN_NUMBER.fullmatch(host):
        raise ConnectionInvalid(f"The `{member}` must name a public host in full, not an address or a local name.")
    return host


def check_scope(scope: str, *, allowed: Sequence[str]) -> None:
    """Lets a connection's `scope` pass if it is one of AI services', or of `allowed`. Raises ConnectionInvalid."""
    if scope not in (*DEFAULT_ALLOWED_SCOPES, *allowed):
        raise ConnectionInvalid(
            "The connection's `scope` is not one of AI services'; another needs the app setting ALLOWED_SCOPES."
        )


def _is_loopback(host: str) -> bool:
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]) == IPv6Address("::1")
        return host == "localhost" or IPv4Address(host).is_loopback
    except ValueError:
        return False

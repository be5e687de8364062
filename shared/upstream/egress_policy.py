"""
The egress policy: which hosts the app may send to, for connections' endpoints and jobs' callbacks. Pure.

A name under an allowed suffix can still resolve to a private address; `guarded_addresses` checks that, since it sees
the address. Error messages quote nothing of the URL.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from shared.errors import ConnectionInvalid

# Each provider's own hosts; a test compares this with the hosts that `connections.endpoint` recognizes.
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
    "api.anthropic.com",
)

# Where the app's own Entra token may go: Microsoft's servers, whoever the resource there belongs to. A test compares
# this with the hosts that `connections.endpoint` recognizes.
ENTRA_SUFFIXES: tuple[str, ...] = tuple(
    suffix
    for suffix in DEFAULT_ALLOWED_SUFFIXES
    if suffix not in ("api.cognitive.microsoft.com", "api.openai.com", "api.anthropic.com")
)

# The scopes that the app may request an Entra token for. The token is the app's own, and valid at every resource of
# its audience: a token for the vault or for Storage, sent to an endpoint that a secret names, would expose every
# customer to that endpoint.
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
# Resolvers read a name that ends in a number as an IPv4 address: 127.1, 2130706433, 0x7f000001, 0177.0.0.1.
_ENDS_IN_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")


def check_allowed(url: str, *, suffixes: Sequence[str], allow_local: bool, member: str = "endpoint") -> None:
    """
    Check that `url` is https to a host that is, or is under, one of `suffixes`, on any port.

    `allow_local` adds http and https on loopback. Raises ConnectionInvalid, whose message names `member`, for
    everything else, including IP addresses.
    """
    host = check_public(url, allow_local=allow_local, member=member)
    if not _is_loopback(host) and not is_under(host, suffixes):
        allowed = ", ".join(filter(None, map(normalize_suffix, suffixes)))
        raise ConnectionInvalid(
            f"The host of the `{member}` is not allowed. The app setting ALLOWED_ENDPOINT_SUFFIXES allows hosts under "
            f"{allowed or 'no suffix at all'}."
        )


def is_under(host: str, suffixes: Sequence[str]) -> bool:
    """Whether a host, in lower case, is or is under one of the suffixes; an empty one allows nothing."""
    names = filter(None, map(normalize_suffix, suffixes))
    return any(host == name or host.endswith(f".{name}") for name in names)


def normalize_suffix(text: str) -> str:
    """Return a suffix, written `contoso.com`, `.contoso.com` or `*.contoso.com`, as the first, in lower case."""
    return text.strip().lower().removeprefix("*").strip(".")


def check_public(url: str, *, allow_local: bool, member: str = "endpoint") -> str:
    """
    Check `url` as `check_allowed` does, but with any suffix. Return the host in lower case.

    For URLs that get no customer's key, such as that of an image that a provider has generated.
    """
    match = _URL.fullmatch(url)
    if not match or not 0 < int(match["port"] or 443) <= _MAX_PORT:
        raise ConnectionInvalid(f"The `{member}` must be an https URL with a host name and no user name.")
    host = match["host"].lower().removesuffix(".")
    if _is_loopback(host):
        if not allow_local:
            raise ConnectionInvalid(
                f"The `{member}` must not be on this machine, unless the app setting ALLOW_LOCAL_ENDPOINTS is on."
            )
        return host
    if match["scheme"].lower() != "https":
        raise ConnectionInvalid(f"The `{member}` must begin with https://.")
    if host.startswith("[") or "." not in host or host.endswith(".localhost") or _ENDS_IN_NUMBER.fullmatch(host):
        raise ConnectionInvalid(f"The `{member}` must name a public host in full, not an IP address or a local name.")
    return host


def check_scope(scope: str, *, allowed: Sequence[str]) -> None:
    """Check that a connection's `scope` is an AI service's, or one of `allowed`. Raises ConnectionInvalid."""
    if scope not in (*DEFAULT_ALLOWED_SCOPES, *allowed):
        raise ConnectionInvalid(
            "The connection's `scope` must be that of an AI service, or be listed in the app setting ALLOWED_SCOPES."
        )


def check_entra_endpoint(url: str, *, allowed: Sequence[str]) -> None:
    """
    Check that the app's own token may be sent to `url`, which `check_allowed` allows: an allowed suffix is enough for
    a customer's key, which is the customer's own, but not for the token.

    The host must be one of Microsoft's AI services or one of `allowed`, on port 443, or on this machine. Raises
    ConnectionInvalid.
    """
    match = _URL.fullmatch(url)
    host = normalize_host(match["host"]) if match else ""
    if _is_loopback(host):
        return
    if match and match["port"] not in (None, "443"):
        raise ConnectionInvalid("With `auth` entra, the `endpoint` must be on port 443: leave the port out.")
    if not is_entra_host(host, allowed=allowed):
        raise ConnectionInvalid(
            "With `auth` entra, the `endpoint` must have a host of Microsoft's AI services, or one that the app "
            "setting ALLOWED_ENTRA_HOSTS names in full."
        )


def is_entra_host(host: str, *, allowed: Sequence[str]) -> bool:
    """Whether a host, in lower case, is one of Microsoft's AI services, or one of `allowed`."""
    return any(host.endswith(f".{suffix}") for suffix in ENTRA_SUFFIXES) or host in map(normalize_host, allowed)


def normalize_host(text: str) -> str:
    """Return a host as somebody wrote it in lower case, as IDNA, without the port 443 and a dot at its end."""
    host = text.strip().lower().removesuffix(":443").rstrip(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _is_loopback(host: str) -> bool:
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1]) == IPv6Address("::1")
        return host == "localhost" or IPv4Address(host).is_loopback
    except ValueError:
        return False

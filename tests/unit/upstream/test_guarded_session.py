"""Which IP addresses may be called for a customer, whatever name resolves to them."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import ConnectionInvalid
from shared.upstream.guarded_session import GuardedResolver, is_allowed_address

PUBLIC = [
    *("20.42.0.1", "8.8.8.8", "1.1.1.1", "2603:1030::1", "2a00:1450:4001:80f::200e"),
    *("64:ff9b::20.42.0.1", "2002:1402:0304::1"),  # an embedded IPv4 address decides
]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
    *("fd12:3456::1", "fc00::1", "::ffff:10.0.0.1", "::ffff:192.168.1.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b::100.64.0.1", "2002:0a00:0005::1"),
]
LOCAL = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"]
NEVER = [
    *("169.254.169.254", "169.254.0.1", "169.254.130.1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0"),
    *("::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "168.63.129.16"),
    *("::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "0.0.0.0", "::", "::ffff:0.0.0.0"),
    *("224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255", "240.0.0.1", "192.0.0.9"),
]


class Names(AbstractResolver):
    """A resolver that gives every name the same addresses, and records whether it was closed."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.closed = False
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses, for any name."""
        if not self._addresses:
            raise OSError(f"{host} is not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Record that it was closed."""
        self.closed = True


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (address, kind)
        for kind, addresses in (("public", PUBLIC), ("private", PRIVATE), ("local", LOCAL), ("never", NEVER))
        for address in addresses
    ],
)
def test_addresses_may_be_called_by_their_kind(address: str, kind: str):
    """Public addresses are always allowed, private and local ones if switched on, the platform's own never."""
    allowed = [
        is_allowed_address(address, local=local, private=private)
        for local, private in ((False, False), (True, False), (False, True), (True, True))
    ]

    assert {
        "public": [True, True, True, True],
        "local": [False, True, False, True],
        "private": [False, False, True, True],
        "never": [False, False, False, False],
    }[kind] == allowed


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("others", [[], ["20.42.0.1"], ["20.42.0.1", "2603:1030::1"]], ids=len)
@pytest.mark.parametrize("last", [True, False])
async def test_name_with_one_forbidden_address_is_refused(address: str, others: list[str], last: bool):
    """One forbidden address among a name's addresses refuses the name, and is not quoted."""
    addresses = [*others, address] if last else [address, *others]
    resolver = GuardedResolver(allow_local=False, allow_private=False, inner=Names(addresses))

    with pytest.raises(ConnectionInvalid) as raised:
        await resolver.resolve("a.example", 443)

    assert (
        "The `endpoint` host a.example resolves to an IP address that is not allowed; a private address needs the app "
        "setting ALLOW_PRIVATE_ENDPOINTS." == str(raised.value)
    )


async def test_names_with_allowed_addresses_are_resolved():
    """
    All addresses of a name are returned as the inner resolver returned them, private ones if they are switched on; the
    platform's own are still refused. A name that does not exist is an error of DNS, not of the connection.
    """
    for addresses, private in ((PUBLIC[:3], False), (["10.0.0.1"], True)):
        inner = Names(addresses)
        resolver = GuardedResolver(allow_local=False, allow_private=private, inner=inner)

        assert await inner.resolve("a.example", 443) == await resolver.resolve("a.example", 443)
        await resolver.close()
        assert inner.closed
    with pytest.raises(ConnectionInvalid):
        await GuardedResolver(allow_local=False, allow_private=True, inner=Names([NEVER[0]])).resolve("a.example")
    with pytest.raises(OSError, match="is not known"):
        await GuardedResolver(allow_local=False, allow_private=False, inner=Names([])).resolve("a.example")

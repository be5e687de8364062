"""Which IP addresses may be called for a customer, whatever name resolves to them."""

from __future__ import annotations

import asyncio

import pytest

from shared.errors import ConnectionInvalid
from shared.network.hosts import Host
from shared.shares import Shares
from shared.upstream import guarded_addresses
from shared.upstream.guarded_addresses import AddrInfo, GuardedAddresses, is_allowed_address
from tests.support.clients import Resolver
from tests.support.rows import every_row

HOST = Host("a.example", 443, is_secure=True)
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


def guarded(*, allow_private: bool = False) -> GuardedAddresses:
    """Addresses that may be called, with few lookups at a time."""
    return GuardedAddresses(allow_local=False, allow_private=allow_private, lookups=Shares(4))


@every_row(
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


@every_row("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
@every_row("others", [[], ["20.42.0.1"], ["20.42.0.1", "2603:1030::1"]], ids=len)
@every_row("last", [True, False])
async def test_name_with_one_forbidden_address_is_refused(
    address: str, others: list[str], last: bool, monkeypatch: pytest.MonkeyPatch
):
    """One forbidden address among a name's addresses refuses the name, and is not quoted."""
    addresses = [*others, address] if last else [address, *others]
    monkeypatch.setattr(guarded_addresses, "look_up", Resolver({HOST.name: addresses}).look_up)

    with pytest.raises(ConnectionInvalid) as raised:
        await guarded().resolve(HOST, "acme")

    assert (
        "The `endpoint` host a.example resolves to an IP address that is not allowed; a private address needs the app "
        "setting ALLOW_PRIVATE_ENDPOINTS." == str(raised.value)
    )


async def test_names_with_allowed_addresses_are_resolved(monkeypatch: pytest.MonkeyPatch):
    """
    All addresses of a name are returned as the name server returned them, private ones if they are switched on; the
    platform's own are still refused. A name that does not exist is an error of DNS, not of the connection.
    """
    for addresses, private in ((PUBLIC[:3], False), (["10.0.0.1"], True)):
        monkeypatch.setattr(guarded_addresses, "look_up", Resolver({HOST.name: addresses}).look_up)

        resolved = await guarded(allow_private=private).resolve(HOST, "acme")

        assert [(address, 443) for address in addresses] == [info[4][:2] for info in resolved]
    monkeypatch.setattr(guarded_addresses, "look_up", Resolver({HOST.name: NEVER[:1]}).look_up)
    with pytest.raises(ConnectionInvalid):
        await guarded(allow_private=True).resolve(HOST, "acme")
    monkeypatch.setattr(guarded_addresses, "look_up", Resolver({}).look_up)
    with pytest.raises(OSError, match="not known"):
        await guarded().resolve(HOST, "acme")


async def test_many_connections_need_one_lookup(monkeypatch: pytest.MonkeyPatch):
    """Those of one customer to one host, while it runs and shortly after; a lookup that failed is not kept."""
    names, lookups = Resolver({}), 0

    async def look_up(name: str, port: int) -> list[AddrInfo]:
        nonlocal lookups
        lookups += 1
        await asyncio.sleep(0.01)
        return await names.look_up(name, port)

    monkeypatch.setattr(guarded_addresses, "look_up", look_up)
    addresses = guarded()
    for _ in range(2):
        with pytest.raises(OSError, match="not known"):
            await addresses.resolve(HOST, "acme")
    assert 2 == lookups
    names.addresses[HOST.name] = PUBLIC[:1]

    for _ in range(2):
        await asyncio.gather(*(addresses.resolve(HOST, "acme") for _ in range(20)))

    assert 3 == lookups


async def test_a_lookup_goes_on_for_the_others(monkeypatch: pytest.MonkeyPatch):
    """If the one that began it is cancelled."""
    monkeypatch.setattr(guarded_addresses, "look_up", Resolver({HOST.name: PUBLIC[:1]}).look_up)
    addresses = guarded()
    first, second = (asyncio.create_task(addresses.resolve(HOST, "acme")) for _ in range(2))
    await asyncio.sleep(0)

    first.cancel()

    assert 1 == len(await second)

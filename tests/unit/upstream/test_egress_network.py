"""
Which addresses the app calls for a customer, whatever a secret, a name server or an endpoint says: the real client, on
a name server and a network that the test controls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import ConnectionInvalid, JobError, ProviderUnavailable, RequestRejected
from shared.secret import Secret
from shared.settings import read_settings
from shared.upstream import guarded_addresses
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey, Response, UpstreamRequest
from tests.support.endpoint import Account, Endpoint, completion, error
from tests.support.networks import Network, RebindingResolver
from tests.support.rows import every_row
from tests.support.workers import open_worker

NAME = "contoso.openai.azure.com"
PUBLIC = "20.42.0.1"
FORBIDDEN = [
    *("10.0.0.5", "172.16.3.4", "192.168.1.1", "100.64.0.1", "127.0.0.1", "0.0.0.0"),
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("::1", "fd00::5", "fe80::1", "fec0::1", "fd00:ec2::254", "::ffff:10.0.0.5", "::ffff:169.254.169.254"),
    *("64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "2002:0a00:0005::1"),
]

OpenClient = Callable[..., UpstreamClient]


@pytest_asyncio.fixture(loop_scope="session")
async def network(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Network:
    """The network of all calls of a test."""
    loop = asyncio.get_running_loop()
    network = Network(loop, int(endpoint.url.rpartition(":")[2]))
    monkeypatch.setattr(loop, "sock_connect", network.sock_connect)
    return network


@pytest_asyncio.fixture(loop_scope="session")
async def open_client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenClient]:
    """Opens clients whose names resolve to the given addresses; closes them at the end."""
    opened: list[UpstreamClient] = []

    def open_one(*addresses: str, **switches: bool) -> UpstreamClient:
        monkeypatch.setattr(guarded_addresses, "look_up", RebindingResolver(*addresses).look_up)
        opened.append(UpstreamClient(None, **switches))  # type: ignore[arg-type]  # no test here asks for a token
        return opened[-1]

    yield open_one
    for client in opened:
        await client.close()


async def call(client: UpstreamClient, account: Account, url: str = f"http://{NAME}/v1/x", **headers: str) -> Response:
    """One call with the account's key. The network has no certificates, so it is a plain one."""
    request = UpstreamRequest("POST", url, b"{}", headers)
    access = ApiKey("api-key", Secret(account.key))
    return await client.send(request, access, customer="acme", timeout_s=5)


async def closing(request: web.Request) -> web.StreamResponse:
    """Answer and close the connection, so that the next call needs a new one."""
    response = await completion()(request)
    response.force_close()
    return response


@every_row("address", FORBIDDEN)
async def test_forbidden_address_is_not_called(
    open_client: OpenClient, network: Network, account: Account, address: str
):
    """
    A name with a private, local, metadata or platform address is refused before anything is connected, also if it was
    public at the first call and is not at a later connection.
    """
    network.called.clear()
    account.received.clear()
    with pytest.raises(ConnectionInvalid):
        await call(open_client(address), account)
    assert [] == network.called
    client = open_client(PUBLIC, address)
    account.will_answer(closing)

    await call(client, account, f"http://{NAME}:8001/v1/x")
    with pytest.raises(ConnectionInvalid):
        await call(client, account, f"http://{NAME}:8002/v1/x")  # another port: addresses are cached by host and port

    assert [PUBLIC] == network.called
    assert 1 == len(account.received)


async def test_new_connection_goes_to_an_address_that_was_checked(
    open_client: OpenClient, network: Network, account: Account
):
    """While a name's address is cached, a new connection goes to it, whatever the name server says now."""
    client = open_client(PUBLIC, "10.0.0.5")
    account.will_answer(closing, closing)

    await call(client, account)
    await call(client, account)

    assert [PUBLIC, PUBLIC] == network.called


LITERAL = ["10.0.0.5", "169.254.169.254", "127.0.0.1", "[::1]", "[::ffff:10.0.0.5]"]
DISGUISED = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "①②⑦.0.0.1"]


@every_row(
    ("address", "fault"),
    [*((address, ConnectionInvalid) for address in LITERAL), *((address, JobError) for address in DISGUISED)],
)
async def test_literal_address_is_checked_on_connection(
    open_client: OpenClient, network: Network, account: Account, address: str, fault: type[JobError]
):
    """
    An IP address in a URL, which no name server resolves, is refused by the socket itself; a host that some resolvers
    read as one is refused, or is a name like any other.
    """
    resolved = "10.0.0.5" if address in DISGUISED else PUBLIC
    with pytest.raises(fault):
        await call(open_client(resolved), account, f"http://{address}/v1/x")

    assert [] == network.called


PLATFORM = ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254")


@pytest.mark.parametrize(
    ("switch", "address", "other"),
    [("allow_private", "10.0.0.5", "127.0.0.1"), ("allow_local", "127.0.0.1", "10.0.0.5")],
)
async def test_private_and_local_addresses_are_called_if_switched_on(
    open_client: OpenClient, network: Network, account: Account, switch: str, address: str, other: str
):
    """ALLOW_PRIVATE_ENDPOINTS and ALLOW_LOCAL_ENDPOINTS allow one each, and neither of them the platform."""
    await call(open_client(address, **{switch: True}), account)
    for forbidden in (other, *PLATFORM):
        with pytest.raises(ConnectionInvalid):
            await call(open_client(forbidden, **{switch: True}), account)

    assert [address] == network.called


@every_row("status", [301, 302, 303, 307, 308])
@every_row("location", ["http://169.254.169.254/metadata", f"http://{NAME}/elsewhere", "/elsewhere"])
async def test_redirect_is_not_followed(
    open_client: OpenClient, network: Network, account: Account, status: int, location: str
):
    """A redirect is a refused request, wherever it points; nothing is sent to the new location."""
    network.called.clear()
    account.received.clear()
    account.will_answer(error(status, location=location))

    with pytest.raises(RequestRejected, match="redirect") as raised:
        await call(open_client(PUBLIC), account)

    assert "elsewhere" not in str(raised.value)
    assert ([PUBLIC], 1) == (network.called, len(account.received))


@every_row(
    "url",
    [
        *(f"http://{NAME}/a.png", "https://10.0.0.5/a.png", "https://169.254.169.254/a", "https://127.1/"),
        *("https://[fd00::5]/", "https://localhost/", "http://127.0.0.1:8080/", f"https://u:p@{NAME}/", "//x", ""),
        *("ftp://x.y/z", "file:///etc/passwd", "data:image/png;base64,AAAA", f"https://{'a' * 70_000}"),
        f"https://{NAME}/resolves-to-a-private-address",
    ],
)
async def test_forbidden_address_in_a_response_is_not_fetched(open_client: OpenClient, network: Network, url: str):
    """A URL in a provider's response is fetched under the same rules, except for the suffix."""
    with pytest.raises(ProviderUnavailable, match="names an address that is not allowed"):
        await open_client("10.0.0.5").fetch(url, customer="acme", timeout_s=5)

    assert [] == network.called


async def test_public_address_is_called(
    open_client: OpenClient, network: Network, account: Account, monkeypatch: pytest.MonkeyPatch
):
    """A name with a public address is called at that address only, and not by a proxy, which would connect for us."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://10.9.9.9:3128")

    await call(open_client(PUBLIC), account)

    assert [PUBLIC] == network.called
    assert NAME == account.received[0].headers["host"]


async def test_credential_of_a_request_is_never_sent(open_client: OpenClient, network: Network, account: Account):
    """The connection's credential replaces credentials of a request, in whatever case or header."""
    await call(open_client(PUBLIC), account, **{"Api-Key": "mine", "API-KEY": "mine", "Authorization": "Bearer mine"})

    (received,) = account.received
    assert account.key == received.headers["api-key"]
    assert "authorization" not in received.headers
    assert [PUBLIC] == network.called


@pytest.mark.parametrize(
    ("url", "action"),
    [("https://ai.contoso.example/openai/v1", "chat"), (f"https://{NAME}", "chat"), (f"https://{NAME}", "raw")],
    ids=["no suffix allowed", "allowed name, metadata address", "allowed name, metadata address, raw"],
)
async def test_job_on_a_forbidden_endpoint_fails(
    open_client: OpenClient, network: Network, endpoint: Endpoint, url: str, action: str
):
    """On Azure, a job with a forbidden endpoint ends with `connection_invalid`, and nothing is sent."""
    settings = read_settings({"JobStorage": "UseDevelopmentStorage=true"})
    worker = open_worker(endpoint, open_client("169.254.169.254"), settings=settings)
    customer = worker.customer(endpoint=url, provider=None if NAME in url else "azure_openai")
    job_input = {"prompt": "Hello?"} if action == "chat" else {"path": "models"}

    result = await worker.run(customer, action=action, input=job_input)

    assert ("failed", "connection_invalid") == (result["status"], result["error"]["code"])
    assert ([], []) == (network.called, customer.account.received)

"""
Key Vault on this machine, over https on loopback, and the managed-identity endpoint that issues the tokens for it.
The unmodified Azure SDKs use both.

It accepts any bearer token. For tests, it fails on demand and counts reads. `rest_api` has its routes, `secret_store`
its secrets and its errors.
"""

import asyncio
import contextlib
import secrets
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from aiohttp import web

from local.vault import identity_endpoint, rest_api
from local.vault.secret_store import Secrets, VaultError

HOST = "127.0.0.1"
# The SDK sends its first request without a token, and learns from this header where to get one, and for what.
CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000", '
    'resource="https://vault.azure.net"'
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ReadMiddleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Vault:
    """A running vault. Tests set `outage` and `delay`, call `fail_next`, and look at `reads`."""

    ca_file: Path
    url: str = ""
    identity_endpoint: str = ""
    identity_header: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    secrets: Secrets = field(default_factory=Secrets, repr=False)
    reads: Counter[str] = field(default_factory=Counter)  # requests for a value, by the secret's name in lower case
    outage: bool = False  # while true, every response is a 503
    delay: float = 0  # seconds before each response
    read_middleware: ReadMiddleware | None = None  # handles each read of a value, for tests
    read_only: bool = False  # while true, the app's identity may only read and list, like a Key Vault Secrets User
    _failures: deque[tuple[int, int | None]] = field(default_factory=deque)

    def fail_next(self, status: int = 503, *, times: int = 1, retry_after: int | None = None) -> None:
        """Respond with `status` to the next `times` requests that carry a token, then normally again."""
        self._failures.extend([(status, retry_after)] * times)

    @web.middleware
    async def handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What all routes share: the challenge, the count of reads, injected failures, the form of an error."""
        await asyncio.sleep(self.delay)
        if self.outage:
            return _error(503, "ServiceUnavailable", "The service is unavailable.")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            message = "AKV10000: Request is missing a Bearer or PoP token."
            return _error(401, "Unauthorized", message, {"WWW-Authenticate": CHALLENGE})
        if rest_api.is_read(request):
            self.reads[request.match_info["name"].lower()] += 1
        if self._failures:
            status, retry_after = self._failures.popleft()
            headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
            return _error(status, "Injected", "A test injected this failure.", headers)
        try:
            if self.read_only and request.method != "GET":
                raise VaultError(
                    403, "Forbidden", "Caller is not authorized to perform action on resource.", "ForbiddenByRbac"
                )
            if self.read_middleware is not None and rest_api.is_read(request):
                return await self.read_middleware(request, handler)
            return await handler(request)
        except VaultError as exc:
            return _error(exc.status, exc.code, str(exc), inner=exc.inner)


@contextlib.asynccontextmanager
async def start(folder: Path) -> AsyncIterator[Vault]:
    """An empty vault on a free port until the block ends. Its CA certificate is written to `folder`."""
    authority = trustme.CA(organization_name="Customer AI Jobs, local stack")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(tls)
    vault = Vault(folder / "key-vault-ca.pem")
    authority.cert_pem.write_to_path(str(vault.ca_file))
    async with contextlib.AsyncExitStack() as stack:
        key_vault = web.Application(middlewares=[vault.handle])
        key_vault.add_routes(rest_api.routes(vault.secrets))
        vault.url = f"https://{HOST}:{await _serve(stack, key_vault, tls)}"
        identity = web.Application()
        identity.add_routes(identity_endpoint.routes(vault.identity_header))
        vault.identity_endpoint = f"http://{HOST}:{await _serve(stack, identity)}/msi/token"
        yield vault


async def _serve(stack: contextlib.AsyncExitStack, app: web.Application, tls: ssl.SSLContext | None = None) -> int:
    """Serve the app until the stack closes. Returns the port."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
    addresses: Sequence[tuple[str, int]] = runner.addresses
    return addresses[0][1]


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None, inner: str | None = None
) -> web.Response:
    error = {"code": code, "message": message} | ({"innererror": {"code": inner}} if inner else {})
    return web.json_response({"error": error}, status=status, headers=headers)

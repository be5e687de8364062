"""
Requests to customers' AI endpoints: sent, bounded, tried again, and every failure mapped.

The only module that knows httpx, and the only one that reveals a key. One client serves all
customers; under it lies aiohttp, because httpx's own pool walks its whole list of connections at
every change (docs/architecture.md has the figures).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from shared.contract.decoding import has_more_containers
from shared.contract.job import Options
from shared.errors import (
    ConnectionInvalid,
    ProviderUnavailable,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.secret import Secret, redact
from shared.upstream.egress_policy import check_public
from shared.upstream.error_mapping import map_error, read_request_id, read_retry_after
from shared.upstream.guarded_session import open_guarded_session
from shared.upstream.messages import (
    Access,
    ApiKey,
    Attempt,
    EntraAccess,
    Final,
    Receipt,
    Reply,
    TokenSource,
    UpstreamRequest,
    never,
)
from shared.upstream.retry import SIT_OUT_S, is_retry, next_wait, told_wait

CONNECT_S = 10.0
BACKOFF_S = 10.0
"""The same for waits that have grown: the usual retries of a job stay in one run."""
REPLY_LIMIT = 64 * 1024 * 1024
"""Bytes of an answer, decompressed, beyond which it is given up."""
MOST_OPENED = 2_000_000
"""Lists and objects in an answer of JSON, which take up to 0.4 GB as Python's; logprobs fill REPLY_LIMIT with fewer."""
LONGEST_WAIT_S = 7 * 24 * 3600.0
"""The longest that a message can be hidden in a queue; an endpoint that asks for more gets this."""
_CREDENTIAL_HEADERS = {"api-key", "authorization"}
"""Set here alone: one that a request brings along, in whatever case, is not sent."""
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""In aiohttp's words, since the adapter calls a connection that broke off later a `ConnectTimeout` too."""


def _none() -> int:
    return 0


def _unwatched(_: int) -> AbstractContextManager[None]:
    return nullcontext()


class Transport:
    """The one way out to customers' endpoints. Make it within the running loop; `close` it at the end."""

    def __init__(self, tokens: TokenSource, *, allow_local: bool = False, allow_private: bool = False) -> None:
        self._client = _open_client(allow_local=allow_local, allow_private=allow_private)
        self._tokens = tokens
        self._allow_local = allow_local
        self._allow_private = allow_private
        self._public: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Closes every connection."""
        await self._client.aclose()
        if self._public is not None:
            await self._public.aclose()

    async def send(
        self,
        request: UpstreamRequest,
        access: Access,
        options: Options,
        *,
        until: float,
        last_try: float | None = None,
        retries: int = 0,
        attempt: Attempt = _unwatched,
        final: Final = never,
        progress: Callable[[], int] = _none,
    ) -> Reply:
        """
        The endpoint's 2xx answer to `request`, tried again as `options` say, unless an error is `final`; `retries`
        are used up already. Each try is made within `attempt`, which may raise instead of letting it be made.
        `progress`: how many such calls have been answered, for other jobs as well; see `waits.is_retry`.

        No try lasts beyond `until`, and no retry begins after `last_try` (None: `until`), both on
        `time.monotonic()`'s clock: what would, raises UpstreamRetryLater, as does a wait that is too long. Any
        other failure raises its UpstreamError, or ConnectionInvalid where the address is none that may be called.
        """
        ends = (until, until if last_try is None else last_try)
        try:
            return await self._send(request, access, options, ends, retries, attempt, final, progress)
        except httpx.InvalidURL as exc:
            raise ConnectionInvalid("The `endpoint` leads to a URL that is none.") from exc
        except ConnectionInvalid as exc:
            raise ConnectionInvalid(_without_key(str(exc), access)) from None

    async def fetch(
        self, url: str, options: Options, *, until: float, last_try: float | None = None, retries: int = 0
    ) -> Reply:
        """
        What lies at an address that a provider's answer has named, such as that of a picture.

        Asked for without any credential, at a public host over https (over http on loopback where that
        is allowed); redirects are not followed. As `send`, but every failure is ProviderUnavailable or
        UpstreamTimeout: what another host says tells nothing of the customer's key or account.
        """
        try:
            check_public(url, allow_local=self._allow_local)
            ends = (until, until if last_try is None else last_try)
            return await self._send(UpstreamRequest("GET", url), None, options, ends, retries)
        except (ConnectionInvalid, httpx.InvalidURL) as exc:
            raise ProviderUnavailable("The endpoint's answer named an address that may not be called.") from exc

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Receipt:
        """
        What somebody whose address a job has named answers to `body`, which is sent once and with no credential.

        As `fetch`, it goes to a public host over https; private addresses are refused even where customers' endpoints
        may have some, since no list says which. Of the answer nothing but the status and the time to wait is read.
        Raises ConnectionInvalid where the address is none that may be called, UpstreamTimeout, ProviderUnavailable.
        """
        host = check_public(url, allow_local=self._allow_local, member="callback")
        timeout = httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
        try:
            with _said_of(host, timeout_s):
                async with asyncio.timeout(timeout_s):
                    request = self._strict().build_request("POST", url, content=body, headers=headers, timeout=timeout)
                    response = await self._strict().send(request, stream=True)
                    await response.aclose()
        except (ConnectionInvalid, httpx.InvalidURL):
            # The words of whoever found it are about a connection's `endpoint`.
            raise ConnectionInvalid("The `callback` leads to an address that may not be called.") from None
        return Receipt(response.status_code, read_retry_after(response.headers))

    def _strict(self) -> httpx.AsyncClient:
        if not self._allow_private:
            return self._client
        if self._public is None:
            self._public = _open_client(allow_local=self._allow_local, allow_private=False)
        return self._public

    async def _send(
        self,
        request: UpstreamRequest,
        access: Access | None,
        options: Options,
        ends: tuple[float, float],
        retries: int,
        attempt: Attempt = _unwatched,
        final: Final = never,
        progress: Callable[[], int] = _none,
    ) -> Reply:
        until, last_try = ends
        waits, answered = 0, progress()
        while True:
            try:
                with attempt(retries):
                    return await self._send_once(request, access, min(options.timeout_s, until - time.monotonic()))
            except UpstreamError as error:
                moves_on, answered = progress() > answered, progress()
                wait = None if final(error) else next_wait(error, retries, options, waits=waits, moves_on=moves_on)
                if wait is None:
                    raise
                told = told_wait(error)
                retries += is_retry(error, moves_on=moves_on)
                waits += told is not None
                too_long = wait > BACKOFF_S or (told or 0) > SIT_OUT_S
                if too_long or time.monotonic() + wait >= last_try:
                    raise UpstreamRetryLater(error, min(wait, LONGEST_WAIT_S), retries) from error
            await asyncio.sleep(wait)

    async def _send_once(self, request: UpstreamRequest, access: Access | None, timeout_s: float) -> Reply:
        host = _without_key(httpx.URL(request.url).host, access)
        with _said_of(host, timeout_s) as sending:
            async with asyncio.timeout(timeout_s):
                credential, header = await self._credential(access) if access else (None, None)
                sending.begun = access is not None
                status, headers, body = await self._exchange(request, header, host, timeout_s)
        if credential is not None:  # some gateways quote what they were sent
            headers = {name: redact(text, credential) for name, text in headers.items()}
            body = redact(body, credential)
        if "json" in headers.get("content-type", "") and has_more_containers(body, MOST_OPENED):
            # Decoded, it would take many times its size.
            raise ProviderUnavailable(
                f"{host} answered with JSON of more than {MOST_OPENED:,} lists and objects.",
                UpstreamFacts(status=status, unanswered=sending.begun and 200 <= status < 300),  # noqa: PLR2004
            )
        if not 200 <= status < 300:  # noqa: PLR2004
            error = map_error(status, headers, body)
            raise error if access else ProviderUnavailable(f"{host} did not give it ({status}).", error.facts)
        return Reply(status, headers, body, read_request_id(headers))

    async def _exchange(
        self, request: UpstreamRequest, header: tuple[str, str] | None, host: str, timeout_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        files = {name: (part.filename, part.content, part.content_type) for name, part in request.files.items()}
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _CREDENTIAL_HEADERS}
        # Without a credential it is an address that an answer has named: never one inside.
        client = self._strict() if header is None else self._client
        outgoing = client.build_request(
            request.method,
            request.url,
            content=request.content or None,
            data=request.form or None,
            files=files or None,
            headers=headers if header is None else {**headers, header[0]: header[1]},
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        )
        outgoing.read()  # a form is encoded piece by piece otherwise, and sent without need in as many writes
        response = await client.send(outgoing, stream=True)
        try:
            if "," in response.headers.get("content-encoding", ""):
                # Packed twice, a few bytes could unpack to gigabytes before anyone counts them.
                raise ProviderUnavailable(
                    f"{host} answered with more than one content encoding.",
                    UpstreamFacts(status=response.status_code, unanswered=response.is_success),
                )
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > REPLY_LIMIT:
                    raise ProviderUnavailable(
                        f"{host} answered with more than {REPLY_LIMIT >> 20} MiB.",
                        UpstreamFacts(status=response.status_code, unanswered=response.is_success),
                    )
                chunks.append(chunk)
        finally:
            await response.aclose()
        return response.status_code, dict(response.headers), b"".join(chunks)

    async def _credential(self, access: Access) -> tuple[Secret, tuple[str, str]]:
        if isinstance(access, EntraAccess):
            token = await self._tokens.token(access.scope, access.tenant_id)
            return token, ("authorization", f"Bearer {token.reveal()}")
        if access.header == "authorization":
            return access.key, ("authorization", f"Bearer {access.key.reveal()}")
        return access.key, (access.header, access.key.reveal())


def _open_client(*, allow_local: bool, allow_private: bool) -> httpx.AsyncClient:
    session = open_guarded_session(allow_local=allow_local, allow_private=allow_private)
    # The session has its own TLS context. The one that the adapter insists on is left empty, which
    # trusts nobody: httpx's default would cost a cold start 20 ms and never be used.
    under = AiohttpTransport(client=session, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return httpx.AsyncClient(
        transport=under,
        headers={"user-agent": "customer-ai-jobs"},
        # Keeps none: a cookie of one customer's call would go out with the next customer's.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        trust_env=False,
        follow_redirects=False,
    )


def _without_key(text: str, access: Access | None) -> str:
    # Somebody may have pasted the key into the host's name.
    return redact(text, access.key) if isinstance(access, ApiKey) else text


@dataclass(slots=True)
class _Sending:
    """A request under way."""

    begun: bool = False
    """Whether it may have gone out, and be paid for."""


@contextmanager
def _said_of(host: str, timeout_s: float) -> Iterator[_Sending]:
    """Whatever keeps an answer from coming, as one of our errors."""
    sending = _Sending()
    try:
        yield sending
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as exc:
        facts = UpstreamFacts(transient=True, unanswered=sending.begun)
        raise UpstreamTimeout(f"{host} gave no answer within {timeout_s:.3g} s.", facts) from exc
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
        # The adapter hands on some of aiohttp's errors as they are, and calls others what they are not.
        cause = exc.__cause__ or exc
        facts = UpstreamFacts(transient=True, unanswered=sending.begun and not isinstance(cause, _NOT_SENT))
        raise ProviderUnavailable(
            f"{host} could not be reached, or broke off ({type(cause).__name__}).", facts
        ) from exc

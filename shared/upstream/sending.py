"""A request that is being sent to an endpoint: whether it may be billed yet, and what prevents its response."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from shared.errors import ProviderUnavailable, UpstreamFacts, UpstreamTimeout
from shared.network.response import ExchangeFailed, Head, Malformed, NotReached
from shared.secret import Secret, redact
from shared.upstream.messages import Access, ApiKey
from shared.upstream.outgoing import Target

Begin = Callable[[], None]


def do_nothing() -> None:
    """Nobody has to know that a request begins."""


@dataclass(slots=True)
class Sending:
    """A request: how errors name its host, and whether it has begun to be sent, and so may be billed."""

    host: str
    begin: Begin
    """Called right before the first byte is sent; if it raises, none is."""
    has_begun: bool = False
    is_whole: bool = True
    """A part of a request is not billed: the endpoint has not got what it would be billed for."""

    def start(self) -> None:
        """Note that the first byte is sent next."""
        self.begin()
        self.has_begun = True


def mapped_errors(
    host: str, target: Target, timeout_s: float, begin: Begin = do_nothing
) -> AbstractContextManager[Sending]:
    """Raise whatever prevents a response as one of our errors."""
    return mapped_step(Sending(host, begin), target, timeout_s)


@contextmanager
def mapped_step(sending: Sending, target: Target, timeout_s: float) -> Iterator[Sending]:
    """Do the same for one of several steps of a request."""
    host = sending.host
    try:
        yield sending
    except TimeoutError as exc:
        if not sending.has_begun:
            message = f"The request to {host} could not be sent within {timeout_s:.3g} s."
            raise UpstreamTimeout(message, UpstreamFacts(transient=True, unsent=True)) from exc
        if not sending.is_whole:
            message = f"{host} took no more of the request for {timeout_s:.3g} s."
            raise UpstreamTimeout(message, UpstreamFacts(transient=True)) from exc
        facts = UpstreamFacts(transient=True, unanswered=True)
        raise UpstreamTimeout(f"{host} did not answer within {timeout_s:.3g} s.", facts) from exc
    except Malformed as exc:
        message = f"{host} sent a response that is not valid HTTP ({exc})."
        raise ProviderUnavailable(message, UpstreamFacts(unanswered=sending.is_whole)) from exc
    except ExchangeFailed as exc:
        port = target.host.port
        address = host if port in (80, 443) or not isinstance(exc, NotReached) else f"{host}:{port}"
        reason = f"{address} could not be reached, or closed the connection early ({exc})."
        is_billed = sending.has_begun and sending.is_whole
        raise ProviderUnavailable(reason, UpstreamFacts(transient=True, unanswered=is_billed)) from exc


def without_key(text: str, access: Access) -> str:
    """Return a text without the key, which may have been pasted into the host name."""
    return redact(text, access.key) if isinstance(access, ApiKey) else text


def redact_headers(head: Head, secret: Secret) -> None:
    """Take the credential out of a response's headers."""
    if redact(text := "\n".join(head.headers.values()), secret) != text:
        head.headers = {name: redact(text, secret) for name, text in head.headers.items()}

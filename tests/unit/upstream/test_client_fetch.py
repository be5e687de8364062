"""Getting what is at a URL that a response named, such as an image: without a key, and only from public hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import ProviderUnavailable, UpstreamRetryLater
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey, Response
from tests.support.clients import open_client
from tests.support.contexts import context_of
from tests.support.image_host import ImageHost, open_image_host
from tests.support.image_samples import PNG


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def image_host() -> AsyncIterator[ImageHost]:
    """A host of images."""
    async with open_image_host() as host:
        yield host


async def fetch(client: UpstreamClient, url: str) -> Response:
    """Fetch a URL with a job's retries."""
    return await context_of(client, "http://127.0.0.1", ApiKey("api-key", Secret("k"))).fetch(url)


async def test_loopback_is_fetched_only_if_it_is_allowed(image_host: ImageHost):
    """A URL on this machine is fetched if ALLOW_LOCAL_ENDPOINTS is on, and refused otherwise."""
    async with open_client() as client:
        assert PNG == (await fetch(client, f"{image_host.url}/x")).body
    async with open_client(allow_local=False) as client:
        with pytest.raises(ProviderUnavailable, match="is not allowed"):
            await fetch(client, f"{image_host.url}/x")


async def test_temporary_failure_is_retried(image_host: ImageHost):
    """A fetch that failed temporarily is tried again; for a wait that is too long for a call, the job is requeued."""
    image_host.answers["/flaky"] = [web.Response(status=503, headers={"retry-after-ms": "1"})]
    image_host.answers["/later"] = [web.Response(status=503, headers={"retry-after": "90"})]
    async with open_client() as client:
        assert PNG == (await fetch(client, f"{image_host.url}/flaky")).body
        with pytest.raises(UpstreamRetryLater) as wait:
            await fetch(client, f"{image_host.url}/later")

    assert (90, ProviderUnavailable) == (wait.value.delay_s, type(wait.value.reason))


async def test_too_large_body_is_refused(image_host: ImageHost, monkeypatch: pytest.MonkeyPatch):
    """A body that exceeds the limit of responses is refused."""
    monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 1000)
    image_host.answers["/large"] = [web.Response(body=b"x" * 2000)]
    async with open_client() as client:
        with pytest.raises(ProviderUnavailable, match="more than"):
            await fetch(client, f"{image_host.url}/large")

"""`image` from the message to the result: blobs, steps and usage records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.endpoint import Answer, images, reply
from tests.support.harness import Harness
from tests.support.image_host import ImageHost, open_image_host
from tests.support.image_samples import JPEG, PNG


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def image_host() -> AsyncIterator[ImageHost]:
    """A host of images at URLs."""
    async with open_image_host() as host:
        yield host


async def blob_of(harness: Harness, blob: dict[str, Any]) -> tuple[bytes, str]:
    """Return a blob's bytes and media type."""
    blobs, where = harness.services.blobs, (blob["container"], blob["name"])
    data, properties = await blobs.read(*where, 10**6), await blobs.properties(*where)
    assert data is not None
    assert properties is not None
    return data, properties.content_type


def job(**members: Any) -> dict[str, Any]:
    """Return the members of an image job; `members` are its input's."""
    return {"action": "image", "input": {"prompt": "A cat"} | members}


def urls(*image_urls: str) -> Answer:
    """Answer with URLs, as DALL-E models do, and without usage."""
    return reply({"created": 1, "data": [{"url": url, "revised_prompt": "A grey cat"} for url in image_urls]})


async def test_images_become_blobs(harness: Harness):
    """Each image is a blob of its bytes, with its real type in the name, and its size in pixels in the result."""
    customer = harness.customer()
    customer.account.will_answer(images(PNG, JPEG, size="1024x1024", quality="high", background="opaque"))

    result = await customer.run(
        job_id="drawn", **job(n=2, size="1024x1024", quality="high", parameters={"background": "opaque"})
    )

    output = result["output"]
    assert ("succeeded", 0) == (result["status"], output["failed"])
    assert ("1024x1024", "high", "opaque") == (output["size"], output["quality"], output["background"])
    for k, (data, extension, size) in enumerate(((PNG, "png", (5, 3)), (JPEG, "jpeg", (640, 480))), 1):
        image = output["images"][k - 1]
        assert (k - 1, *size) == (image["index"], image["width"], image["height"])
        assert {
            "container": harness.environment["RESULTS_CONTAINER"],
            "name": f"{customer.name}/drawn/image-{k}.{extension}",
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "content_type": f"image/{extension}",
        } == image["blob"]
        assert (data, f"image/{extension}") == await blob_of(harness, image["blob"])
    (received,) = customer.account.received
    assert {
        "model": "gpt-4o",
        "prompt": "A cat",
        "n": 2,
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
    } == received.json
    assert {"calls": 1, "input_tokens": 9, "output_tokens": 272, "images": 2}.items() <= result["usage"].items()
    (record,) = await customer.usage()
    assert (2, 272, True) == (record["images"], record["output_tokens"], record["reported"])
    rows = {row["RowKey"]: row for row in await customer.rows()}
    assert f"u_{datetime.now(UTC):%Y-%m-%d}_drawn_{rows['j_drawn']['incarnation']}_whole" == record["RowKey"]
    assert ["s_drawn~whole"] == [key for key in rows if key.startswith("s_")]
    stored = json.loads(rows["s_drawn~whole"]["value"])["images"]  # the names of the blobs, and not their bytes
    assert [{"index": index} | image for index, image in enumerate(stored)] == output["images"]


async def test_url_is_fetched_without_a_key(harness: Harness, image_host: ImageHost):
    """An image at a URL is fetched with its signed query unchanged, without any key, and is billed once."""
    customer = harness.customer()
    path = f"/{customer.name}.png?sig=a%2Bb%3D&se=2026-11-20T15%3A00%3A00Z"
    customer.account.will_answer(urls(image_host.url + path))

    result = await customer.run(**job())

    (image,) = result["output"]["images"]
    assert (PNG, "image/png") == await blob_of(harness, image["blob"])
    assert ("A grey cat", 5) == (image["revised_prompt"], image["width"])
    assert "url" not in image
    ((requested, headers),) = [request for request in image_host.requests if customer.name in request[0]]
    assert (path.partition("&")[0], {"sig": ["a+b="], "se": ["2026-11-20T15:00:00Z"]}) == (
        requested.partition("&")[0],
        parse_qs(urlsplit(requested).query),
    )
    assert {"api-key", "authorization", "cookie"}.isdisjoint(headers)
    assert customer.account.key not in str(headers)
    assert (1, 1) == (result["usage"]["calls"], result["usage"]["images"])
    (record,) = await customer.usage()
    assert (1, False) == (record["images"], record["reported"])


@pytest.mark.parametrize("status", [302, 401, 403, 404])
async def test_url_that_is_refused_fails_its_image(harness: Harness, image_host: ImageHost, status: int):
    """A refusal by an image's host fails that image alone, and is not taken for one of the customer's key."""
    customer = harness.customer()
    image_host.answers[f"/{customer.name}.png"] = [web.Response(status=status, headers={"location": image_host.url})]
    customer.account.will_answer(urls(f"{image_host.url}/{customer.name}.png", f"{image_host.url}/other"))

    result = await customer.run(**job(n=2))

    assert ("partial", 1) == (result["status"], result["output"]["failed"])
    assert "provider_unavailable" == result["output"]["images"][0]["error"]["code"]
    assert "image/png" == result["output"]["images"][1]["blob"]["content_type"]
    assert (1, 2) == (len(customer.account.received), result["usage"]["images"])

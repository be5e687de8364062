"""`image` from the message to the result: blobs, steps and usage records."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from aiohttp import web

from tests.support.endpoint import Answer, error, images, pixels, reply
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
    client = harness.blobs.get_blob_client(blob["container"], blob["name"])
    data = await (await client.download_blob()).readall()
    return data, (await client.get_blob_properties()).content_settings.content_type


def job(**members: Any) -> dict[str, Any]:
    """Return the members of an image job; `members` are its input's."""
    return {"action": "image", "input": {"prompt": "A cat"} | members}


def urls(*image_urls: str) -> Answer:
    """Answer with URLs, as DALL-E models do, and without usage."""
    return reply({"created": 1, "data": [{"url": url, "revised_prompt": "A grey cat"} for url in image_urls]})


async def one_a_call(request: web.Request) -> web.StreamResponse:
    """Refuse more than one image, as DALL-E 3 does; generate one otherwise."""
    if (await request.json()).get("n", 1) > 1:
        return await error(400, "invalid_value", "You must provide n=1 for this model.")(request)
    return await images(PNG, size="1024x1024")(request)


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


async def test_url_that_is_throttled_costs_no_second_call(harness: Harness, image_host: ImageHost):
    """If an image's host requests a long wait, the job is requeued, and its next attempt only fetches the image."""
    customer = harness.customer()
    path = f"/{customer.name}.png"
    image_host.answers[path] = [web.Response(status=503, headers={"retry-after": "3600"})]
    customer.account.will_answer(urls(image_host.url + path))

    assert await customer.deliver(job_id="waits", **job()) is None
    result = await customer.run(job_id="waits", **job())

    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert (1, 1) == (len(customer.account.received), len(await customer.usage()))


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


async def test_model_of_one_image_a_call_is_called_for_each(harness: Harness):
    """A model that refuses `n` is called once for each image; the result says so, and the next job does it at once."""
    customer = harness.customer(default_model="one-a-call")
    customer.account.will_answer(*[one_a_call] * 20)

    first = await customer.run(job_id="first", **job(n=3))
    first_calls = len(customer.account.received)
    second = await customer.run(job_id="second", **job(n=2))

    assert ("succeeded", "succeeded") == (first["status"], second["status"])
    assert [f"image-{k}.png" for k in (1, 2, 3)] == [image["blob"]["name"][-11:] for image in first["output"]["images"]]
    assert ["n became 1, in 3 calls"] == first["output"]["adapted"]
    assert (4, 6) == (first_calls, len(customer.account.received))
    assert (3, 3, 3 * 272) == tuple(first["usage"][name] for name in ("calls", "images", "output_tokens"))
    assert 5 == len(await customer.usage())


async def test_refused_response_format_is_left_out(harness: Harness):
    """If a model refuses `response_format`, the call is repeated without it, and the result says so."""
    customer = harness.customer(default_model="no-response-format")
    refusal = {"code": "unknown_parameter", "message": "Unknown parameter: 'response_format'."}
    customer.account.will_answer(reply({"error": refusal | {"param": "response_format"}}, status=400), images(PNG))

    result = await customer.run(**job(parameters={"response_format": "b64_json"}))

    assert ["response_format was left out"] == result["output"]["adapted"]
    assert 1 == len(result["output"]["images"])


async def test_later_attempt_makes_only_the_missing_calls(harness: Harness):
    """A requeued job keeps its images; its next attempt makes only the calls that are missing."""
    customer = harness.customer(default_model="one-resumed")
    customer.account.will_answer(one_a_call, images(PNG), error(429, retry_after="3600"), one_a_call)

    assert await customer.deliver(job_id="resumed", **job(n=2)) is None
    first_calls = len(customer.account.received)
    result = await customer.run(job_id="resumed", **job(n=2))

    assert ("succeeded", 2) == (result["status"], result["usage"]["images"])
    assert (3, 4, 2) == (first_calls, len(customer.account.received), len(await customer.usage()))


async def test_one_call_for_all_is_not_repeated(harness: Harness, image_host: ImageHost):
    """A job keeps its one call for all images, even if another job learns meanwhile that the model refuses `n`."""
    customer = harness.customer(default_model="whole")
    path = f"/{customer.name}.png"
    image_host.answers[path] = [web.Response(status=503, headers={"retry-after": "3600"})]
    customer.account.will_answer(urls(image_host.url + path, image_host.url), *[one_a_call] * 9)

    assert await customer.deliver(job_id="whole", **job(n=2)) is None
    await customer.run(job_id="another", **job(n=4))
    calls = len(customer.account.received)
    result = await customer.run(job_id="whole", **job(n=2))

    assert ("succeeded", 2) == (result["status"], len(result["output"]["images"]))
    assert calls == len(customer.account.received)


async def test_step_names_the_blobs(harness: Harness):
    """The stored step of a call has the names of its images' blobs, and not their bytes."""
    customer = harness.customer()
    customer.account.will_answer(images(pixels(300, 300)))

    await customer.run(job_id="steps", **job())

    (step,) = [row for row in await customer.rows() if row["RowKey"].startswith("s_")]
    assert "s_steps~whole" == step["RowKey"]
    assert len(step["value"]) < 500
    (record,) = await customer.usage()
    (incarnation,) = [row["incarnation"] for row in await customer.rows() if row["RowKey"] == "j_steps"]
    assert f"u_{datetime.now(UTC):%Y-%m}_steps_{incarnation}_whole" == record["RowKey"]


async def test_filtered_image_has_its_own_error(harness: Harness):
    """If the content filter stops one of two images, it has an error with the verdicts; the other is a blob."""
    customer = harness.customer()
    filtered = {"content_filter_results": {"violence": {"filtered": True, "severity": "high"}}}
    customer.account.will_answer(reply({"data": [filtered, {"b64_json": base64.b64encode(PNG).decode()}]}))

    result = await customer.run(**job(n=2))

    first, second = result["output"]["images"]
    assert ("partial", "content_filtered") == (result["status"], first["error"]["code"])
    assert first["error"]["detail"]["content_filter_result"]["violence"]["filtered"]
    assert second["blob"]["name"].endswith("/image-2.png")
    assert 1 == result["usage"]["images"]


async def test_response_without_images_fails_the_job_and_is_recorded(harness: Harness):
    """A 2xx response without an image fails the job; its call is recorded, without images and a reported usage."""
    customer = harness.customer()
    customer.account.will_answer(reply(b"<html>"))

    result = await customer.run(**job())

    assert ("failed", "provider_unavailable") == (result["status"], result["error"]["code"])
    (record,) = await customer.usage()
    assert (False, 1, 0) == (record["reported"], record["calls"], record["images"])

"""`image`: pictures become blobs of their real bytes, bought once, whatever the provider answers them as."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.image_format import inspect_image
from shared.actions.image_response import parse_images, refuses_n
from shared.billing.usage import Call, total
from shared.connections.endpoint import parse_endpoint
from shared.contract.image import decode_image
from shared.contract.result import Usage
from shared.errors import InvalidJob, ProviderUnavailable, RequestRejected, UpstreamFacts, UpstreamRetryLater
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey, Response
from tests.support.clients import Tokens, opened
from tests.support.contexts import context_of
from tests.support.endpoint import Answer, error, images, pixels, reply
from tests.support.harness import World

PNG = pixels(5, 3)
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640) + b"\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9"
)
GIF = b"GIF89a" + struct.pack("<HH", 300, 7) + b"\0" * 20


def webp(kind: bytes, data: bytes) -> bytes:
    """A WebP file's beginning."""
    chunk = kind + struct.pack("<I", len(data)) + data + b"\0" * 16
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


LOSSY = webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 200, 1))
LOSSLESS = webp(b"VP8L", b"\x2f" + (199 | 0 << 14).to_bytes(4, "little"))
EXTENDED = webp(b"VP8X", b"\x10\0\0\0" + (199).to_bytes(3, "little") + (0).to_bytes(3, "little"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (PNG, ("image/png", "png", 5, 3)),
        (JPEG, ("image/jpeg", "jpeg", 640, 480)),
        (GIF, ("image/gif", "gif", 300, 7)),
        (LOSSY, ("image/webp", "webp", 200, 1)),
        (LOSSLESS, ("image/webp", "webp", 200, 1)),
        (EXTENDED, ("image/webp", "webp", 200, 1)),
        (PNG[:12], ("image/png", "png", None, None)),
        (b"<svg width='5' height='5'/>", ("application/octet-stream", "bin", None, None)),
        (b"", ("application/octet-stream", "bin", None, None)),
        (b"........WEBPVP8 ", ("application/octet-stream", "bin", None, None)),
    ],
)
def test_bytes_tell_what_a_picture_is(data: bytes, expected: tuple[Any, ...]):
    """Media type, ending and pixels come from the bytes; what is no known picture is octets."""
    looks = inspect_image(data)

    assert expected == (looks.content_type, looks.extension, looks.width, looks.height)


@given(st.sampled_from([PNG, JPEG, GIF, LOSSY, LOSSLESS, EXTENDED]), st.integers(0, 60), st.binary(max_size=40))
def test_broken_pictures_are_looked_at_without_harm(picture: bytes, cut: int, rest: bytes):
    """A file that breaks off or goes on as anything has a type and perhaps a size, and raises nothing."""
    looks = inspect_image(picture[:cut] + rest)

    assert (looks.width is None) == (looks.height is None)


def decoded_input(**members: Any) -> Any:
    """An input, decoded."""
    return decode_image(json.dumps({"prompt": "A cat"} | members).encode())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"prompt": " "}, "`input.prompt` must be text that is not blank"),
        ({"n": 0}, "`input.n`"),
        ({"n": 11}, "`input.n`"),
        ({"n": 1.5}, "`input.n`"),
        ({"size": 1024}, "`input.size`"),
        ({"colour": "red"}, "`input.colour` is not a known member"),
        ({"parameters": {"n": 2}}, "set `input.n` instead"),
        ({"parameters": {"prompt": "x"}}, "set `input.prompt` instead"),
        ({"parameters": {"model": "x"}}, "the job's own `model`"),
        ({"parameters": {"stream": False}}, "`input.parameters.stream`"),
        ({"size": "1x1", "parameters": {"size": "2x2"}}, "repeats `input.size`"),
    ],
)
def test_wrong_input_is_refused_by_name(members: dict[str, Any], said: str):
    """What is wrong is named with its path."""
    with pytest.raises(InvalidJob, match=said.replace(".", r"\.")):
        decoded_input(**members)


def test_parameters_may_hold_what_no_member_says():
    """Sizes, qualities and formats pass through from either place, none of them checked."""
    asked = decoded_input(size="3840x16", parameters={"quality": "hd", "x-own": [1]})

    assert asked.parameters == {"size": "3840x16", "quality": "hd", "x-own": [1]}


async def bytes_of(world: World, blob: dict[str, Any]) -> tuple[bytes, str]:
    """A blob's bytes and media type."""
    client = world.blobs.get_blob_client(blob["container"], blob["name"])
    data = await (await client.download_blob()).readall()
    return data, (await client.get_blob_properties()).content_settings.content_type


def job(**members: Any) -> dict[str, Any]:
    """The members of an image job; `members` are its input's."""
    return {"action": "image", "input": {"prompt": "A cat"} | members}


def linked(*urls: str, **more: Any) -> Answer:
    """Answers with addresses, as DALL-E style models do, and without usage."""
    return reply({"created": 1, "data": [{"url": url, "revised_prompt": "A grey cat"} for url in urls]} | more)


@pytest_asyncio.fixture(scope="module")
async def pictures() -> AsyncIterator[Gallery]:
    """A host of pictures that asks for no key."""
    gallery = Gallery()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gallery.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gallery.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield gallery
    await runner.cleanup()


class Gallery:
    """Gives the picture PNG, or what `answers` hold by path, one after the other; keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[web.Response]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def answer(self, request: web.Request) -> web.Response:
        """The answer."""
        self.asked.append((request.raw_path, {name.lower(): text for name, text in request.headers.items()}))
        waiting = self.answers.get(request.path)
        return waiting.pop(0) if waiting else web.Response(body=PNG)


async def test_pictures_become_blobs_of_their_bytes(world: World):
    """Each picture is a blob of its real bytes, type and name, with its size in pixels in the result."""
    customer = world.customer()
    customer.account.will_answer(images(PNG, JPEG, size="1024x1024", quality="high", background="opaque"))

    result = await customer.run(
        job_id="drawn", **job(n=2, size="1024x1024", quality="high", parameters={"background": "opaque"})
    )

    assert result["status"] == "succeeded"
    output = result["output"]
    assert (output["size"], output["quality"], output["background"], output["failed"]) == (
        "1024x1024",
        "high",
        "opaque",
        0,
    )
    for k, (data, ending) in enumerate(((PNG, "png"), (JPEG, "jpeg")), 1):
        image = output["images"][k - 1]
        assert image["blob"] == {
            "container": world.environment["RESULTS_CONTAINER"],
            "name": f"{customer.name}/drawn/image-{k}.{ending}",
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "content_type": f"image/{ending}",
        }
        assert (data, f"image/{ending}") == await bytes_of(world, image["blob"])
    assert [(image["index"], image["width"], image["height"]) for image in output["images"]] == [
        (0, 5, 3),
        (1, 640, 480),
    ]
    (received,) = customer.account.received
    assert received.json == {
        "model": "gpt-4o",
        "prompt": "A cat",
        "n": 2,
        "size": "1024x1024",
        "quality": "high",
        "background": "opaque",
    }
    assert {"calls": 1, "input_tokens": 9, "output_tokens": 272, "images": 2}.items() <= result["usage"].items()
    (record,) = await customer.usage()
    assert (record["images"], record["output_tokens"], record["reported"]) == (2, 272, True)


async def test_prompt_alone_is_sent_alone(world: World):
    """Nothing is added that the caller left out."""
    customer = world.customer()

    await customer.run(**job())

    assert customer.account.received[0].json == {"model": "gpt-4o", "prompt": "A cat"}


async def test_address_is_fetched_without_a_key(world: World, pictures: Gallery):
    """A picture that comes as an address is fetched as it is signed, without any key, and counted."""
    customer = world.customer()
    path = f"/{customer.name}.png?sig=a%2Bb%3D&se=2026-11-20T15%3A00%3A00Z"
    customer.account.will_answer(linked(pictures.url + path))

    result = await customer.run(**job())

    (image,) = result["output"]["images"]
    assert (PNG, "image/png") == await bytes_of(world, image["blob"])
    assert (image["revised_prompt"], image["width"]) == ("A grey cat", 5)
    assert "url" not in image
    ((asked, headers),) = [one for one in pictures.asked if customer.name in one[0]]
    assert (asked.partition("&")[0], parse_qs(urlsplit(asked).query)) == (
        path.partition("&")[0],
        {"sig": ["a+b="], "se": ["2026-11-20T15:00:00Z"]},
    )
    assert {"api-key", "authorization", "cookie"}.isdisjoint(headers)
    assert customer.account.key not in str(headers)
    assert (result["usage"]["calls"], result["usage"]["images"]) == (1, 1)
    (record,) = await customer.usage()
    assert (record["images"], record["reported"]) == (1, False)


async def test_address_that_has_to_wait_is_not_bought_again(world: World, pictures: Gallery):
    """Where the address asks for a long wait, the job goes back into the queue, and its next run only fetches."""
    customer = world.customer()
    path = f"/{customer.name}.png"
    pictures.answers[path] = [web.Response(status=503, headers={"retry-after": "3600"})]
    customer.account.will_answer(linked(pictures.url + path))

    assert await customer.deliver(job_id="waits", **job()) is None
    result = await customer.run(job_id="waits", **job())

    assert (result["status"], result["attempts"]) == ("succeeded", 2)
    assert len(customer.account.received) == 1
    assert len(await customer.usage()) == 1


@pytest.mark.parametrize("status", [302, 401, 403, 404])
async def test_address_that_gives_nothing_fails_its_picture(world: World, pictures: Gallery, status: int):
    """What the host of a picture says is not the customer's endpoint speaking: no key is doubted for it."""
    customer = world.customer()
    pictures.answers[f"/{customer.name}.png"] = [web.Response(status=status, headers={"location": pictures.url})]
    customer.account.will_answer(linked(f"{pictures.url}/{customer.name}.png", f"{pictures.url}/other"))

    result = await customer.run(**job(n=2))

    assert (result["status"], result["output"]["failed"]) == ("partial", 1)
    assert result["output"]["images"][0]["error"]["code"] == "provider_unavailable"
    assert result["output"]["images"][1]["blob"]["content_type"] == "image/png"
    assert (len(customer.account.received), result["usage"]["images"]) == (1, 2)


@pytest.mark.parametrize(
    "url",
    [
        "http://pictures.example.com/a.png",
        "https://10.0.0.5/a.png",
        "https://169.254.169.254/metadata",
        "https://localhost.localdomain@evil.example/a",
        "ftp://pictures.example.com/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "https://" + "a" * 70_000,
    ],
)
async def test_addresses_that_may_not_be_called_are_not(url: str):
    """Only https to a public name is fetched: no plain http, no literal address, no other scheme."""
    async with opened(Tokens()) as transport:
        with pytest.raises(ProviderUnavailable):
            await transport.fetch(url, timeout_s=5)


async def test_loopback_is_fetched_only_where_it_is_allowed(pictures: Gallery):
    """A picture on this machine is fetched where ALLOW_LOCAL_ENDPOINTS is on, and refused elsewhere."""
    async with opened(Tokens()) as transport:
        assert (await fetched(transport, f"{pictures.url}/x")).body == PNG
    async with opened(Tokens(), allow_local=False) as transport:
        with pytest.raises(ProviderUnavailable, match="may not be called"):
            await fetched(transport, f"{pictures.url}/x")


async def test_fetch_is_tried_again_and_bounded(pictures: Gallery, monkeypatch: pytest.MonkeyPatch):
    """A fetch that failed for the moment is tried again; a long wait postpones; an endless picture is given up."""
    pictures.answers["/flaky"] = [web.Response(status=503, headers={"retry-after-ms": "1"})]
    pictures.answers["/later"] = [web.Response(status=503, headers={"retry-after": "90"})]
    pictures.answers["/large"] = [web.Response(body=b"x" * 2000)]
    async with opened(Tokens()) as transport:
        assert (await fetched(transport, f"{pictures.url}/flaky")).body == PNG
        with pytest.raises(UpstreamRetryLater) as wait:
            await fetched(transport, f"{pictures.url}/later")
        monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 1000)
        with pytest.raises(ProviderUnavailable, match="more than"):
            await fetched(transport, f"{pictures.url}/large")

    assert (wait.value.delay_s, type(wait.value.reason)) == (90, ProviderUnavailable)


async def fetched(client: UpstreamClient, url: str) -> Response:
    """What lies there, with a job's retries."""
    return await context_of(client, "http://127.0.0.1", ApiKey("api-key", Secret("k"))).fetch(url)


def one_at_a_time(param: str | None = None, message: str = "You must provide n=1 for this model.") -> Answer:
    """Refuses more than one picture, as DALL-E 3 does; makes one otherwise."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if (await request.json()).get("n", 1) > 1:
            body = {"error": {"code": "invalid_value", "message": message, "param": param, "type": "invalid"}}
            return await reply(body, status=400)(request)
        return await images(PNG, size="1024x1024")(request)

    return answer


@pytest.mark.parametrize(
    ("param", "message"),
    [("n", "Out of range."), (None, "You must provide n=1 for this model."), (None, "Bad value of n")],
)
async def test_model_of_one_picture_is_asked_as_often(world: World, param: str | None, message: str):
    """A model that refuses `n` is asked once a picture; the result says so, and the next job does it at once."""
    customer = world.customer(default_model=f"one-{param}-{len(message)}")
    customer.account.will_answer(*[one_at_a_time(param, message)] * 20)

    first = await customer.run(job_id="first", **job(n=3))
    asked_first = len(customer.account.received)
    second = await customer.run(job_id="second", **job(n=2))

    assert (first["status"], second["status"]) == ("succeeded", "succeeded")
    assert [image["blob"]["name"][-11:] for image in first["output"]["images"]] == [f"image-{k}.png" for k in (1, 2, 3)]
    assert first["output"]["adapted"] == ["n became 1, in 3 calls"]
    assert first["output"]["size"] == "1024x1024"
    assert (asked_first, len(customer.account.received)) == (4, 6)
    assert "n" not in customer.account.received[-1].json
    assert (first["usage"]["calls"], first["usage"]["images"], first["usage"]["output_tokens"]) == (3, 3, 3 * 272)
    assert len(await customer.usage()) == 5


async def test_strict_job_asks_for_n_as_it_is(world: World):
    """A strict job fails where the model refuses `n`, also where that is known."""
    customer = world.customer(default_model="one-strict")
    customer.account.will_answer(*[one_at_a_time("n")] * 9)
    await customer.run(**job(n=2))
    before = len(customer.account.received)

    result = await customer.run(**job(n=2), options={"strict": True})

    assert (result["status"], result["error"]["code"]) == ("failed", "request_rejected")
    assert len(customer.account.received) == before + 1


async def test_other_refusals_are_not_taken_for_n(world: World):
    """A refusal that does not speak of `n` fails the job after one call."""
    customer = world.customer()
    customer.account.will_answer(error(400, "invalid_size", "The size 1x1 is not one of this model's."))

    result = await customer.run(**job(n=3, size="1x1"))

    assert result["error"]["code"] == "request_rejected"
    assert len(customer.account.received) == 1


def test_refusals_of_n_are_known_by_param_or_words():
    """A refusal is of `n` if its param says so, or its words do, and it is a refusal of the request."""
    for words in ("Invalid 'n': must be 1", "You must provide n=1", "n_not: invalid value of n", "`n` is 4"):
        assert refuses_n(RequestRejected(words, UpstreamFacts(status=400)))
    for words in ("Invalid 'name'", "An unknown thing", "in 1 of 5", "size must be n x m", "n-gram"):
        assert not refuses_n(RequestRejected(words, UpstreamFacts(status=400)))
    assert not refuses_n(RequestRejected("n=1", UpstreamFacts(status=404)))


async def test_response_format_is_left_out_where_it_is_refused(world: World):
    """`response_format`, which GPT image models refuse, is dropped once, and the result says so."""
    customer = world.customer(default_model="no-response-format")
    refusal = {"code": "unknown_parameter", "message": "Unknown parameter: 'response_format'."}
    customer.account.will_answer(reply({"error": refusal | {"param": "response_format"}}, status=400), images(PNG))

    result = await customer.run(**job(parameters={"response_format": "b64_json"}))

    assert result["output"]["adapted"] == ["response_format was left out"]
    assert len(result["output"]["images"]) == 1


async def test_job_of_many_calls_buys_only_what_is_missing(world: World):
    """A job that has to wait keeps the pictures it has; its next run buys the others alone."""
    customer = world.customer(default_model="one-resumed")
    customer.account.will_answer(
        one_at_a_time("n"), images(PNG), error(429, retry_after="3600"), *[one_at_a_time("n")] * 9
    )

    assert await customer.deliver(job_id="resumed", **job(n=2)) is None
    asked = len(customer.account.received)
    result = await customer.run(job_id="resumed", **job(n=2))

    assert (result["status"], result["usage"]["images"]) == ("succeeded", 2)
    assert (asked, len(customer.account.received)) == (3, 4)
    assert len(await customer.usage()) == 2


async def test_whole_call_is_not_bought_again_once_the_model_is_known_for_one(world: World, pictures: Gallery):
    """A job whose one call for all was answered stays with it, whatever is learned of `n` before its next run."""
    customer = world.customer(default_model="whole")
    path = f"/{customer.name}.png"
    pictures.answers[path] = [web.Response(status=503, headers={"retry-after": "3600"})]
    customer.account.will_answer(linked(pictures.url + path, pictures.url), *[one_at_a_time("n")] * 9)

    assert await customer.deliver(job_id="whole", **job(n=2)) is None
    await customer.run(job_id="another", **job(n=4))
    asked = len(customer.account.received)
    result = await customer.run(job_id="whole", **job(n=2))

    assert (result["status"], len(result["output"]["images"])) == ("succeeded", 2)
    assert len(customer.account.received) == asked


async def test_step_holds_no_picture_and_keys_are_plain(world: World):
    """What is stored of a call names the blobs and does not hold them."""
    customer = world.customer()
    customer.account.will_answer(images(pixels(300, 300)))

    await customer.run(job_id="steps", **job())

    (step,) = [row for row in await customer.rows() if row["RowKey"].startswith("s_")]
    assert step["RowKey"] == "s_steps~whole"
    assert len(step["value"]) < 500
    (record,) = await customer.usage()
    (nonce,) = [row["incarnation"] for row in await customer.rows() if row["RowKey"] == "j_steps"]
    assert record["RowKey"] == f"u_{datetime.now(UTC):%Y-%m}_steps_{nonce}_whole"


FILTERED = {"content_filter_results": {"violence": {"filtered": True, "severity": "high"}}}


@pytest.mark.parametrize(
    "item", [FILTERED, {"error": {"code": "contentFilter"}}, {"error": {"code": "moderation_blocked"}}]
)
async def test_filtered_picture_is_an_error_of_its_own(world: World, item: dict[str, Any]):
    """One of two pictures that the filter stopped has an error with its verdicts; the other is delivered."""
    customer = world.customer()
    data = [item, {"b64_json": base64.b64encode(PNG).decode()}]
    customer.account.will_answer(reply({"data": data}))

    result = await customer.run(**job(n=2))

    first, second = result["output"]["images"]
    assert (result["status"], first["error"]["code"]) == ("partial", "content_filtered")
    assert item is not FILTERED or first["error"]["detail"]["content_filter_result"]["violence"]["filtered"]
    assert second["blob"]["name"].endswith("/image-2.png")
    assert result["usage"]["images"] == 1


async def test_refused_prompt_is_content_filtered(world: World):
    """A prompt that moderation blocks fails the job as `content_filtered`, and nothing is billed."""
    customer = world.customer()
    customer.account.will_answer(error(400, "moderation_blocked", "Your request was rejected by the safety system."))

    result = await customer.run(**job())

    assert (result["status"], result["error"]["code"]) == ("failed", "content_filtered")
    assert await customer.usage() == []


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"data": 3}', b'{"data": [{"b64_json": "&"}]}', b'{"data": [7]}']
)
async def test_answer_without_pictures_is_failed_and_counted(world: World, body: bytes):
    """A 2xx answer that holds no picture fails the job and leaves a record that a call was made."""
    customer = world.customer()
    customer.account.will_answer(reply(body))

    result = await customer.run(**job())

    assert (result["status"], result["error"]["code"]) == ("failed", "provider_unavailable")
    (record,) = await customer.usage()
    assert (record["reported"], record["calls"], record["images"]) == (False, 1, 0)


async def test_fewer_pictures_than_asked_are_partial(world: World):
    """Where the answer holds fewer pictures than asked for, the missing ones have errors."""
    customer = world.customer()
    customer.account.will_answer(images(PNG))

    result = await customer.run(**job(n=3))

    assert (result["status"], result["output"]["failed"]) == ("partial", 2)
    assert "1 of 3" in result["output"]["images"][2]["error"]["message"]


async def test_models_route_is_refused_before_any_call(world: World):
    """Foundry's models route has no images: the job fails at once and says which connection would be right."""
    customer = world.customer(endpoint=f"{world.endpoint.url}/models", provider="foundry")

    result = await customer.run(**job())

    assert result["error"]["code"] == "connection_invalid"
    assert "/openai/v1" in result["error"]["message"]
    assert customer.account.received == []


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ({"endpoint": "{}/openai/deployments/d"}, {"api-version": "2025-04-01-preview"}),
        ({"endpoint": "{}/openai/deployments/d", "api_version": "2024-10-21"}, {"api-version": "2024-10-21"}),
        ({"endpoint": "{}/openai/deployments/d?api-version=2025-03-01"}, {"api-version": "2025-03-01"}),
        ({"endpoint": "{}/openai/v1"}, {}),
        ({"endpoint": "{}/openai/v1", "api_version": "preview"}, {"api-version": "preview"}),
    ],
)
async def test_version_is_the_one_that_images_need(world: World, secret: dict[str, str], expected: dict[str, str]):
    """The deployment style is asked at the preview that images need, unless the connection names a version."""
    secret = {**secret, "endpoint": secret["endpoint"].format(world.endpoint.url)}
    customer = world.customer(**secret)

    await customer.run(**job())
    await customer.run()

    image, chat = customer.account.received
    assert image.query == expected
    assert chat.query == (expected if "2025-04" not in str(expected) else {"api-version": "2024-10-21"})


def test_suited_endpoint_is_else_the_same():
    """Only the version differs, and only for images in the deployment style."""
    endpoint = parse_endpoint("https://r.openai.azure.com")

    assert endpoint.for_operation("embeddings") is endpoint
    assert endpoint.for_operation("images/generations").url("images/generations", "d") == (
        "https://r.openai.azure.com/openai/deployments/d/images/generations?api-version=2025-04-01-preview"
    )


def test_pictures_are_counted_beside_tokens():
    """A call's pictures are counted whether or not the provider told its tokens."""
    calls = [Call(None, images=2), Call(Usage(calls=1, input_tokens=5), images=1)]

    assert Usage(calls=2, input_tokens=5, images=3) == total(calls)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["data", "b64_json", "url", "error", "usage", "content_filter_results", "code"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.integers(1, 10),
)
def test_any_answer_gives_as_many_places_as_asked(said: Any, count: int):
    """Whatever a provider answers, each picture asked for is there, by its bytes, its address or its error."""
    made = parse_images(Response(200, {}, json.dumps(said).encode(), None), count)

    assert len(made.images) == count
    assert all(len({"data", "url", "error"} & set(picture)) == 1 for picture in made.images)
    assert made.call.images == sum("error" not in picture for picture in made.images)

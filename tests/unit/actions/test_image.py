"""`image`: calls and outcomes, on a context in memory."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions import image
from shared.actions.base import Deferred
from shared.errors import ConnectionInvalid, RateLimited, RequestRejected, UpstreamFacts, UpstreamRetryLater
from shared.upstream.messages import Operation, Response
from tests.support.image_samples import PNG
from tests.support.memory_context import MemoryContext, in_turn, response, run_action

IMAGE_URL = "https://images.example.com/a.png"


def images(count: int, **members: Any) -> Response:
    """Return a response with images at a URL."""
    return response({"data": [{"url": IMAGE_URL}] * count} | members)


def one_a_call(operation: Operation) -> Response:
    """Refuse more than one image, as DALL-E 3 does."""
    if operation.body.get("n", 1) > 1:
        raise RequestRejected("You must provide n=1 for this model.", UpstreamFacts(400))
    return images(1, size="1024x1024")


FILTERED = {"content_filter_results": {"violence": {"filtered": True}}}
NO_IMAGE = "provider_unavailable"


@pytest.mark.parametrize(
    ("answer", "codes", "status"),
    [
        ({"data": [{"url": IMAGE_URL}]}, [None, NO_IMAGE, NO_IMAGE], "partial"),
        ({"data": [FILTERED, {"url": IMAGE_URL}, {"url": IMAGE_URL}]}, ["content_filtered", None, None], "partial"),
        (b"<html>", [NO_IMAGE] * 3, "failed"),
    ],
    ids=["fewer", "filtered", "none"],
)
async def test_missing_image_has_an_error(answer: Any, codes: list[str | None], status: str):
    """If a response lacks images, the others are blobs by their number. Without any the job fails; it is billed."""
    ctx = MemoryContext(in_turn(response(answer)), pages={IMAGE_URL: response(PNG)})

    outcome = await run_action(image, {"prompt": "A cat", "n": 3}, ctx)

    assert codes == [item.get("error", {}).get("code") for item in outcome.output["images"]]
    assert (status, 3 - codes.count(None)) == (outcome.status, outcome.output["failed"])
    assert (codes[0] if status == "failed" else None) == (outcome.error.code if outcome.error else None)
    assert [f"image-{k}.png" for k, code in enumerate(codes, 1) if code is None] == list(ctx.blobs)
    assert [codes.count(None)] == [call.images for call in ctx.billed]


@pytest.mark.parametrize("respond", [lambda _: images(2), one_a_call])
async def test_empty_image_at_a_url_fails(respond: Any):
    """An image whose URL returns no bytes has an error; if no image is left, that is the job's error."""
    ctx = MemoryContext(respond, pages={IMAGE_URL: response(b"")})

    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert ("failed", 2, "provider_unavailable") == (outcome.status, outcome.output["failed"], outcome.error.code)
    assert "is empty" in str(outcome.error)
    assert 2 == sum(call.images for call in ctx.billed)


async def test_model_that_generates_one_image_a_call_is_learned():
    """If a model refuses `n`, each image has a call of its own; the next job on that model makes them at once."""
    ctx = MemoryContext(one_a_call, pages={IMAGE_URL: response(PNG)})

    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)
    ctx.steps.clear()
    await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert ("succeeded", ["n became 1, in 2 calls"]) == (outcome.status, outcome.output["adapted"])
    assert ("1024x1024", ["image-1.png", "image-2.png"]) == (outcome.output["size"], list(ctx.blobs))
    assert [2, None, None, None, None] == [body.get("n") for body in ctx.bodies]
    # No retry of the refusal comes first, whatever the job's options say.
    assert [True, False] == [
        ctx.called[0].is_final(RequestRejected(words, UpstreamFacts(400))) for words in ("n=1", "Invalid value.")
    ]


async def test_misleading_refusal_of_n_is_not_learned():
    """If calls for one image are refused too, nothing is learned of `n`, and the job fails with that refusal."""
    refusal = RequestRejected("Invalid value of n or prompt.", UpstreamFacts(400))
    ctx = MemoryContext(in_turn(*[refusal] * 3))

    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert ("failed", "request_rejected") == (outcome.status, outcome.error.code)
    assert ctx.capabilities.batch_limit("images/generations") is None


@pytest.mark.parametrize(
    ("respond", "options", "error", "calls"),
    [
        (in_turn(), {"endpoint": "https://r.services.ai.azure.com/models"}, (ConnectionInvalid, "/openai/v1"), 0),
        (one_a_call, {"strict": True}, (RequestRejected, "n=1"), 1),
        (in_turn(RequestRejected("The size 1x1 is wrong.", UpstreamFacts(400))), {}, (RequestRejected, "The size"), 1),
    ],
    ids=["models route", "strict", "other refusal"],
)
async def test_other_errors_are_final(respond: Any, options: Any, error: tuple[type[Exception], str], calls: int):
    """Foundry's models route has no images. A strict job sends `n` even if its refusal was learned before."""
    ctx = MemoryContext(respond, **options)
    if ctx.strict:
        ctx.capabilities.learn_batch_limit("images/generations", 1)

    with pytest.raises(error[0], match=error[1]):
        await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert [2] * calls == [body["n"] for body in ctx.bodies]


async def test_throttled_image_defers_the_job():
    """If one of several calls has to wait, so does the job; a later attempt makes only the missing call."""
    ctx = MemoryContext(one_a_call, pages={IMAGE_URL: response(PNG)}, calls_left=2)

    deferred = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)
    ctx.calls_left = 1
    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert isinstance(deferred, Deferred)
    assert ("partial", "succeeded") == (deferred.fallback.status, outcome.status)
    assert (3, 2) == (len(ctx.called), len(ctx.billed))


async def test_another_connection_makes_the_missing_image_only():
    """Even if its model would make all of them in one call: one was paid for where it was made."""
    ctx = MemoryContext(one_a_call, pages={IMAGE_URL: response(PNG)}, calls_left=2)

    await run_action(image, {"prompt": "A cat", "n": 2}, ctx)
    ctx.calls_left, ctx.connection_name, ctx.respond = 1, "second", in_turn(images(1))
    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert ("succeeded", 2) == (outcome.status, len(outcome.output["images"]))
    assert [2, None, None] == [body.get("n") for body in ctx.bodies]


class ThrottledPages(dict[str, Response]):
    """A host of images that wants the job to wait."""

    def __missing__(self, url: str) -> Response:
        raise UpstreamRetryLater(RateLimited("Slow down."), 60)


async def test_url_that_is_throttled_costs_no_second_call():
    """A later attempt only fetches the image, even if another job learns meanwhile that the model refuses `n`."""
    ctx = MemoryContext(in_turn(images(2)), pages=ThrottledPages())

    deferred = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)
    ctx.pages = {IMAGE_URL: response(PNG)}
    ctx.capabilities.learn_batch_limit("images/generations", 1)
    outcome = await run_action(image, {"prompt": "A cat", "n": 2}, ctx)

    assert isinstance(deferred, Deferred)
    assert ("failed", "succeeded", 2) == (deferred.fallback.status, outcome.status, len(outcome.output["images"]))
    assert 1 == len(ctx.called) == len(ctx.billed)

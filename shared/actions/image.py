"""
`image`: images from a prompt, each kept as a blob of its real bytes.

A call is a step, and its images are blobs before the step is stored, so none is billed and then lost. An image that
the provider returns as an address is fetched in a step of its own, after the call's step is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.base import Completed, Context, Outcome, Step
from shared.actions.fan_out import Part, join, reason_of, side_by_side
from shared.actions.image_format import inspect_image
from shared.actions.image_response import image_body, parse_images, refuses_n, response_facts
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.image import Image, decode_image
from shared.contract.result import Status
from shared.errors import ConnectionInvalid, JobError, ProviderUnavailable, RequestRejected

NEEDS_MODEL = True

_OPERATION = "images/generations"
# GPT image models refuse it and always return base64; both forms are read here.
_DROPPABLE = frozenset({"response_format"})


def decode(data: Raw | bytes) -> Image:
    """See Action."""
    return decode_image(data)


def keeps_blobs(_: Image) -> bool:
    """See Action."""
    return True


async def run(request: Image, ctx: Context) -> Outcome:
    """See Action."""
    if ctx.connection.endpoint.style == "models":
        raise ConnectionInvalid(
            "The connection's `endpoint` is a models route, which has no images: use a connection to the resource's "
            "/openai/v1, such as https://RESOURCE.services.ai.azure.com/openai/v1."
        )
    calls = await _call(request, ctx)
    images = [image for call in calls for image in _images_of(call, request.n // len(calls))]
    parts = await side_by_side(_collect(image, k, ctx) for k, image in enumerate(images, 1))
    common: dict[str, Any] = next((call.value["common"] for call in calls if not isinstance(call, Exception)), {})
    if len(calls) > 1:
        common = {**common, "adapted": [f"n became 1, in {len(calls)} calls", *common.get("adapted", [])]}
    return join(parts, partial(join_images, parts, common))


def join_images(parts: Sequence[Part], common: dict[str, Any]) -> Completed:
    """Return all images as one outcome: `partial` if some failed, and failed with the first one's error if all did."""
    images = [
        {"index": index, **(_failed(reason_of(part)) if isinstance(part, Exception) else part)}
        for index, part in enumerate(parts)
    ]
    failed = sum("error" in image for image in images)
    status: Status = "succeeded" if not failed else "failed" if failed == len(images) else "partial"
    error = None if status != "failed" else error_from_body(images[0]["error"])
    return Completed({"images": images, "failed": failed, **common}, (), status, error)


async def _call(request: Image, ctx: Context) -> list[Part]:
    """Return the step of one call for all images or, if the model generates one a call, the steps of `n` calls."""
    refused = False
    may_split = request.n > 1 and not ctx.strict
    if not may_split or ctx.capabilities.batch_limit(_OPERATION) != 1 or await ctx.get_step("whole"):
        try:
            return [await ctx.step("whole", partial(_generate, request, 1, request.n, ctx))]
        except RequestRejected as error:
            refused = may_split and refuses_n(error)
            if not refused:
                raise
    parts = await side_by_side(
        ctx.step(f"{k:02}", partial(_generate, request, k, 1, ctx)) for k in range(1, request.n + 1)
    )
    if refused and not all(isinstance(part, Exception) for part in parts):
        # Only after it has helped: the words of a refusal can mislead.
        ctx.capabilities.learn_batch_limit(_OPERATION, 1)
    return parts


async def _generate(request: Image, first: int, count: int, ctx: Context) -> Step:
    may_split = count > 1 and not ctx.strict
    operation = ctx.operation(
        _OPERATION,
        image_body(request, count),
        droppable=_DROPPABLE,
        is_final=lambda error: may_split and refuses_n(error),
    )
    response = await ctx.call(operation)
    generated = await ctx.compute(parse_images, response, count, large=response.is_large)
    images = []
    for k, image in enumerate(generated.images, first):
        saved = dict(image)
        if "data" in saved:
            saved = await _save(saved.pop("data"), k, ctx) | saved
        elif "error" in saved:
            saved |= _failed(saved["error"])
        images.append(saved)
    adapted = {"adapted": operation.adapted} if operation.adapted else {}
    return Step({"images": images, "common": {**generated.common, **adapted}}, [generated.call])


def _images_of(call: Part, count: int) -> list[Part]:
    return [call] * count if isinstance(call, Exception) else call.value["images"]


async def _collect(image: Part, k: int, ctx: Context) -> dict[str, Any]:
    if isinstance(image, Exception):
        raise image
    if "url" not in image:
        return dict(image)
    return dict((await ctx.step(f"{k:02}url", partial(_fetch, image, k, ctx))).value)


async def _fetch(image: dict[str, Any], k: int, ctx: Context) -> Step:
    response = await ctx.fetch(image["url"])
    if not response.body:
        raise ProviderUnavailable(
            "The address that the endpoint returned for the image is empty.", response_facts(response)
        )
    return Step(await _save(response.body, k, ctx) | {name: image[name] for name in image if name != "url"})


async def _save(data: bytes, k: int, ctx: Context) -> dict[str, Any]:
    info = inspect_image(data)
    blob = await ctx.save_blob(f"image-{k}.{info.extension}", data, info.content_type)
    size = {} if info.width is None else {"width": info.width, "height": info.height}
    return {"blob": msgspec.to_builtins(blob), **size}


def _failed(error: JobError) -> dict[str, Any]:
    return {"error": msgspec.to_builtins(error_body(error))}

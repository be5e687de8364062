"""
The calls that make images, and the images that they return, each kept as a blob of its real bytes.

A call is a step, and its images are blobs before the step is stored, so none is billed and then lost. An image that
the provider returns as an address is fetched in a step of its own, after the call's step is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from shared.actions.base import Completed, Context, Outcome, Step
from shared.actions.fan_out import Part, join, reason_of, side_by_side
from shared.actions.form import FormFile
from shared.actions.image_format import inspect_image
from shared.actions.image_response import parse_images, refuses_n, response_facts
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.result import Status
from shared.errors import JobError, ProviderUnavailable, RequestRejected

# GPT image models refuse it and always return base64; both forms are read here.
_DROPPABLE = frozenset({"response_format"})


@dataclass(frozen=True, slots=True)
class ImageCalls:
    """The calls of one job for `n` images: the body of each, without `n`, and what opens the files of one."""

    ctx: Context
    operation: str
    body: dict[str, Any]
    n: int
    files: Callable[[], Awaitable[Sequence[FormFile]]] | None = None
    """Called for a call that has not been made: later, the files may be gone."""

    async def run(self) -> Outcome:
        """Return all images as one outcome. Raises as `Action.run`."""
        calls = await self._call()
        images = [image for call in calls for image in _images_of(call, self.n // len(calls))]
        parts = await side_by_side(_collect(image, k, self.ctx) for k, image in enumerate(images, 1))
        common: dict[str, Any] = next((call.value["common"] for call in calls if not isinstance(call, Exception)), {})
        if len(calls) > 1:
            common = {**common, "adapted": [f"n became 1, in {len(calls)} calls", *common.get("adapted", [])]}
        return join(parts, partial(join_images, parts, common))

    async def _call(self) -> list[Part]:
        """Return the step of one call for all images or, if the model makes one a call, the steps of `n` calls."""
        ctx, refused = self.ctx, False
        may_split, done = self.n > 1 and not ctx.strict, await ctx.step_keys()
        # What steps have decides, before what is learned: that is this connection's alone, and others may have begun.
        is_begun = any(f"{k:02}" in done for k in range(1, self.n + 1))
        is_split = "whole" not in done and (is_begun or ctx.capabilities.batch_limit(self.operation) == 1)
        if not may_split or not is_split:
            try:
                return [await ctx.step("whole", partial(self._generate, 1, self.n))]
            except RequestRejected as error:
                refused = may_split and refuses_n(error)
                if not refused:
                    raise
        parts = await side_by_side(ctx.step(f"{k:02}", partial(self._generate, k, 1)) for k in range(1, self.n + 1))
        if refused and not all(isinstance(part, Exception) for part in parts):
            # Only after it has helped: the words of a refusal can mislead.
            ctx.capabilities.learn_batch_limit(self.operation, 1)
        return parts

    async def _generate(self, first: int, count: int) -> Step:
        may_split = count > 1 and not self.ctx.strict
        operation = self.ctx.operation(
            self.operation,
            {**({"n": count} if count > 1 else {}), **self.body},  # `n` is left out for 1, the default
            droppable=_DROPPABLE,
            is_final=lambda error: may_split and refuses_n(error),
        )
        if self.files is not None:
            operation.attach(await self.files())
        response = await self.ctx.call(operation)
        generated = await self.ctx.compute(parse_images, response, count, large=response.is_large)
        images = []
        for k, image in enumerate(generated.images, first):
            saved = dict(image)
            if "data" in saved:
                saved = await _save(saved.pop("data"), k, self.ctx) | saved
            elif "error" in saved:
                saved |= _failed(saved["error"])
            images.append(saved)
        adapted = {"adapted": operation.adapted} if operation.adapted else {}
        return Step({"images": images, "common": {**generated.common, **adapted}}, [generated.call])


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

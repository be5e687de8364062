"""`edit_image` by itself: its blobs are read in pieces, and looked at before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions import edit_image
from shared.actions.base import Completed
from shared.errors import ConnectionInvalid, InvalidJob
from tests.support.endpoint import pixels
from tests.support.forms import sent_form
from tests.support.image_samples import JPEG
from tests.support.memory_context import MemoryContext, in_turn, response, run_action

B64 = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
INPUT: dict[str, Any] = {
    "images": ["inputs/c/a.png", "inputs/c/b.jpeg"],
    "mask": "inputs/c/m.png",
    "prompt": "A cat",
    "n": 1,
    "size": "1024x1024",
}
BLOBS = {"c/a.png": pixels(), "c/b.jpeg": JPEG, "c/m.png": pixels(2, 2)}


async def test_images_and_mask_are_files_of_a_form():
    """Each has a name and a media type by its content; the image that is made is a blob."""
    ctx = MemoryContext(in_turn(response({"created": 1, "data": [{"b64_json": B64}]})), blobs=dict(BLOBS))

    outcome = await run_action(edit_image, INPUT, ctx)

    (operation,) = ctx.called
    assert operation.request.url.endswith("/openai/v1/images/edits")
    form = {part.filename or part.name: part for part in await sent_form(operation)}
    assert {"prompt": b"A cat", "size": b"1024x1024", "model": b"m"}.items() <= {
        n: p.data for n, p in form.items()
    }.items()
    files = [("image[]", "image-1.png", "image/png"), ("image[]", "image-2.jpeg", "image/jpeg")]
    files.append(("mask", "mask.png", "image/png"))
    assert files == [part[:3] for part in form.values() if part.filename]
    assert [*BLOBS.values()] == [part.data for part in form.values() if part.filename]
    assert isinstance(outcome, Completed)
    assert ("succeeded", 1) == (outcome.status, len((outcome.output or {})["images"]))
    assert "image-1.png" in ctx.blobs


async def test_no_mask_is_no_file():
    """And a WebP image is taken, too."""
    webp = b"RIFF\0\0\0\0WEBPVP8 " + bytes(20)
    ctx = MemoryContext(in_turn(response({"created": 1, "data": [{"b64_json": B64}]})), blobs={"c/a.webp": webp})

    await run_action(edit_image, {"images": ["inputs/c/a.webp"], "prompt": "A cat"}, ctx)

    (operation,) = ctx.called
    assert ["image-1.webp"] == [part.filename for part in await sent_form(operation) if part.filename]


async def test_a_connection_without_images_is_refused():
    """Before a blob is read."""
    ctx = MemoryContext(in_turn(), endpoint="https://r.services.ai.azure.com/models")

    with pytest.raises(ConnectionInvalid, match="has no images:"):
        await run_action(edit_image, INPUT, ctx)


@pytest.mark.parametrize(
    ("name", "at"), [("c/a.png", "input.images[0]"), ("c/b.jpeg", "input.images[1]"), ("c/m.png", "input.mask")]
)
async def test_what_is_no_image_is_refused(name: str, at: str):
    """By the path of the member that names it, before anything is sent."""
    ctx = MemoryContext(in_turn(), blobs=BLOBS | {name: b"GIF89a" + bytes(40)})

    with pytest.raises(InvalidJob) as refused:
        await run_action(edit_image, INPUT, ctx)

    assert f"`{at}` names a blob that is no PNG, JPEG or WebP image." == str(refused.value)
    assert [] == ctx.called

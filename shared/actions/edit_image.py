"""`edit_image`: images from a prompt and other images, each kept as a blob of its real bytes."""

from __future__ import annotations

from functools import partial

from msgspec import Raw

from shared.actions.base import Context, Outcome
from shared.actions.form import FilePiece, FormFile
from shared.actions.image_calls import ImageCalls
from shared.actions.image_format import inspect_image
from shared.actions.openai_api import check_openai_api
from shared.contract.edit_image import EditImage, decode_edit_image
from shared.contract.names import BlobName
from shared.errors import InvalidJob

NEEDS_MODEL = True
MAX_IMAGE_BYTES = 50_000_000
"""Of an image that is edited. Providers take no larger ones."""

_READABLE = ("image/png", "image/jpeg", "image/webp")
_SIGNATURE_BYTES = 32


def decode(data: Raw | bytes) -> EditImage:
    """See Action."""
    return decode_edit_image(data)


def keeps_blobs(_: EditImage) -> bool:
    """See Action."""
    return True


async def run(request: EditImage, ctx: Context) -> Outcome:
    """See Action."""
    check_openai_api(ctx.connection.endpoint, "images")
    body = {"prompt": request.prompt, **request.parameters}
    return await ImageCalls(ctx, "images/edits", body, request.n, partial(_files, request, ctx)).run()


async def _files(request: EditImage, ctx: Context) -> list[FormFile]:
    files = [
        await _file("image[]", f"image-{k}", blob, f"input.images[{k - 1}]", ctx)
        for k, blob in enumerate(request.images, 1)
    ]
    if request.mask is not None:
        files.append(await _file("mask", "mask", request.mask, "input.mask", ctx))
    return files


async def _file(name: str, stem: str, blob: BlobName, at: str, ctx: Context) -> FormFile:
    file = await ctx.open_blob(blob, at=at, max_bytes=MAX_IMAGE_BYTES)
    info = inspect_image(await file.read(0, _SIGNATURE_BYTES))
    if info.content_type not in _READABLE:
        raise InvalidJob(f"`{at}` names a blob that is no PNG, JPEG or WebP image.")
    return FormFile(name, f"{stem}.{info.extension}", info.content_type, [FilePiece(file, 0, file.size)])

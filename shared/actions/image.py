"""`image`: images from a prompt, each kept as a blob of its real bytes."""

from __future__ import annotations

from msgspec import Raw

from shared.actions.base import Context, Outcome
from shared.actions.image_calls import ImageCalls
from shared.actions.openai_api import check_openai_api
from shared.contract.image import Image, decode_image

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> Image:
    """See Action."""
    return decode_image(data)


def keeps_blobs(_: Image) -> bool:
    """See Action."""
    return True


async def run(request: Image, ctx: Context) -> Outcome:
    """See Action."""
    check_openai_api(ctx.connection.endpoint, "images")
    body = {"prompt": request.prompt, **request.parameters}
    return await ImageCalls(ctx, "images/generations", body, request.n).run()

"""
`image`: pictures from a prompt, each kept as a blob of its real bytes.

A call is a step, and its pictures are blobs before it is stored, so none is paid for and then lost. A
picture that the provider only gives the address of is fetched in a step of its own: the call stands by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.base import Bench, Completed, Step
from shared.actions.fan_out import Outcome, reason_of, settle, side_by_side
from shared.actions.image_format import look_at
from shared.actions.image_response import image_body, parse_images, refuses_n, reply_facts
from shared.contract.error_codec import error_body, known_error
from shared.contract.image import Image, decode_image
from shared.contract.result import Status
from shared.errors import ConnectionInvalid, JobError, ProviderUnavailable, RequestRejected

NEEDS_MODEL = True

_OPERATION = "images/generations"
# GPT image models refuse it and always answer base64; both forms are read here.
_DROPPABLE = frozenset({"response_format"})


def decode(data: Raw | bytes) -> Image:
    """See Action."""
    return decode_image(data)


def keeps_blobs(_: Image) -> bool:
    """See Action."""
    return True


async def run(asked: Image, bench: Bench) -> Completed:
    """See Action."""
    if bench.connection.endpoint.style == "models":
        raise ConnectionInvalid(
            "The connection's `endpoint` is a models route, which has no images: use a connection to the resource's "
            "/openai/v1, such as https://RESOURCE.services.ai.azure.com/openai/v1."
        )
    calls = await _call(asked, bench)
    pictures = [picture for call in calls for picture in _pictures_of(call, asked.n // len(calls))]
    outcomes = await side_by_side(_collect(picture, k, bench) for k, picture in enumerate(pictures, 1))
    about: dict[str, Any] = next((call.value["about"] for call in calls if not isinstance(call, Exception)), {})
    if len(calls) > 1:
        about = {**about, "adapted": [f"n became 1, in {len(calls)} calls", *about.get("adapted", [])]}
    return settle(outcomes, partial(join_pictures, outcomes, about))


def join_pictures(outcomes: Sequence[Outcome], about: dict[str, Any]) -> Completed:
    """All pictures in one answer: `partial` where some are missing, and failed, as the first is, where all are."""
    images = [
        {"index": index, **(_failed(reason_of(outcome)) if isinstance(outcome, Exception) else outcome)}
        for index, outcome in enumerate(outcomes)
    ]
    failed = sum("error" in image for image in images)
    status: Status = "succeeded" if not failed else "failed" if failed == len(images) else "partial"
    error = None if status != "failed" else known_error(images[0]["error"])
    return Completed({"images": images, "failed": failed, **about}, (), status, error)


async def _call(asked: Image, bench: Bench) -> list[Outcome]:
    """The step of one call for all pictures, or where the model makes one at a time, of as many calls."""
    refused = False
    may_split = asked.n > 1 and not bench.strict
    if not may_split or bench.most(_OPERATION) != 1 or await bench.recall("whole"):
        try:
            return [await bench.step("whole", partial(_make, asked, 1, asked.n, bench))]
        except RequestRejected as error:
            refused = may_split and refuses_n(error)
            if not refused:
                raise
    outcomes = await side_by_side(
        bench.step(f"{k:02}", partial(_make, asked, k, 1, bench)) for k in range(1, asked.n + 1)
    )
    if refused and not all(isinstance(outcome, Exception) for outcome in outcomes):
        bench.learn_most(_OPERATION, 1)  # not before it has helped: the words of a refusal can mislead
    return outcomes


async def _make(asked: Image, first: int, count: int, bench: Bench) -> Step:
    may_split = count > 1 and not bench.strict
    reply, adapted = await bench.ask(
        _OPERATION,
        image_body(asked, count),
        droppable=_DROPPABLE,
        final=lambda error: may_split and refuses_n(error),
    )
    made = parse_images(reply, count)
    pictures = []
    for k, picture in enumerate(made.pictures, first):
        kept = dict(picture)
        if "data" in kept:
            kept = await _keep(kept.pop("data"), k, bench) | kept
        elif "error" in kept:
            kept |= _failed(kept["error"])
        pictures.append(kept)
    return Step(
        {"pictures": pictures, "about": {**made.about, **({"adapted": adapted} if adapted else {})}}, [made.call]
    )


def _pictures_of(call: Outcome, count: int) -> list[Outcome]:
    return [call] * count if isinstance(call, Exception) else call.value["pictures"]


async def _collect(picture: Outcome, k: int, bench: Bench) -> dict[str, Any]:
    if isinstance(picture, Exception):
        raise picture
    if "url" not in picture:
        return dict(picture)
    return dict((await bench.step(f"{k:02}url", partial(_fetch, picture, k, bench))).value)


async def _fetch(picture: dict[str, Any], k: int, bench: Bench) -> Step:
    reply = await bench.fetch(picture["url"])
    if not reply.body:
        raise ProviderUnavailable(
            "The address that the endpoint gave for the picture holds nothing.", reply_facts(reply)
        )
    return Step(await _keep(reply.body, k, bench) | {name: picture[name] for name in picture if name != "url"})


async def _keep(data: bytes, k: int, bench: Bench) -> dict[str, Any]:
    looks = look_at(data)
    blob = await bench.save(f"image-{k}.{looks.ending}", data, looks.content_type)
    size = {} if looks.width is None else {"width": looks.width, "height": looks.height}
    return {"blob": msgspec.to_builtins(blob), **size}


def _failed(error: JobError) -> dict[str, Any]:
    return {"error": msgspec.to_builtins(error_body(error))}

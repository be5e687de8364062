"""Jobs that name blobs: `INPUTS/a.png` becomes the name of a blob of the customer, which is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.storage.base import Blobs
from tests.support.audio_samples import wav
from tests.support.endpoint import pixels
from tests.support.harness import Customer

PLACE_OF_INPUTS = "INPUTS/"
NOTES = b"# The lease\n\nThe rent is 1,200 euros a month.\n"
BLOBS: Mapping[str, bytes] = {"a.png": pixels(), "b.png": pixels(5, 3), "call.wav": wav(), "notes.md": NOTES}


async def with_blobs(
    customer: Customer, members: Mapping[str, Any], *, blobs: Blobs | None = None, **own: bytes
) -> dict[str, Any]:
    """
    Return a job's members with names of blobs, which are written, elsewhere than to Storage if there are `blobs`; `own`
    are further ones, `x_wav` for `x.wav`.
    """
    text = json.dumps(members)
    if PLACE_OF_INPUTS not in text:
        return dict(members)
    container = customer.harness.environment["INPUT_CONTAINERS"]
    for name, data in {**BLOBS, **{name.replace("_", "."): data for name, data in own.items()}}.items():
        if f"{PLACE_OF_INPUTS}{name}" in text:
            path = f"{customer.name}/inputs/{name}"
            if blobs is None:
                await customer.harness.write_blob(container, path, data)
            else:
                await blobs.write(container, path, data, "application/octet-stream")
    return dict(json.loads(text.replace(PLACE_OF_INPUTS, f"{container}/{customer.name}/inputs/")))

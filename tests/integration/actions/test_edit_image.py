"""`edit_image` from the message to the result: what is sent of blobs, and what comes back as blobs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.endpoint import error, images, pixels, reply, reset
from tests.support.forms import FormPart, read_form
from tests.support.harness import Customer, Harness
from tests.support.image_samples import JPEG, PNG, WEBP_LOSSY
from tests.support.input_blobs import with_blobs

EDIT = {"images": ["INPUTS/a.png", "INPUTS/b.png"], "mask": "INPUTS/mask.png", "prompt": "Make it rain ☂"}
A_BLOB = {"images": ["INPUTS/a.png"], "prompt": "x"}


async def edit(customer: Customer, job_id: str = "edited", **members: Any) -> dict[str, Any]:
    """Run a job; `members` replace those of its input, and add some."""
    request = EDIT | members
    blobs = {"mask_png": PNG, "photo_jpeg": JPEG, "photo_webp": WEBP_LOSSY, "text_png": b"no image"}
    return await customer.run(
        job_id=job_id, action="edit_image", **await with_blobs(customer, {"input": request}, **blobs)
    )


async def test_blobs_are_sent_and_images_become_blobs(harness: Harness):
    """The images and the mask are files of a form, with their own types; each answer's image is a blob of its bytes."""
    customer = harness.customer()
    customer.account.will_answer(reset, images(PNG, JPEG, size="1024x1024"))

    result = await edit(customer, n=2, size="1024x1024", parameters={"quality": "high", "input_fidelity": "high"})

    assert "succeeded" == result["status"]
    expected = [
        FormPart("model", None, None, b"gpt-4o"),
        FormPart("n", None, None, b"2"),
        FormPart("prompt", None, None, "Make it rain ☂".encode()),
        FormPart("size", None, None, b"1024x1024"),
        FormPart("quality", None, None, b"high"),
        FormPart("input_fidelity", None, None, b"high"),
        FormPart("image[]", "image-1.png", "image/png", pixels()),
        FormPart("image[]", "image-2.png", "image/png", pixels(5, 3)),
        FormPart("mask", "mask.png", "image/png", PNG),
    ]
    assert [expected] * 2 == [read_form(received) for received in customer.account.received]
    names = [image["blob"]["name"] for image in result["output"]["images"]]
    assert [f"{customer.name}/edited/image-1.png", f"{customer.name}/edited/image-2.jpeg"] == names
    (record,) = [row for row in await customer.usage() if row["outcome"] == "answered"]
    assert (2, 9, 272) == (record["images"], record["input_tokens"], record["output_tokens"])


async def test_edits_that_were_paid_for_are_not_bought_again(harness: Harness):
    """A job that is delivered again has its images, even if the blobs that it named are gone."""
    customer = harness.customer()
    first = await edit(customer)
    await harness.services.blobs.delete(harness.environment["INPUT_CONTAINERS"], f"{customer.name}/inputs/a.png")

    again = await customer.run(
        job_id="edited", action="edit_image", **await with_blobs(customer, {"input": EDIT}, a_png=b"other")
    )

    assert first["output"] == again["output"]
    assert 1 == len(customer.account.received)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"images": ["INPUTS/text.png"]}, "`input.images[0]` names a blob that is no PNG, JPEG or WebP image."),
        ({"images": ["INPUTS/a.png", "INPUTS/none.png"]}, "`input.images[1]` names a blob that does not exist."),
        ({"mask": "INPUTS/text.png"}, "`input.mask` names a blob that is no PNG, JPEG or WebP image."),
        ({"images": ["elsewhere/x/a.png"]}, "`input.images[0]` must be in"),
    ],
)
async def test_unusable_blobs_are_refused(harness: Harness, members: dict[str, Any], message: str):
    """What is no image, does not exist or is another's is refused, and nothing is sent."""
    customer = harness.customer()

    result = await edit(customer, **members)

    assert ("failed", "invalid_job") == (result["status"], result["error"]["code"])
    assert result["error"]["message"].startswith(message)
    assert [] == customer.account.received


async def test_too_large_an_image_is_refused(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """Its size is known before it is read."""
    monkeypatch.setattr("shared.actions.edit_image.MAX_IMAGE_BYTES", 40)
    customer = harness.customer()

    result = await edit(customer)

    assert "`input.images[0]` names a blob of more than 0 MB." == result["error"]["message"]


async def test_refused_parameter_is_left_out_of_the_form(harness: Harness):
    """As for `image`, `response_format` is dropped, and the files are sent again."""
    customer = harness.customer()
    refusal = {"error": {"message": "Unknown parameter: 'response_format'.", "param": "response_format"}}
    refusal["error"] |= {"code": "unknown_parameter", "type": "invalid_request_error"}
    customer.account.will_answer(reply(refusal, status=400))

    result = await edit(customer, **A_BLOB, mask=None, parameters={"response_format": "b64_json"})

    assert ("succeeded", ["response_format was left out"]) == (result["status"], result["output"]["adapted"])
    first, second = map(read_form, customer.account.received)
    assert {"response_format"} == {part.name for part in first} - {part.name for part in second}
    assert first[-1] == second[-1]


async def test_model_that_makes_one_image_a_call(harness: Harness):
    """If the model refuses `n`, each call has the files."""
    customer = harness.customer()
    customer.account.will_answer(error(400, message="You must provide n=1 for this model."))

    result = await edit(customer, n=3)

    assert ("succeeded", 0, 3) == (result["status"], result["output"]["failed"], len(result["output"]["images"]))
    assert [3] * 4 == [sum(part.filename is not None for part in read_form(each)) for each in customer.account.received]


async def test_models_route_has_no_images(harness: Harness):
    """Foundry's older route is refused with a sentence."""
    customer = harness.customer(endpoint=f"{harness.endpoint.url}/models", provider="foundry")

    result = await edit(customer)

    assert "connection_invalid" == result["error"]["code"]
    assert "is a models route, which has no images" in result["error"]["message"]

"""The JSON of image generation: responses, and refusals of the number of images."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.actions.image_response import parse_images, refuses_n
from shared.errors import ContentFiltered, ProviderUnavailable, RequestRejected, UpstreamError, UpstreamFacts
from tests.support.image_samples import PNG
from tests.support.memory_context import response
from tests.support.rows import every_row

B64 = base64.b64encode(PNG).decode()
VERDICT = {"violence": {"filtered": True, "severity": "high"}}


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
def test_any_response_has_an_entry_for_each_requested_image(body: Any, count: int):
    """For any JSON, each requested image has its bytes, its URL or an error; only the first two are counted."""
    generated = parse_images(response(body), count)

    assert count == len(generated.images)
    assert all(len({"data", "url", "error"} & set(image)) == 1 for image in generated.images)
    assert generated.call.images == sum("error" not in image for image in generated.images)


def test_images_and_common_members_are_read():
    """Base64 is decoded, URLs and revised prompts are kept, and members that hold for all images are returned once."""
    data = [{"b64_json": B64}, {"url": "https://x/1.png", "revised_prompt": "A grey cat"}, {"b64_json": B64}]
    body = {"data": data, "size": "1x1", "quality": "hd", "output_format": "png", "background": "opaque", "style": "x"}

    generated = parse_images(response(body | {"usage": {"input_tokens": 9, "output_tokens": 272}}), 2)

    assert [{"data": PNG}, {"url": "https://x/1.png", "revised_prompt": "A grey cat"}] == generated.images
    assert {"size": "1x1", "quality": "hd", "output_format": "png", "background": "opaque"} == generated.common
    usage = generated.call.consumed()
    assert (1, 9, 272, 2) == (usage.calls, usage.input_tokens, usage.output_tokens, usage.images)


@every_row(
    ("item", "kind", "detail"),
    [
        ({"content_filter_results": VERDICT}, ContentFiltered, {"content_filter_result": VERDICT}),
        ({"error": {"code": "contentFilter"}}, ContentFiltered, {}),
        ({"error": {"code": "moderation_blocked"}, "content_filter_results": 7}, ContentFiltered, {}),
        (7, ProviderUnavailable, {}),
        ({}, ProviderUnavailable, {}),
        ({"b64_json": "&"}, ProviderUnavailable, {}),
        ({"b64_json": ""}, ProviderUnavailable, {}),
        ({"url": ""}, ProviderUnavailable, {}),
        ({"error": {"code": "server_error"}}, ProviderUnavailable, {"code": "server_error"}),
        ({"content_filter_results": {"violence": {"filtered": False}, "hate": 1}}, ProviderUnavailable, {}),
    ],
)
def test_item_without_an_image_is_an_error(item: Any, kind: type[UpstreamError], detail: dict[str, Any]):
    """The content filter's has the verdicts; any other is the provider's failure. Only the others are counted."""
    generated = parse_images(response({"data": [item, {"b64_json": B64}]}), 2)

    first, second = generated.images
    assert (kind, detail) == (type(first["error"]), first["error"].facts.detail)
    assert ({"data": PNG}, 1) == (second, generated.call.images)


@every_row("body", [b"<html>", b"[]", b"{}", b'{"data": 3}'])
def test_response_without_images_is_billed(body: bytes):
    """A 2xx response without any image is a billed call without usage; its errors say how many images came."""
    generated = parse_images(response(body), 2)

    assert ["The endpoint returned 0 of 2 images."] * 2 == [str(image["error"]) for image in generated.images]
    assert (None, 0, "req-1") == (generated.call.usage, generated.call.images, generated.call.request_id)


@every_row(
    ("message", "facts", "expected"),
    [
        ("Invalid 'n': must be 1", UpstreamFacts(400), True),
        ("You must provide n=1 for this model.", UpstreamFacts(400), True),
        ("n_not: invalid value of n", UpstreamFacts(422), True),
        ("`n` is 4", UpstreamFacts(400), True),
        ("Out of range.", UpstreamFacts(400, detail={"param": "n"}), True),
        ("Invalid 'name'", UpstreamFacts(400), False),
        ("An unknown thing", UpstreamFacts(400), False),
        ("in 1 of 5", UpstreamFacts(400), False),
        ("size must be n x m", UpstreamFacts(400), False),
        ("n-gram", UpstreamFacts(400), False),
        ("The size 1x1 is not one of this model's.", UpstreamFacts(400, detail={"param": "size"}), False),
        ("n=1", UpstreamFacts(404), False),
    ],
)
def test_refusals_of_the_number_of_images(message: str, facts: UpstreamFacts, expected: bool):
    """A 400 or 422 refuses the number of images if its `param` is `n`, or its message names `n`."""
    assert expected is refuses_n(RequestRejected(message, facts))

"""Images: media type, file extension and size, from their bytes."""

from __future__ import annotations

import io
from typing import Any

import imagesize
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.image_format import MAX_HEADER_BYTES, ImageInfo, inspect_image
from tests.support.image_samples import GIF, JPEG, PNG, WEBP_EXTENDED, WEBP_LOSSLESS, WEBP_LOSSY
from tests.support.rows import every_row


@every_row(
    ("data", "expected"),
    [
        (PNG, ("image/png", "png", 5, 3)),
        (JPEG, ("image/jpeg", "jpeg", 640, 480)),
        (GIF, ("image/gif", "gif", 300, 7)),
        (GIF.replace(b"9a", b"7a"), ("image/gif", "gif", 300, 7)),
        (WEBP_LOSSY, ("image/webp", "webp", 200, 1)),
        (WEBP_LOSSLESS, ("image/webp", "webp", 200, 1)),
        (WEBP_EXTENDED, ("image/webp", "webp", 200, 1)),
        (PNG[:12], ("image/png", "png", None, None)),
        (PNG[:16] + b"\0" * 16, ("image/png", "png", None, None)),
        (b"<svg width='5' height='5'/>", ("application/octet-stream", "bin", None, None)),
        (b"", ("application/octet-stream", "bin", None, None)),
        (b"........WEBPVP8 ", ("application/octet-stream", "bin", None, None)),
    ],
)
def test_bytes_determine_type_and_size(data: bytes, expected: tuple[Any, ...]):
    """The signature determines the type. Without a known one the image is octets; without a valid size it has none."""
    assert ImageInfo(*expected) == inspect_image(data)


@given(
    st.sampled_from([PNG, JPEG, GIF, WEBP_LOSSY, WEBP_LOSSLESS, WEBP_EXTENDED]),
    st.integers(0, 60),
    st.binary(max_size=40),
)
def test_broken_images_raise_nothing(image: bytes, length: int, rest: bytes):
    """A file that is cut off, or continues with anything, has a type, and both width and height or neither."""
    info = inspect_image(image[:length] + rest)

    assert (info.width is None) == (info.height is None)


def test_only_the_beginning_is_searched(monkeypatch: pytest.MonkeyPatch):
    """The size is read from the first 256 KiB, however large the image is; one whose size stands behind has none."""
    lengths = list[int]()
    get = imagesize.get

    def observe(stream: io.BytesIO, **options: Any) -> Any:
        lengths.append(len(stream.getvalue()))
        return get(stream, **options)

    monkeypatch.setattr("imagesize.get", observe)
    segment = b"\xff\xe1\xff\xff" + bytes(0xFFFD)
    hidden = JPEG[:2] + segment * 5 + JPEG[2:]

    assert ImageInfo("image/png", "png", 5, 3) == inspect_image(PNG + bytes(64 * 1024 * 1024))
    assert ImageInfo("image/jpeg", "jpeg", 640, 480) == inspect_image(JPEG[:2] + segment * 3 + JPEG[2:])
    assert ImageInfo("image/jpeg", "jpeg") == inspect_image(hidden)
    assert max(lengths) == MAX_HEADER_BYTES == 256 * 1024


def test_error_of_the_library_leaves_the_size_unknown(monkeypatch: pytest.MonkeyPatch):
    """If the library that reads the size raises, the image, which is billed, is kept without a size."""

    def fail(*_: Any, **__: Any) -> None:
        raise IndexError

    monkeypatch.setattr("imagesize.get", fail)

    assert ImageInfo("image/png", "png") == inspect_image(PNG)

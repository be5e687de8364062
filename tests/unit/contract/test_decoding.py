"""JSON that others wrote, such as providers whose texts were cut within a character."""

from __future__ import annotations

import pytest

from shared.contract.decoding import json_object


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"a\ud83d", "a\ufffd"),
        (r"a\uD83D b", "a\ufffd b"),
        (r"\ude00", "\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\\ud83d \ud83d", r"\ud83d " + "\ufffd"),
        (r"\\\ud83d\\", "\\\ufffd\\"),
        (r"\ud83d\"\ude00", '\ufffd"\ufffd'),
        (r"\ud83d\ude00\u00e9\n", "😀é\n"),
    ],
)
def test_half_a_surrogate_pair_is_the_replacement_character(written: str, read: str):
    """Each half of a pair becomes U+FFFD, in names as in values; everything else is unchanged."""
    assert {"a": read, read: 1} == json_object(f'{{"a": "{written}", "{written}": 1}}'.encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b'"a"', b"{", b'{"a": "\xff"}', b"[" * 100_000, b'{"\\ud8'])
def test_anything_but_an_object_is_an_empty_object(data: bytes):
    """Bytes that are not JSON, or not an object, are read as an empty object."""
    assert {} == json_object(data)

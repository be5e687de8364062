"""JSON that others wrote, such as providers whose texts were cut within a character."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shared.contract import decoding
from shared.contract.decoding import json_object, json_value
from tests.support.rows import every_row


@every_row(
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


@every_row(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": NaN, "b": [-Infinity, Infinity], "c": 1}', {"a": None, "b": [None, None], "c": 1}),
        (b'{"a": "x\ny\x01\t"}', {"a": "x\ny\x01\t"}),
        (b'{"a": "x\xff\xc3"}', {"a": "x\ufffd\ufffd"}),
        (b'{"a": "\\ud83d \\ud83d\\ude00 \\\\ud83d", "b": NaN}', {"a": "\ufffd 😀 \\ud83d", "b": None}),
        ('{"a": "ü"}'.encode("utf-16"), {"a": "ü"}),
        ('{"a": "ü"}'.encode("utf-16-be"), {"a": "ü"}),
    ],
)
def test_what_was_paid_for_is_kept_through_odd_bytes(data: bytes, value: dict[str, Any]):
    """A provider's JSON is read although it has bytes that JSON does not allow, and what they damage is replaced."""
    assert value == json_object(data) == json_value(data)


def test_json_of_too_many_objects_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    """Wherever a provider's JSON is decoded, one that would fill the memory is refused, unless it is only text."""
    assert (2_000_000, 3_000_000) == (decoding.MAX_FOREIGN_CONTAINERS, decoding.MAX_FOREIGN_MEMBERS)
    monkeypatch.setattr(decoding, "MAX_FOREIGN_CONTAINERS", limit := 2_000)
    monkeypatch.setattr(decoding, "MAX_FOREIGN_MEMBERS", 3_000)

    assert limit == len(json_value(b"[" + b"[]," * (limit - 2) + b"[]]")) + 1
    with pytest.raises(msgspec.DecodeError, match="2,000 lists"):
        json_value(b"[" + b"[]," * limit + b"[]]")
    assert "[" * limit + "[" == json_value(b'"[' + b"[" * limit + b'"')
    with pytest.raises(msgspec.DecodeError, match="3,000 members"):
        json_value(b'{"a":1' + b',"a":1' * 3_000 + b"}")


@every_row("data", [b"", b"null", b"[1]", b'"a"', b"{", b"[" * 100_000, b'{"\\ud8'])
def test_anything_but_an_object_is_an_empty_object(data: bytes):
    """Bytes that are not JSON, or not an object, are read as an empty object."""
    assert {} == json_object(data)

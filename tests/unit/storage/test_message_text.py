"""Texts of queue messages: base64 of JSON, or the JSON itself, and what is neither."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.storage.message_text import decode_text, encode_text
from tests.support.rows import every_row

JOB = b'{"customer": "contoso"}'
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), st.lists, max_leaves=5)
OBJECTS = st.dictionaries(st.text(max_size=9), VALUES, max_size=4)


@given(OBJECTS, st.booleans(), st.text(alphabet=" \t\r\n", max_size=3))
def test_an_object_is_read_in_either_form(value: dict[str, object], ascii_only: bool, space: str):
    """JSON and base64 of it are the same message, with white space around it or not; what we write is base64."""
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")

    assert body == decode_text(encode_text(body).encode())
    assert body == decode_text(f"{space}{encode_text(body)}{space}".encode())
    assert body == decode_text(body).strip() == decode_text(space.encode() + body).strip()


@given(st.binary(max_size=70))
def test_what_is_neither_stays_as_it_is(text: bytes):
    """Whatever somebody sends, there is a body that the job's decoder can refuse."""
    assert decode_text(text) == text or decode_text(text).lstrip()[:1] in (b"{", b"[") or text.startswith(b"\xef\xbb")


@every_row(
    ("text", "body"),
    [
        (b64encode(JOB), JOB),
        (b64encode(JOB)[:8] + b"\r\n" + b64encode(JOB)[8:], JOB),
        (b64encode(b" \n" + JOB), b" \n" + JOB),
        (b"\xef\xbb\xbf" + JOB, JOB),
        (b64encode(b"\xef\xbb\xbf" + JOB), JOB),
        (b"\xef\xbb\xbf" + b64encode(JOB), JOB),
        (b64encode(b"[1]"), b"[1]"),
        (b64encode(b'{"customer": "\xe9"}'), b'{"customer": "\xe9"}'),
        (b64encode(JOB).rstrip(b"="), b64encode(JOB).rstrip(b"=") if len(JOB) % 3 else JOB),
        (b"", b""),
        (b"test", b"test"),
        (b"true", b"true"),
        (b64encode(b"hello, world"), b64encode(b"hello, world")),
        (b64encode(b64encode(JOB)), b64encode(b64encode(JOB))),
        ("é{".encode(), "é{".encode()),
    ],
)
def test_texts_and_their_bodies(text: bytes, body: bytes):
    """Base64 that can't be JSON is taken for a text. As in .NET, padding is needed, and white space ignored."""
    assert body == decode_text(text)


def test_the_host_leaves_texts_to_us():
    """With any other encoding, it would move a message in plain JSON to the poison queue, and not decode it there."""
    host = json.loads((Path(__file__).parents[3] / "host.json").read_text())

    assert "none" == host["extensions"]["queues"]["messageEncoding"]

"""
The text of a queue message. What the app writes is base64; what others write is base64 of JSON, or the JSON itself.

The Functions host passes texts on unchanged (`messageEncoding` is `none` in host.json): if it decoded base64 itself, it
would move any other text to the poison queue before our code runs, and could not decode it there either.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def encode_text(body: bytes) -> str:
    """Return a message's text."""
    return b64encode(body).decode()


def decode_text(text: bytes) -> bytes:
    """
    Return the body in a message's text (UTF-8): what its base64 holds, if that may be JSON, else the text itself.

    No text is both: an object's JSON begins with a brace, which base64 does not have. As in .NET, white space in base64
    is ignored, and so is a byte order mark.
    """
    text = text.removeprefix(_BYTE_ORDER_MARK)
    try:
        body = b64decode(b"".join(text.split()), validate=True).removeprefix(_BYTE_ORDER_MARK)
    except ValueError:
        return text
    # A word such as "test" is base64 of a few bytes, too.
    may_be_json = body.lstrip()[:1] in (b"{", b"[")
    return body if may_be_json else text

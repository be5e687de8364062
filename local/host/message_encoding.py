"""
Message bodies to and from the text of a queue message, and the messages that an output becomes.

Pure: knows no queue. What .NET does to an output is from azure-functions-host (`FunctionBinding`).
"""

import base64
import binascii
import json
from typing import Any

from local.host.trigger_metadata import dotnet_text, looks_like_json


class NotBase64(ValueError):
    """The text of a message is not base64."""


def encode_body(body: bytes, encoding: str) -> str:
    """The message text of `body`. `encoding` is host.json's `messageEncoding`."""
    if encoding == "base64":
        return base64.b64encode(body).decode()
    return body.decode(errors="replace")


def decode_text(text: str, encoding: str) -> bytes:
    """The body in a message text. Raises NotBase64."""
    if encoding == "none":
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotBase64("The message is not base64.") from exc


def split_output(value: Any) -> list[bytes]:
    """
    The bodies of the messages that an output becomes. Bytes become one message, unchanged. A list becomes a message
    for each item. A text that looks like JSON is parsed and written again, indented; an array in a text becomes a
    message for each item.

    Raises ValueError for a text that looks like JSON but is invalid, as the real host does.
    """
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, str) and looks_like_json(value):
        value = json.loads(value)
    return [_body(item) for item in (value if isinstance(value, list) else [value])]


def _body(item: Any) -> bytes:
    if isinstance(item, (dict, list)):
        return json.dumps(item, indent=2, ensure_ascii=False).encode()
    return item if isinstance(item, bytes) else _scalar(item).encode()


def _scalar(item: Any) -> str:
    """A scalar of an output. A text is unchanged: Newtonsoft parses times only inside of JSON."""
    return item if isinstance(item, str) else dotnet_text(item)

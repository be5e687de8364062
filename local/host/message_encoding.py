"""
Bytes of ours to and from the text of a queue message, and an output's value to the messages it becomes.

Pure: knows no queue. What .NET does to an output is from azure-functions-host (`FunctionBinding`).
"""

import base64
import binascii
import json
from typing import Any

from local.host.trigger_metadata import looks_like_json, net_text


class NotDecodable(ValueError):
    """The text of a message is not base64."""


def encode_body(body: bytes, encoding: str) -> str:
    """The message text of `body`; `encoding` is host.json's `messageEncoding`."""
    if encoding == "base64":
        return base64.b64encode(body).decode()
    return body.decode(errors="replace")


def decode_text(text: str, encoding: str) -> bytes:
    """The body in a message text. Raises NotDecodable."""
    if encoding == "none":
        return text.encode()
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotDecodable("The message is not base64.") from exc


def split_output(value: Any) -> list[bytes]:
    """
    The bodies of the messages that an output becomes. Bytes are one message, untouched. A list is one
    message each. A text that looks like JSON is parsed and written again, indented, and an array in a
    text is one message each.

    Raises ValueError for a text that looks like JSON and is none, as the real host does.
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
    """A scalar in an output. A text stays as it is: only inside JSON does Newtonsoft take it for a time."""
    return item if isinstance(item, str) else net_text(item)

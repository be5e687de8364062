"""Multipart forms as the standard library's parser reads them."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import NamedTuple

from shared.upstream.messages import Operation
from tests.support.endpoint import Received


class FormPart(NamedTuple):
    """A field, or a file, of a form."""

    name: str
    filename: str | None
    content_type: str | None
    data: bytes


def form_parts(received: Received) -> list[EmailMessage]:
    """Return the parts of a multipart form."""
    head = b"content-type: " + received.headers["content-type"].encode() + b"\r\n\r\n"
    message = message_from_bytes(head + received.body, policy=policy.HTTP)
    assert message.is_multipart()
    return list(message.iter_parts())


def read_form(received: Received) -> list[FormPart]:
    """Return name, file name, media type if it is stated, and content of each part."""
    return [
        FormPart(
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part.get_content_type() if "content-type" in part else None,
            part.get_payload(decode=True),
        )
        for part in form_parts(received)
    ]


async def sent_form(operation: Operation) -> list[FormPart]:
    """Return the parts of the form that an operation was to send."""
    request = operation.request
    assert request.body is not None
    body = b"".join([chunk async for chunk in request.body.chunks()])
    assert request.body.size == len(body)
    headers = {name.lower(): value for name, value in request.headers.items()}
    return read_form(Received("POST", request.url, {}, headers, body))

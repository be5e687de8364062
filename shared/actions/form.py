"""
A multipart form with files that are too large to be whole in memory (RFC 7578, and the HTML standard's encoding).

Members become fields as in the official client: `name[]` for each item of a list, `name[member]` for one of an object.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.actions.base import InputFile

_MAX_DEPTH = 8
"""Of lists and objects in each other. What lies deeper is JSON; no API has that."""
_ESCAPED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


@dataclass(frozen=True, slots=True)
class FilePiece:
    """A part of a blob that the input names."""

    file: InputFile
    start: int
    size: int

    def chunks(self) -> AsyncIterator[bytes]:
        """Iterate over its bytes. Raises as InputFile."""
        return self.file.chunks(self.start, self.size)


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form: `content` is sent in this order."""

    name: str
    filename: str
    content_type: str
    content: Sequence[bytes | FilePiece]


class Form:
    """See `upstream.messages.Body`."""

    def __init__(self, members: Mapping[str, Any], files: Sequence[FormFile]) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts = [*_parts(members, files, boundary)]

    @property
    def size(self) -> int:
        """See Body."""
        return sum(part.size if isinstance(part, FilePiece) else len(part) for part in self._parts)

    async def chunks(self) -> AsyncIterator[bytes]:
        """See Body."""
        for part in self._parts:
            if isinstance(part, FilePiece):
                async for chunk in part.chunks():
                    yield chunk
            else:
                yield part


def _parts(members: Mapping[str, Any], files: Sequence[FormFile], boundary: str) -> Iterator[bytes | FilePiece]:
    fields = [field for name, value in members.items() for field in _fields(name, value)]
    yield "".join(f"{_head(boundary, name)}\r\n\r\n{text}\r\n" for name, text in fields).encode(errors="replace")
    for file in files:
        filename = file.filename.translate(_ESCAPED)
        head = f'{_head(boundary, file.name)}; filename="{filename}"\r\nContent-Type: {file.content_type}\r\n\r\n'
        yield head.encode(errors="replace")
        yield from file.content
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def _head(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name.translate(_ESCAPED)}"'


def _fields(name: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping | list) and depth == _MAX_DEPTH:
        yield name, msgspec.json.encode(value).decode()
    elif isinstance(value, Mapping):
        for member, inner in value.items():
            yield from _fields(f"{name}[{member}]", inner, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _fields(name if name.endswith("[]") else f"{name}[]", item, depth + 1)
    elif isinstance(value, bool):
        yield name, "true" if value else "false"
    elif value is not None:
        yield name, str(value)

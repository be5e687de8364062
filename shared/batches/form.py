"""A form with a file, as it is uploaded: in pieces. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from urllib.parse import quote

_CHUNK_BYTES = 64 * 1024


def write_form(boundary: str, filename: str, fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what comes before and after the file."""
    parts = [
        f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{quote(filename)}"\r\n'
    return f"{''.join(parts)}{file}content-type: application/jsonl\r\n\r\n".encode(), f"\r\n--{boundary}--\r\n".encode()


async def in_chunks(before: bytes, lines: AsyncIterable[bytes], after: bytes) -> AsyncIterator[bytes]:
    """Yield a form with lines, several at a time."""
    waiting, size = [before], len(before)
    async for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join([*waiting, after])

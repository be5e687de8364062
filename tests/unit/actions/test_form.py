"""Forms with files: what the standard library's parser reads of them, and their sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.form import FilePiece, Form, FormFile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class MemoryFile:
    """A file in memory; see InputFile."""

    data: bytes
    version: str = "1"

    @property
    def size(self) -> int:
        """See InputFile."""
        return len(self.data)

    async def read(self, start: int, size: int) -> bytes:
        """See InputFile."""
        return self.data[start : start + size]

    async def chunks(self, start: int, size: int) -> AsyncIterator[bytes]:
        """See InputFile."""
        for at in range(start, start + size, 3):
            yield self.data[at : min(at + 3, start + size)]


async def sent(form: Form) -> bytes:
    """Return the form's bytes."""
    return b"".join([chunk async for chunk in form.chunks()])


async def parts_of(form: Form) -> list[tuple[str | None, str | None, str, bytes]]:
    """Return name, file name, type and content of each part."""
    head = f"content-type: {form.content_type}\r\n\r\n".encode()
    message = message_from_bytes(head + await sent(form), policy=policy.HTTP)
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


async def test_members_and_files_are_parts():
    """Lists repeat a name, objects name their members, and a file is what its pieces are, whatever they hold."""
    form = Form(
        {
            "model": "whisper-1",
            "temperature": 0.2,
            "timestamp_granularities": ["word", "segment"],
            "include[]": ["logprobs"],
            "chunking_strategy": {"type": "server_vad", "threshold": 0.5},
            "none": None,
            "yes": True,
            'a"b\r\n': "line\nline",
        },
        [FormFile("file", "a.wav", "audio/wav", [b"head", FilePiece(MemoryFile(b"0123456789"), 2, 7)])],
    )

    assert [
        ("model", None, b"whisper-1"),
        ("temperature", None, b"0.2"),
        ("timestamp_granularities[]", None, b"word"),
        ("timestamp_granularities[]", None, b"segment"),
        ("include[]", None, b"logprobs"),
        ("chunking_strategy[type]", None, b"server_vad"),
        ("chunking_strategy[threshold]", None, b"0.5"),
        ("yes", None, b"true"),
        ("a%22b%0D%0A", None, b"line\nline"),
        ("file", "a.wav", b"head2345678"),
    ] == [(name, filename, data) for name, filename, _, data in await parts_of(form)]


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.lists(st.binary(max_size=20), max_size=3))
def test_size_is_what_is_sent(members: dict[str, Any], files: list[bytes]):
    """The length is announced before the first byte, so it must be exact; it is sent the same again."""
    form = Form(
        members, [FormFile("f", "f", "a/b", [data, FilePiece(MemoryFile(data), 0, len(data))]) for data in files]
    )

    assert form.size == len(asyncio.run(sent(form)))
    assert asyncio.run(sent(form)) == asyncio.run(sent(form))


@pytest.mark.parametrize("kind", [list, dict])
async def test_deep_members_are_json(kind: type):
    """However deep a caller's parameter is, it is one that can be sent."""
    value: Any = 1
    for _ in range(500):
        value = [value] if kind is list else {"a": value}

    ((name, _, _, data),) = await parts_of(Form({"x": value}, []))

    assert name is not None
    assert (b"[[" if kind is list else b'{"a":{') == data[: 2 if kind is list else 6]

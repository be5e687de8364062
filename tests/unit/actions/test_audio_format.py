"""Types of audio by their signatures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.actions.audio_format import inspect_audio
from tests.support import audio_samples as samples
from tests.support.rows import every_row


@every_row(
    ("data", "content_type", "extension"),
    [
        (samples.MP3, "audio/mpeg", "mp3"),
        (samples.MP3_TAGGED, "audio/mpeg", "mp3"),
        (samples.AAC, "audio/aac", "aac"),
        (samples.FLAC, "audio/flac", "flac"),
        (samples.OPUS, "audio/ogg", "opus"),
        (samples.OPUS.replace(b"OpusHead", b"\x01vorbis."), "audio/ogg", "ogg"),
        (samples.MP4, "audio/mp4", "mp4"),
        (samples.WEBM, "audio/webm", "webm"),
        (samples.wav(), "audio/wav", "wav"),
    ],
)
def test_type_is_read_from_the_signature(data: bytes, content_type: str, extension: str):
    """Each format is recognised by its first 36 bytes."""
    assert (content_type, extension) == inspect_audio(data[:36])


@every_row(
    "data",
    [b"", b"\xff", b"\xff\xfb", b'{"error": 1}', b"<html>", b"RIFF\0\0\0\0WEBP", b"\xff\xfe{\0", b"\x89PNG\r\n"],
)
def test_what_is_no_audio_has_no_type(data: bytes):
    """Neither an error, nor a page, an image or a text is taken for audio."""
    assert inspect_audio(data) is None


@given(st.binary(max_size=64))
def test_any_bytes_can_be_inspected(data: bytes):
    """No bytes are an error."""
    assert inspect_audio(data) == inspect_audio(data[:36])

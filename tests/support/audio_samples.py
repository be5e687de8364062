"""Recordings, and audio of each format as an endpoint returns it."""

from __future__ import annotations

import io
import math
import struct
import wave
from array import array
from collections.abc import Sequence

MP3 = b"\xff\xfb\x90\x64" + b"\0" * 413
MP3_TAGGED = b"ID3\x04\0\0\0\0\0\0" + MP3
AAC = b"\xff\xf1\x50\x80\x01\x7f\xfc" + b"\0" * 40
FLAC = b"fLaC\0\0\0\x22" + b"\0" * 34
OPUS = b"OggS\0\x02" + b"\0" * 20 + b"\x01\x13OpusHead\x01\x01" + b"\0" * 10
MP4 = b"\0\0\0\x20ftypM4A \0\0\0\0" + b"\0" * 20
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01" + b"\0" * 30


def wav(frames: bytes = b"\0\0" * 80, *, channels: int = 1, rate: int = 8000, sample_bytes: int = 2) -> bytes:
    """Return a WAV file as the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(sample_bytes)
        writer.setframerate(rate)
        writer.writeframes(frames)
    return file.getvalue()


def spoken(seconds: Sequence[tuple[float, bool]], *, rate: int = 8000) -> bytes:
    """Return the frames of 16 bits of one channel in which somebody speaks for so long, or does not."""
    samples = array("h")
    for length_s, is_loud in seconds:
        level = 12_000 if is_loud else 20
        samples.extend(int(level * math.sin(at / 3)) for at in range(int(length_s * rate)))
    return samples.tobytes()


def described(data: bytes, *, before: int = 30, size: int | None = None) -> bytes:
    """Return a WAV file with a chunk before its samples, as recorders write it; `size` is what its header says."""
    riff, form, samples = data[:12], data[12:36], data[44:]
    chunk = struct.pack("<4sI", b"bext", before) + b"x" * (before + before % 2)
    return riff + chunk + form + struct.pack("<4sI", b"data", len(samples) if size is None else size) + samples

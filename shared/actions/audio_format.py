"""Read the media type and file extension of audio from its first bytes. Pure."""

from __future__ import annotations

from typing import NamedTuple


class AudioType(NamedTuple):
    """A media type, and the file extension by which providers know it."""

    content_type: str
    extension: str


# The signatures of the WHATWG's "MIME Sniffing" standard, section 6.2, and of the formats' own specifications.
_SIGNATURES = (
    (b"fLaC", 0, AudioType("audio/flac", "flac")),
    (b"OpusHead", 28, AudioType("audio/ogg", "opus")),
    (b"OggS", 0, AudioType("audio/ogg", "ogg")),
    (b"ID3", 0, AudioType("audio/mpeg", "mp3")),
    (b"ADIF", 0, AudioType("audio/aac", "aac")),
    (b"ftyp", 4, AudioType("audio/mp4", "mp4")),
    (b"\x1a\x45\xdf\xa3", 0, AudioType("audio/webm", "webm")),
)
WAV_FILES = frozenset({b"RIFF", b"RF64", b"BW64"})
"""How WAV begins; the latter two say that their sizes have 64 bits (EBU Tech 3306, ITU-R BS.2088)."""
WAV, _MP3, _AAC = AudioType("audio/wav", "wav"), AudioType("audio/mpeg", "mp3"), AudioType("audio/aac", "aac")
_HEAD_BYTES = 3
# A frame of MPEG audio begins with eleven bits that are set, then its version and its layer. ADTS, of AAC, has layer 0.
_SYNC, _LAYER, _VERSION = 0xFFE0, 0x0006, 0x0018
_LAYER_1, _NO_VERSION = 0x0006, 0x0008
_BITRATE, _RATE = 0xF0, 0x0C
"""Of the third byte: invalid if all of their bits are set."""


def inspect_audio(data: bytes) -> AudioType | None:
    """Return the type of audio by its signature, of which 36 bytes are enough; None if it has none that is known."""
    if data[:4] in WAV_FILES and data[8:12] == b"WAVE":
        return WAV
    for signature, offset, audio_type in _SIGNATURES:
        if data.startswith(signature, offset):
            return audio_type
    return _frame_type(data[:_HEAD_BYTES]) if len(data) >= _HEAD_BYTES else None


def _frame_type(head: bytes) -> AudioType | None:
    frame, rest = int.from_bytes(head[:2], "big"), head[2]
    if frame & _SYNC != _SYNC or frame & _VERSION == _NO_VERSION or rest & _RATE == _RATE:
        return None
    if not frame & _LAYER:
        return _AAC
    return _MP3 if frame & _LAYER != _LAYER_1 and rest & _BITRATE != _BITRATE else None

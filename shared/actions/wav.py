"""
WAV without compression: where its samples are, and where it is quiet, so that it can be cut there. Pure.

The standard library's `wave` reads a whole file, and before Python 3.12 not the extended header that recorders write.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass

from shared.actions.audio_format import WAV_FILES

HEAD_BYTES = 256 * 1024
"""Of a file. Its samples may begin after long descriptions."""
_PCM, _FLOAT, _EXTENDED = 1, 3, 0xFFFE
_FORM_BYTES, _EXTENDED_FORM_BYTES = 16, 26
MIN_BYTES_PER_SECOND = _MIN_RATE = 4000
"""Samples a second that speech has at least."""
_UNKNOWN = 0xFFFFFFFF
"""A size that does not fit its 32 bits, or that was never filled in. It is the largest number of a header."""
_THREE = 3
_SAMPLES = {_PCM: {1: "B", 2: "h", 3: "h", 4: "i"}, _FLOAT: {4: "f", 8: "d"}}
"""By their kind and their bytes: the type of an array of them."""
_BLOCK_S, _QUIET_BLOCKS = 0.02, 15
"""How quiet it is follows from the loudest of some blocks in a row: 0.3 s."""


@dataclass(frozen=True, slots=True)
class Wav:
    """Samples in a file: `size` bytes from `start` on."""

    channels: int
    rate: int
    sample_bytes: int
    start: int
    size: int
    kind: int = _PCM

    @property
    def frame_bytes(self) -> int:
        """The bytes of one sample of all channels."""
        return self.channels * self.sample_bytes

    @property
    def bytes_per_second(self) -> int:
        """The bytes of one second."""
        return self.rate * self.frame_bytes

    def header(self, size: int) -> bytes:
        """Return the header of a file with so many bytes of samples."""
        bits, block = 8 * self.sample_bytes, self.frame_bytes
        form = struct.pack("<HHIIHH", self.kind, self.channels, self.rate, self.rate * block, block, bits)
        riff = struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE")
        return riff + struct.pack("<4sI", b"fmt ", len(form)) + form + struct.pack("<4sI", b"data", size)


def read_wav(head: bytes, file_size: int) -> Wav | None:
    """Return where the samples of a file are that begins with `head`; None if it is no WAV without compression."""
    if head[:4] not in WAV_FILES or head[8:12] != b"WAVE":
        return None
    form, at, long_size = b"", 12, _UNKNOWN
    while at + 8 <= len(head):
        kind, size = struct.unpack_from("<4sI", head, at)
        at += 8
        if kind == b"data":
            size = long_size if size == _UNKNOWN else size
            return _wav(form, at, min(size or file_size, file_size - at))
        if kind == b"ds64" and at + 16 <= len(head):  # the sizes of the file and of its samples
            (long_size,) = struct.unpack_from("<Q", head, at + 8)
        if kind == b"fmt ":
            form = head[at : at + size]
        at += size + size % 2
    return None


def _wav(form: bytes, start: int, size: int) -> Wav | None:
    """`size` is what is there: a recorder that was interrupted has left 0, or more than was written."""
    if len(form) < _FORM_BYTES:
        return None
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if kind == _EXTENDED and len(form) >= _EXTENDED_FORM_BYTES:
        (kind,) = struct.unpack_from("<H", form, 24)
    sample_bytes = bits // 8
    is_known = bits % 8 == 0 and sample_bytes in _SAMPLES.get(kind, ())
    if not is_known or not channels or block != channels * sample_bytes or size < block:
        return None
    if not _MIN_RATE <= rate <= _UNKNOWN // block:
        return None
    return Wav(channels, rate, sample_bytes, start, size - size % block, kind)


def quietest(data: bytes, wav: Wav) -> int:
    """Return the byte of whole frames `data` in the middle of where it is quietest; of several such, of the last."""
    block = max(int(wav.rate * _BLOCK_S), 1) * wav.channels
    samples = _samples(data, wav)
    blocks = (samples[at : at + block] for at in range(0, len(samples) - block + 1, block))
    levels = [max(each) - min(each) for each in blocks]
    if not levels:
        return 0
    row = min(_QUIET_BLOCKS, len(levels))
    loudest = [max(levels[at : at + row]) for at in range(len(levels) - row + 1)]
    best = max(range(len(loudest)), key=lambda at: (-loudest[at], at))
    cut = int((best + row / 2) * block) * wav.sample_bytes
    return cut - cut % wav.frame_bytes


def _samples(data: bytes, wav: Wav) -> array[int] | array[float]:
    if wav.sample_bytes == _THREE:  # the upper two bytes of each
        upper = bytearray(len(data) // 3 * 2)
        upper[0::2], upper[1::2] = data[1::3], data[2::3]
        data = bytes(upper)
    return array(_SAMPLES[wav.kind][wav.sample_bytes], data)

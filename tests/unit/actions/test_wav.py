"""WAV: read, cut where it is quiet, and written again."""

from __future__ import annotations

import io
import struct
import wave
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.actions.audio_format import inspect_audio
from shared.actions.wav import HEAD_BYTES, Wav, quietest, read_wav
from tests.support.audio_samples import described, spoken, wav
from tests.support.rows import every_row

FORMATS = st.tuples(st.integers(1, 6), st.sampled_from([8000, 16_000, 44_100]), st.integers(1, 4))


@given(FORMATS, st.integers(1, 300), st.integers(0, 50))
def test_samples_are_where_the_standard_library_reads_them(kind: tuple[int, int, int], frames: int, before: int):
    """Channels, rate and samples are those of `wave`, also behind other chunks."""
    channels, rate, sample_bytes = kind
    data = wav(bytes(range(256)) * 30, channels=channels, rate=rate, sample_bytes=sample_bytes)
    size = frames * channels * sample_bytes
    data = described(data[: 44 + size], before=before)

    layout = read_wav(data, len(data))

    assert layout is not None
    assert kind == (layout.channels, layout.rate, layout.sample_bytes)
    with wave.open(io.BytesIO(data)) as reader:
        assert reader.readframes(frames) == data[layout.start : layout.start + layout.size]


@given(FORMATS, st.binary(min_size=1, max_size=200))
def test_header_is_one_that_the_standard_library_reads(kind: tuple[int, int, int], frames: bytes):
    """A piece with its header is the file that `wave` writes."""
    layout = Wav(*kind, 0, 0)
    frames = frames * layout.frame_bytes

    assert wav(frames, channels=kind[0], rate=kind[1], sample_bytes=kind[2]) == layout.header(len(frames)) + frames


def form(kind: int, channels: int, rate: int, bits: int) -> bytes:
    """Return the chunk that describes samples."""
    block = channels * bits // 8
    return b"fmt " + struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * block & 0xFFFFFFFF, block, bits)


@pytest.mark.parametrize("bits", [32, 64])
def test_floating_point_is_no_compression(bits: int):
    """Recorders and editors write it. A piece of it is said to be so, too, and is cut where it is quiet."""
    code = {32: "f", 64: "d"}[bits]
    loud, quiet = struct.pack(f"<2{code}", 0.5, -0.5), struct.pack(f"<2{code}", 0.01, float("nan"))
    samples = loud * 4000 + quiet * 4000 + loud * 4000
    data = b"RIFF\0\0\0\0WAVE" + form(3, 1, 8000, bits) + struct.pack("<4sI", b"data", len(samples)) + samples

    layout = read_wav(data, len(data))

    assert layout is not None
    assert form(3, 1, 8000, bits) == layout.header(8)[12:36]
    assert 8000 < quietest(samples.replace(quiet[bits // 8 :], bytes(bits // 8)), layout) * 8 / bits < 16_000
    assert 0 == quietest(samples, layout) % (bits // 8)


@pytest.mark.parametrize("name", [b"RF64", b"BW64"])
def test_what_follows_the_samples_of_a_long_file_is_none_of_them(name: bytes):
    """WAV beyond 4 GB, and of recorders that prepare for that, has its sizes in a chunk of their own."""
    samples, tags = b"\1\2" * 100, b"LIST\4\0\0\0abcd"
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 0, len(samples), 100, 0)
    data = name + b"\xff\xff\xff\xffWAVE" + sizes + form(1, 1, 8000, 16) + b"data\xff\xff\xff\xff" + samples + tags

    layout = read_wav(data, len(data))

    assert inspect_audio(data) == inspect_audio(wav())
    assert layout is not None
    assert samples == data[layout.start : layout.start + layout.size]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 10_000])
def test_a_recording_that_was_interrupted_is_read_to_its_end(size: int):
    """A header that says 0, or more than there is, means all that is there, in whole samples."""
    data = described(wav(b"\1\2" * 50) + b"\3", size=size)

    layout = read_wav(data, len(data))

    assert layout is not None
    assert 100 == layout.size


def test_extended_header_is_read():
    """Recorders write the format of more than two channels, or 16 bits, with an identifier."""
    plain = wav(b"\1\2\3" * 60, channels=2, sample_bytes=3, rate=48_000)
    form = struct.pack("<HHIIHH", 0xFFFE, 2, 48_000, 288_000, 6, 24) + struct.pack("<HHI", 22, 24, 3)
    for code, is_read in ((1, True), (3, False)):
        whole = form + struct.pack("<H", code) + bytes(14)
        data = plain[:12] + struct.pack("<4sI", b"fmt ", len(whole)) + whole + plain[36:]
        layout = read_wav(data, len(data))
        assert is_read == (layout is not None)
        assert layout is None or (2, 48_000, 3, 180) == (layout.channels, layout.rate, layout.sample_bytes, layout.size)


@every_row(
    ("at", "value"),
    [
        (0, b"RIFX"),
        (8, b"WEBP"),
        (20, b"\3\0"),
        (20, b"\x11\0"),
        (22, b"\0\0"),
        (24, bytes(4)),
        (32, b"\5\0"),
        (34, b"\7\0"),
        (16, b"\x0e\0\0\0"),
        (22, b"\0\0" + b"\x40\x1f\0\0" + bytes(4) + bytes(2)),
    ],
)
def test_what_can_not_be_cut_is_none(at: int, value: bytes):
    """Other files, compressed samples, and formats that contradict themselves."""
    data = wav()

    assert read_wav(data[:at] + value + data[at + len(value) :], len(data)) is None


def test_samples_may_begin_after_long_descriptions():
    """As long as they begin within what is read of the file first."""
    samples = b"\1\2" * 100
    for before, is_found in ((HEAD_BYTES - 44 - 8, True), (HEAD_BYTES - 44, False)):
        data = described(wav(samples), before=before)
        layout = read_wav(data[:HEAD_BYTES], len(data))
        assert is_found == (layout is not None)
        assert layout is None or samples == data[layout.start : layout.start + layout.size]


def test_less_than_one_frame_is_nothing_to_cut():
    """A recording that ended before it began."""
    data = wav(b"\1\2\3\4", channels=2)

    assert read_wav(data, len(data)) is not None
    assert read_wav(data[:-1], len(data) - 1) is None


@given(st.binary(max_size=200).map(lambda data: b"RIFF\0\0\0\0WAVE" + data), st.integers(0, 10**9))
@example(b"RIFF\0\0\0\0WAVEfmt \xff\xff\xff\xff", 100)
@example(b"RIFF\0\0\0\0WAVE" + form(1, 2, 0xF000_0000, 16) + b"data\0\0\0\0", 10**7)
@example(b"RIFF\0\0\0\0WAVE" + form(1, 2, 48_000, 16) + b"data\0\0\0\0", 10**7)
def test_any_header_can_be_read(data: bytes, size: int):
    """No bytes are an error; what is found is within the file, and can be cut."""
    layout = read_wav(data, max(size, len(data)))

    if layout is not None:
        assert layout.start + layout.size <= max(size, len(data))
        again = read_wav(layout.header(layout.size), 44 + layout.size)
        assert again == replace(layout, start=44)
        assert 0 == quietest(bytes(5 * layout.frame_bytes), layout) % layout.frame_bytes


def test_it_is_cut_within_the_last_silence():
    """Of several silences of the same depth it is the last; a short pause doesn't count as one."""
    frames = spoken([(1, True), (0.6, False), (1, True), (0.8, False), (2, True), (0.1, False), (1, True)])
    layout = Wav(1, 8000, 2, 0, len(frames))

    cut = quietest(frames, layout)

    assert 3.4 - 0.15 == pytest.approx(cut / 16_000, abs=0.02)
    assert 0 == cut % 2


def test_all_channels_have_to_be_quiet():
    """Of two that speak in turn, each on a channel of its own, neither is cut off."""
    left = spoken([(1, True), (1, False), (0.5, False), (1, True)])
    right = spoken([(1, False), (1, True), (0.5, False), (1, True)])
    frames = b"".join(left[at : at + 2] + right[at : at + 2] for at in range(0, len(left), 2))

    cut = quietest(frames, Wav(2, 8000, 2, 0, len(frames)))

    assert 2.5 - 0.15 == pytest.approx(cut / 32_000, abs=0.03)


@given(FORMATS, st.binary(min_size=1, max_size=2000))
def test_a_cut_is_between_frames(kind: tuple[int, int, int], data: bytes):
    """Whatever the samples are, the cut is within them, between two frames."""
    layout = Wav(*kind, 0, 0)
    data = data * layout.frame_bytes

    cut = quietest(data, layout)

    assert 0 <= cut <= len(data)
    assert 0 == cut % layout.frame_bytes


@every_row("sample_bytes", [1, 2, 3, 4])
def test_silence_is_found_in_samples_of_any_size(sample_bytes: int):
    """Also if it is not at zero, as in samples of one byte."""
    below = b"\0" * (sample_bytes - 1)
    high, low, quiet = (below + bytes([each]) for each in (0x30, 0xD0, 0x00))
    if sample_bytes == 1:
        high, low, quiet = b"\x90", b"\x70", b"\x80"
    data = (high + low) * 8000 + quiet * 8000 + (high + low) * 8000

    cut = quietest(data, Wav(1, 8000, sample_bytes, 0, len(data))) / sample_bytes

    assert 16_000 < cut < 24_000

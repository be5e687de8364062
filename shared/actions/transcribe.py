"""
`transcribe`: the text of a recording.

A call is a step. A recording that is too much for one call is cut where it is quiet, and each piece is a call; the
places are a step before them, so that a later attempt cuts at the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.audio_format import WAV, inspect_audio
from shared.actions.base import Completed, Context, InputFile, Outcome, Step
from shared.actions.fan_out import Part, join, reason_of, side_by_side
from shared.actions.form import FilePiece, FormFile
from shared.actions.openai_api import check_openai_api
from shared.actions.transcript import TIMED, join_transcriptions, read_transcription, subtitles
from shared.actions.wav import HEAD_BYTES, MIN_BYTES_PER_SECOND, Wav, quietest, read_wav
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.transcribe import Transcribe, decode_transcribe
from shared.errors import CredentialRejected, InvalidJob, UpstreamRetryLater

NEEDS_MODEL = True
MAX_CALL_BYTES = 25_000_000
"""Of the audio of one call. Providers refuse larger forms."""
MAX_AUDIO_BYTES = 200_000_000

MAX_CALL_S, _MAX_PIECE_S = 1390, 1200
"""Of what can be cut, and of its pieces. GPT models take no more than 1,400 s in a call."""
_SEARCHED_BYTES = 4 * 1024 * 1024
"""Of the end of a piece, in which it is cut where it is quietest."""
_SIGNATURE_BYTES = 36
_OPERATION = "audio/transcriptions"
_SHOWN = {
    "text": ("text", "adapted"),
    "srt": ("text", "srt", "language", "duration", "adapted"),
    "vtt": ("text", "vtt", "language", "duration", "adapted"),
}
"""The members of the output, unless it has all that the model reports."""


class _Piece(msgspec.Struct, frozen=True):
    """A part of a WAV file: `size` bytes of samples from `start` on, the first of which are heard at `start_s`."""

    start: int
    size: int
    start_s: float


class _Plan(msgspec.Struct, frozen=True):
    """How a version of a file is cut."""

    version: str
    channels: int
    rate: int
    sample_bytes: int
    pieces: list[_Piece]
    kind: int = 1


def decode(data: Raw | bytes) -> Transcribe:
    """See Action."""
    return decode_transcribe(data)


def keeps_blobs(_: Transcribe) -> bool:
    """See Action."""
    return False


async def run(request: Transcribe, ctx: Context) -> Outcome:
    """See Action."""
    check_openai_api(ctx.connection.endpoint, "transcriptions")
    whole, stored_plan, file = await ctx.get_step("whole"), await ctx.get_step("plan"), None
    if whole is None and stored_plan is None:  # else it was read already, and may be gone
        file = await _open(request, ctx)
        if file.size > MAX_CALL_BYTES or await _is_long(file):
            stored_plan = await ctx.step("plan", partial(_plan, file))
    if stored_plan is None:
        whole = await ctx.step("whole", partial(_transcribe, request, ctx, file))
        return _outcome(request, [whole.value], [0.0])
    plan = msgspec.convert(stored_plan.value, _Plan)
    parts = await side_by_side(
        ctx.step(f"{number:03}", partial(_transcribe, request, ctx, file, plan, piece))
        for number, piece in enumerate(plan.pieces)
    )
    done, errors = [part for part in parts if isinstance(part, Step)], [p for p in parts if isinstance(p, Exception)]
    if errors:
        # A permanent failure ends the job at once, though other parts could still succeed.
        permanent = [error for error in errors if not isinstance(error, UpstreamRetryLater | CredentialRejected)]
        return join(permanent or errors, partial(_failed, permanent or errors))
    return _outcome(request, [part.value for part in done], [piece.start_s for piece in plan.pieces])


async def _open(request: Transcribe, ctx: Context) -> InputFile:
    return await ctx.open_blob(request.blob, at="input.blob", max_bytes=MAX_AUDIO_BYTES)


async def _is_long(file: InputFile) -> bool:
    """Return whether a recording that can be cut is heard for too long: with few bits, it may have few bytes."""
    if file.size <= MAX_CALL_S * MIN_BYTES_PER_SECOND or inspect_audio(await file.read(0, _SIGNATURE_BYTES)) != WAV:
        return False
    wav = read_wav(await file.read(0, HEAD_BYTES), file.size)
    return wav is not None and wav.size > MAX_CALL_S * wav.bytes_per_second


async def _plan(file: InputFile) -> Step:
    wav = read_wav(await file.read(0, HEAD_BYTES), file.size)
    if wav is None:
        raise InvalidJob(
            f"`input.blob` names audio of more than {MAX_CALL_BYTES // 1_000_000} MB, the most that providers take. "
            "Only WAV without compression can be cut: compress it, for example as mp3 or opus, or cut it yourself."
        )
    longest = min(MAX_CALL_BYTES - len(wav.header(0)), _MAX_PIECE_S * wav.bytes_per_second)
    longest -= longest % wav.frame_bytes
    searched = min(_SEARCHED_BYTES, longest // 2)
    searched -= searched % wav.frame_bytes
    starts = [0]
    while wav.size - starts[-1] > longest:
        searched_from = starts[-1] + longest - searched
        data = await file.read(wav.start + searched_from, searched)
        starts.append(searched_from + await asyncio.to_thread(quietest, data, wav))
    pieces = [
        _Piece(wav.start + start, end - start, start / wav.bytes_per_second)
        for start, end in zip(starts, [*starts[1:], wav.size], strict=True)
    ]
    plan = _Plan(file.version, wav.channels, wav.rate, wav.sample_bytes, pieces, wav.kind)
    return Step(msgspec.to_builtins(plan))


async def _transcribe(
    request: Transcribe, ctx: Context, file: InputFile | None, plan: _Plan | None = None, piece: _Piece | None = None
) -> Step:
    file = file or await _open(request, ctx)
    if plan is None or piece is None:
        audio = await _whole(file)
    else:
        if file.version != plan.version:
            raise InvalidJob("`input.blob` names a blob that was changed while the job ran.")
        wav = Wav(plan.channels, plan.rate, plan.sample_bytes, piece.start, piece.size, plan.kind)
        content = (wav.header(wav.size), FilePiece(file, wav.start, wav.size))
        audio = FormFile("file", "audio.wav", "audio/wav", content)
    kind = request.text_format
    body = {**request.parameters, **({"response_format": "verbose_json"} if kind in TIMED else {})}
    operation = ctx.operation(_OPERATION, body)
    operation.attach([audio])
    response = await ctx.call(operation)
    read = await ctx.compute(partial(read_transcription, kind=kind), response, large=response.is_large)
    adapted = {"adapted": operation.adapted} if operation.adapted else {}
    if read.error is not None:
        return Step({"error": msgspec.to_builtins(error_body(read.error))}, [read.call])
    return Step({"members": read.members | adapted}, [read.call])


async def _whole(file: InputFile) -> FormFile:
    info = inspect_audio(await file.read(0, _SIGNATURE_BYTES))
    if info is None:
        raise InvalidJob("`input.blob` names a blob that is no audio: mp3, mp4, m4a, ogg, opus, flac, wav or webm.")
    # Providers know Opus by the extension of its container.
    extension = "ogg" if info.extension == "opus" else info.extension
    return FormFile("file", f"audio.{extension}", info.content_type, [FilePiece(file, 0, file.size)])


def _outcome(request: Transcribe, values: Sequence[dict[str, Any]], starts_s: Sequence[float]) -> Completed:
    errors = [error_from_body(value["error"]) for value in values if "error" in value]
    if errors:
        return Completed(None, (), "failed", errors[0])
    members = join_transcriptions([value["members"] for value in values], starts_s)
    kind = request.text_format
    if kind in {"srt", "vtt"}:
        members[kind] = subtitles(members["segments"], kind)
    if kind in _SHOWN:
        members = {name: members[name] for name in _SHOWN[kind] if name in members}
    return Completed({**members, "parts": len(values)} if len(values) > 1 else members)


def _failed(errors: Sequence[Part]) -> Completed:
    return Completed(None, (), "failed", reason_of(errors[0]))

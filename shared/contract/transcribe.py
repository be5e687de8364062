"""The input of `transcribe`: a recording, and what its text should be like."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import BlobName, BlobPath, Text, parse_blob_name
from shared.contract.parameters import merged_parameters
from shared.errors import InvalidJob

TextFormat = Literal["text", "json", "verbose_json", "srt", "vtt"]

INSTEAD = {
    "file": "set `input.blob` instead",
    "response_format": "set `input.response_format` instead",
    "model": "set the job's own `model` instead",
    "stream": "a job doesn't stream its result",
}
"""What `parameters` can't hold, and what to do about it."""
_SUBTITLES = frozenset({"srt", "vtt"})


class TranscribeInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`blob` with the name of a recording."""

    blob: BlobPath
    """A blob of a recording: at most 25 MB, or 200 MB of WAV without compression."""
    language: Text | None = None
    """The language that is spoken, such as `en`. If left out, the model finds out."""
    prompt: Text | None = None
    """Words and names as they are to be written, in the recording's language."""
    response_format: TextFormat = "json"
    """What there is beside the text: `verbose_json` has segments with times; `srt` and `vtt` are subtitles."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Transcribe(Struct, frozen=True):
    """The recording to be transcribed, what the output has, and everything else as the model takes it."""

    blob: BlobName
    text_format: str
    parameters: dict[str, Any]


def decode_transcribe(data: Raw | bytes) -> Transcribe:
    """What `data`, a job's input, wants transcribed. Raises InvalidJob with the path of the member at fault."""
    transcribe = decode(data, TranscribeInput, at="input")
    members = {"language": transcribe.language, "prompt": transcribe.prompt}
    parameters = merged_parameters(transcribe.parameters, members, INSTEAD)
    granularities = parameters.get("timestamp_granularities")
    if transcribe.response_format in _SUBTITLES and isinstance(granularities, list) and "segment" not in granularities:
        raise InvalidJob("`input.parameters.timestamp_granularities` must have segment: subtitles are made of those.")
    return Transcribe(parse_blob_name(transcribe.blob, at="input.blob"), transcribe.response_format, parameters)

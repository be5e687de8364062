"""The input of `speak`: a text, and the voice that says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import Line
from shared.contract.parameters import merged_parameters

AudioFormat = Literal["mp3", "wav", "opus", "flac", "aac"]
SpokenText = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"\S",
        description="text of at most 4,096 characters that is not blank: a longer one takes several jobs",
    ),
]

INSTEAD = {
    "input": "set `input.text` instead",
    "voice": "set `input.voice` instead",
    "response_format": "set `input.format` instead",
    "model": "set the job's own `model` instead",
    "stream_format": "a job doesn't stream its result",
}
"""What `parameters` can't hold, and what to do about it."""


class SpeakInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to say."""

    text: SpokenText
    """What to say."""
    voice: Line
    """Such as `alloy`; the model decides which voices there are."""
    format: AudioFormat | None = None
    """What the audio is stored as. If left out, the model's default, which is `mp3` at OpenAI."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Speak(Struct, frozen=True):
    """The text to say, and everything else as the model takes it."""

    text: str
    parameters: dict[str, Any]


def decode_speak(data: Raw | bytes) -> Speak:
    """What `data`, a job's input, wants said. Raises InvalidJob with the path of the member at fault."""
    speak = decode(data, SpeakInput, at="input")
    own = {"voice": speak.voice, **({} if speak.format is None else {"response_format": speak.format})}
    return Speak(speak.text, own | merged_parameters(speak.parameters, {}, INSTEAD))

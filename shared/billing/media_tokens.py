"""How many tokens images and sounds in a job's input are at most, and what of its messages they are. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

MEDIA_TOKENS = 10_000
"""Of an image or a sound that a message names or holds; the largest image that is known has fewer."""
SOUND_BYTES, _WAV_BYTES = 130, 2_000
"""Of base64 for each token of a sound: a tenth of a second at 8 kbit/s, and as 8,000 samples a second."""


def without_media(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message without its images and sounds."""
    parts = _parts(message)
    rest = [part for part in parts if not _is_media(part)]
    return message if len(rest) == len(parts) else {**message, "content": rest}


def media_of(messages: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return what of the input are images and sounds; empty: neither."""
    media: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message.get("content"), list):  # most have a text alone
            media += filter(_is_media, all_parts(message))
    if not media:
        return {}
    sounds = [_sound(part.get("input_audio")) for part in media if part["type"] == "input_audio"]
    return media_counts(len(media) - len(sounds), sum(sounds))


def images_in(messages: Sequence[Mapping[str, Any]]) -> int:
    """Return how many images messages have."""
    return media_of(messages).get("image_input_tokens", 0) // MEDIA_TOKENS


def _sound(value: Any) -> int:
    sound = value if isinstance(value, dict) else {}
    return max(
        size_of(sound.get("data")) // (_WAV_BYTES if sound.get("format") == "wav" else SOUND_BYTES), MEDIA_TOKENS
    )


def media_counts(images: int, audio_tokens: int) -> dict[str, int]:
    """Return the counts, as a usage record has them, of so many images and tokens of sounds."""
    counts = {"image_input_tokens": images * MEDIA_TOKENS, "audio_input_tokens": audio_tokens}
    return {name: count for name, count in counts.items() if count}


def _parts(message: Mapping[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def all_parts(message: Mapping[str, Any]) -> Iterator[Any]:
    """Yield a message's parts, and over those of a tool's result in it, as Claude has them."""
    for part in _parts(message):
        yield part
        if isinstance(part, dict) and part.get("type") == "tool_result":
            yield from _parts(part)


def _is_media(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in {"image_url", "input_image", "image", "input_audio"}


def speaks(parameters: Mapping[str, Any]) -> bool:
    """Return whether a model with these parameters answers with sounds."""
    modalities = parameters.get("modalities")
    return isinstance(modalities, list) and "audio" in modalities


def size_of(value: Any) -> int:
    """Return the bytes of a text, or of anything else as JSON."""
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    return len(msgspec.json.encode(value)) if value else 0

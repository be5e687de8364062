"""The inputs of the actions; see the tests of `chat` and `raw` for theirs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.edit_image import EditImage, decode_edit_image
from shared.contract.embed import Embed, decode_embed
from shared.contract.image import Image, decode_image
from shared.contract.names import BlobName, NamedBlob
from shared.contract.speak import Speak, decode_speak
from shared.contract.summarize import MAX_BLOBS, Summarize, decode_summarize
from shared.contract.transcribe import Transcribe, decode_transcribe
from shared.errors import InvalidJob
from tests.support.rows import every_row

DECODERS = {
    "edit_image": decode_edit_image,
    "embed": decode_embed,
    "image": decode_image,
    "speak": decode_speak,
    "summarize": decode_summarize,
    "transcribe": decode_transcribe,
}
SMALLEST: dict[str, dict[str, Any]] = {
    "edit_image": {"images": ["inputs/a/1.png"], "prompt": "A cat"},
    "speak": {"text": "x", "voice": "alloy"},
    "transcribe": {"blob": "inputs/a/1.mp3"},
    "embed": {"texts": ["x"]},
    "image": {"prompt": "A cat"},
    "summarize": {"text": "x"},
}
REFUSED = {
    "edit_image": [
        ({"images": []}, "`input.images` must be a list of 1 to 16 items"),
        ({"images": ["inputs/a/1.png"] * 17}, "`input.images` must be a list of 1 to 16 items"),
        ({"images": ["inputs/a/1.png", "x"]}, "`input.images[1]` must be a blob's `container/name`."),
        ({"images": "inputs/a/1.png"}, "`input.images` must be a list"),
        ({"mask": "x"}, "`input.mask` must be a blob's `container/name`."),
        ({"prompt": " "}, "`input.prompt` must be text that is not blank"),
        ({"n": 11}, "`input.n`"),
        ({"image": "x"}, "`input.image` is not a known member. Did you mean `input.images`?"),
        ({"parameters": {"image[]": "x"}}, "`input.parameters.image[]` is not allowed: set `input.images` instead."),
        ({"parameters": {"mask": "x"}}, "`input.parameters.mask` is not allowed: set `input.mask` instead."),
        ({"parameters": {"stream": True}}, "`input.parameters.stream`"),
        ({"size": "1x1", "parameters": {"size": "2x2"}}, "`input.parameters.size` repeats `input.size`"),
    ],
    "speak": [
        ({"text": " \n"}, "`input.text` must be text of at most 4,096 characters that is not blank"),
        ({"text": "x" * 4097}, "`input.text` must be text of at most 4,096 characters that is not blank"),
        ({"voice": ""}, "`input.voice` must be a line of text"),
        ({"voice": None}, "`input.voice`"),
        ({"format": "pcm"}, "`input.format` must be one of mp3, wav, opus, flac, aac."),
        ({"input": "x"}, "`input.input` is not a known member. Did you mean `input.text`?"),
        ({"parameters": {"voice": "x"}}, "`input.parameters.voice` is not allowed: set `input.voice` instead."),
        ({"parameters": {"response_format": "mp3"}}, "`input.parameters.response_format` is not allowed: set"),
        ({"parameters": {"stream_format": "sse"}}, "`input.parameters.stream_format` is not allowed: a job"),
    ],
    "transcribe": [
        ({"blob": "x"}, "`input.blob` must be a blob's `container/name`."),
        ({"file": "x"}, "`input.file` is not a known member. Did you mean `input.blob`?"),
        ({"language": ""}, "`input.language` must be text that is not blank."),
        ({"response_format": "xml"}, "`input.response_format` must be one of text, json, verbose_json, srt, vtt."),
        ({"parameters": {"response_format": "srt"}}, "`input.parameters.response_format` is not allowed: set"),
        (
            {"parameters": {"stream": True}},
            "`input.parameters.stream` is not allowed: a job doesn't",
        ),
        ({"prompt": "a", "parameters": {"prompt": "b"}}, "`input.parameters.prompt` repeats `input.prompt`"),
        (
            {"response_format": "srt", "parameters": {"timestamp_granularities": ["word"]}},
            "`input.parameters.timestamp_granularities` must have segment",
        ),
    ],
    "embed": [
        ({"texts": []}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x"] * 2049}, "`input.texts` must be a list of 1 to 2,048 items"),
        ({"texts": ["x", ""]}, "`input.texts[1]` must be text that is not empty"),
        ({"texts": ["x", 3]}, "`input.texts[1]` must be a string"),
        ({"texts": "x"}, "`input.texts`"),
        ({"dimensions": 0}, "`input.dimensions`"),
        ({"format": "csv"}, "`input.format`"),
        ({"colour": 1}, "`input.colour` is not a known member"),
        ({"parameters": {"input": "x"}}, "`input.parameters.input` is not allowed: set `input.texts` instead."),
        ({"parameters": {"model": "x"}}, "`input.parameters.model` is not allowed: set the job's own `model` instead."),
        ({"dimensions": 3, "parameters": {"dimensions": 4}}, "`input.parameters.dimensions` repeats"),
    ],
    "image": [
        ({"prompt": " "}, "`input.prompt` must be text that is not blank"),
        ({"n": 0}, "`input.n`"),
        ({"n": 11}, "`input.n`"),
        ({"n": 1.5}, "`input.n`"),
        ({"size": 1024}, "`input.size`"),
        ({"colour": "red"}, "`input.colour` is not a known member"),
        ({"parameters": {"n": 2}}, "`input.parameters.n` is not allowed: set `input.n` instead."),
        ({"parameters": {"prompt": "x"}}, "`input.parameters.prompt` is not allowed: set `input.prompt` instead."),
        ({"parameters": {"model": "x"}}, "`input.parameters.model` is not allowed: set the job's own `model` instead."),
        ({"parameters": {"stream": False}}, "`input.parameters.stream`"),
        ({"size": "1x1", "parameters": {"size": "2x2"}}, "`input.parameters.size` repeats `input.size`"),
    ],
    "summarize": [
        ({"text": None}, "`input` needs `text`, `blob` or `blobs`."),
        ({"text": None, "blob": "inputs/a", "blobs": ["inputs/a"]}, "`input.blob` and `input.blobs` can't be combined"),
        ({"text": None, "blobs": []}, "`input.blobs`"),
        ({"text": None, "blobs": ["inputs/a"] * (MAX_BLOBS + 1)}, "`input.blobs`"),
        ({"text": None, "blobs": ["inputs/a", "x"]}, "`input.blobs[1]` must be a blob's `container/name`."),
        ({"blob": "inputs/a"}, "`input.text` and `input.blob` can't be combined: leave one of them out."),
        ({"text": " \n"}, "`input.text` must be text that is not blank."),
        ({"text": None, "blob": "x"}, "`input.blob` must be a blob's `container/name`."),
        ({"style": "poem"}, "`input.style` must be one of paragraph, bullets, headline."),
        ({"max_words": 0}, "`input.max_words`"),
        ({"max_words": "9"}, "`input.max_words`"),
        ({"language": ""}, "`input.language` must be text that is not blank."),
        ({"parameters": {"n": 2}}, "`input.parameters.n` can only be 1: a summary is one answer."),
        ({"parameters": {"stream": True}}, "`input.parameters.stream`"),
        ({"tone": "dry"}, "`input.tone` is not a known member."),
    ],
}


def decoded(action: str, **members: Any) -> Any:
    """Return the decoded input of an action."""
    return DECODERS[action](json.dumps(members).encode())


@every_row(("action", "members", "message"), [(action, *row) for action, rows in REFUSED.items() for row in rows])
def test_invalid_input_is_refused(action: str, members: dict[str, Any], message: str):
    """An error begins with the path of the member at fault, and says what would be valid."""
    with pytest.raises(InvalidJob) as refused:
        decoded(action, **SMALLEST[action] | members)

    assert str(refused.value).startswith(message)


def test_members_are_decoded_completely():
    """Members become parameters or their own; unknown parameters pass through; what is left out has its default."""
    assert Embed(["x"], {}, "json") == decoded("embed", texts=["x"])
    assert Embed(["x"], {"dimensions": 3, "x-own": [1]}, "npy") == decoded(
        "embed", texts=["x"], dimensions=3, parameters={"x-own": [1]}, format="npy"
    )
    assert Image("A cat", 1, {"size": "3840x16", "quality": "hd", "x-own": [1]}) == decoded(
        "image", prompt="A cat", size="3840x16", parameters={"quality": "hd", "x-own": [1]}
    )
    assert EditImage(
        [BlobName("inn", "a/1"), BlobName("inn", "a/2")], BlobName("inn", "a/m"), "A cat", 2, {"size": "1x1"}
    ) == (decoded("edit_image", images=["inn/a/1", "inn/a/2"], mask="inn/a/m", prompt="A cat", n=2, size="1x1"))
    assert Transcribe(BlobName("inn", "a/1"), "json", {}) == decoded("transcribe", blob="inn/a/1")
    assert Transcribe(BlobName("inn", "a/1"), "vtt", {"language": "de", "prompt": "x", "temperature": 0}) == decoded(
        "transcribe",
        blob="inn/a/1",
        language="de",
        prompt="x",
        response_format="vtt",
        parameters={"temperature": 0},
    )
    assert Speak("Hello.", {"voice": "alloy"}) == decoded("speak", text="Hello.", voice="alloy")
    assert Speak("😀" * 4096, {"voice": "alloy", "speed": 2, "response_format": "wav"}) == decoded(
        "speak", text="😀" * 4096, voice="alloy", format="wav", parameters={"speed": 2}
    )
    assert Summarize("x", "paragraph") == decoded("summarize", text="x")
    assert Summarize(
        (NamedBlob(BlobName("texts", "a/n"), "input.blob"),), "headline", 9, "Dutch", "Go.", {"seed": 1}, True
    ) == decoded(
        "summarize",
        blob="texts/a/n",
        style="headline",
        max_words=9,
        language="Dutch",
        instructions="Go.",
        parameters={"seed": 1},
        page_images=True,
    )

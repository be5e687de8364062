"""
How much a job's calls can consume at most, before any is made: what a budget reserves for it. Pure.

There is no tokenizer: a token is a byte or more, so bytes are an upper bound. A job whose input says too little, such
as a raw request to an unknown path, has no estimate.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.billing.media_tokens import (
    MEDIA_TOKENS,
    SOUND_BYTES,
    media_counts,
    media_of,
    size_of,
    speaks,
    without_media,
)
from shared.billing.unseen_inputs import has_unseen_input, is_open_ended, names_unseen
from shared.contract.chat import LIMITS, Chat, answer_limit, thinking_budget, whole_number
from shared.contract.decoding import json_object
from shared.contract.edit_image import EditImage
from shared.contract.embed import Embed
from shared.contract.image import Image
from shared.contract.multi_chat import step_key
from shared.contract.raw import RawRequest
from shared.contract.respond import Respond
from shared.contract.speak import Speak
from shared.contract.summarize import Summarize

OUTPUT_TOKENS = 16_384
"""Output of an answer whose job sets no limit: the limit that is sent then, unless the budget covers less."""
MIN_OUTPUT_TOKENS = 256
"""No lower limit is sent: the answer would be cut short and paid for all the same."""
_RAW_LIMITS = {"chat/completions": LIMITS, "completions": ("max_tokens",), "responses": ("max_output_tokens",)}
"""The parameters that limit an answer's tokens, by operation."""
_ANSWERED = frozenset({"chat/completions", "responses"})
_CHOICES = ("n", "best_of")
_STORED = frozenset({"responses", "batches"})
"""What is stored at the provider, with its usage."""
_PER_CALL, _PER_MESSAGE, _WITH_TOOLS = 64, 16, 1_000
"""Tokens that a provider adds: roles, separators, what a schema becomes, what a model is told of calling tools."""
_IMAGE_TOKENS = 6_500
"""Of the largest image that a model returns."""
_FEW_CALLS, _KEPT_BITS = 20, 4
_PART_BYTES, _LEVELS = 18_000, 4
"""Of `summarize`: the least that a part has, and by how much all levels have more than the first."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job's calls consume at most."""

    inputs: Sequence[int]
    """Input tokens of each call."""
    outputs: Sequence[int | None] = ()
    """Output tokens of each; None: the call has no limit of its own."""
    choices: Sequence[int] = ()
    """Answers of each call."""
    images: int = 0
    tier: str | None = None
    """The service tier that the job asks for."""
    media: Sequence[Mapping[str, int]] = ()
    """What else each call counts, by the names of a usage record: images and sounds of its input, characters."""
    speaks: bool = False
    """Whether answers are sounds."""
    thinking: Sequence[int] = ()
    """Tokens of each call's answers beyond a limit that is sent."""

    @property
    def takes_limit(self) -> bool:
        """Whether a limit can be sent with calls that have none of their own."""
        return None in self.outputs

    def records(self, limit: int) -> list[dict[str, Any]]:
        """Return the counts of each call, as a usage record has them, if answers without a limit get this one."""
        thinking = self.thinking or [0] * len(self.outputs)
        outputs = [
            (limit + beyond if output is None else output) * choices
            for output, choices, beyond in zip(self.outputs, self.choices, thinking, strict=True)
        ]
        return [
            {
                "calls": max(self.images, 1),
                "input_tokens": tokens,
                "output_tokens": output,
                **media,
                **({"audio_output_tokens": output} if self.speaks else {}),
                **({"images": self.images, "image_output_tokens": output} if self.images else {}),
                **({"service_tier": self.tier} if self.tier else {}),
            }
            for tokens, output, media in zip(self.inputs, outputs, self.media or [{}] * len(outputs), strict=True)
        ]


def estimate(request: Any, *, strict: bool, done: Collection[str] = ()) -> Estimate | None:
    """
    Return the estimate of a job with this decoded input.

    `strict`: no limit may be added to its parameters. `done`: the keys of the steps that are stored.
    """
    result: Estimate | None = None
    if isinstance(request, Chat):
        result = _chats([request])
    elif isinstance(request, list):
        result = _chats([chat for number, chat in enumerate(request) if step_key(number) not in done])
    elif isinstance(request, Summarize):
        result = _summary(request)
    elif isinstance(request, Embed):
        tokens = sum(len(text.encode(errors="replace")) for text in request.texts)
        result = Estimate([tokens + _PER_CALL], [0], [1])
    elif isinstance(request, Image | EditImage):
        result = _images(request)
    elif isinstance(request, Speak):
        result = Estimate([0], [0], [1], media=[{"characters": len(request.text)}])
    elif isinstance(request, Respond):
        result = _response(request)
    elif isinstance(request, RawRequest):
        return _raw(request)
    return None if result is not None and strict and result.takes_limit else result


def _chats(chats: Sequence[Chat]) -> Estimate | None:
    if any(map(is_open_ended, chats)):
        return None
    media = [media_of(chat.messages) for chat in chats]
    choices = [_choices(chat.parameters) for chat in chats]
    # A model that gives one answer a call is called for each (see actions.chat_by_responses), with the same input.
    tokens = [_input_tokens(chat, each) * n for chat, each, n in zip(chats, media, choices, strict=True)]
    return Estimate(
        tokens if len(tokens) <= _FEW_CALLS else [_rounded_up(each) for each in tokens],
        [answer_limit(chat.parameters) for chat in chats],
        choices,
        tier=_tier(chats[0].parameters) if chats else None,
        media=[{name: count * n for name, count in each.items()} for each, n in zip(media, choices, strict=True)],
        speaks=bool(chats) and speaks(chats[0].parameters),
        thinking=[thinking_budget(chat.parameters) if "thinking" in chat.parameters else 0 for chat in chats],
    )


def _summary(request: Summarize) -> Estimate | None:
    if not isinstance(request.source, str):
        return None  # a blob, whose size is not known yet
    text = size_of(request.source)
    calls = 1 if text <= _PART_BYTES else _LEVELS * (2 * (text // _PART_BYTES) + 1)
    overhead = 2_000 + size_of(request.instructions) + size_of(request.language) + size_of(request.parameters)
    tokens = (text if calls == 1 else _LEVELS * text // calls) + overhead
    return Estimate(
        [tokens] * calls,
        [answer_limit(request.parameters)] * calls,
        [1] * calls,
        tier=_tier(request.parameters),
        thinking=[thinking_budget(request.parameters)] * calls,
    )


def _images(request: Image | EditImage) -> Estimate:
    n, seen = request.n, 0  # some models make one image a call
    if isinstance(request, EditImage):
        seen = len(request.images) + (request.mask is not None)
    tokens = size_of(request.prompt) + _PER_CALL + MEDIA_TOKENS * seen
    return Estimate([tokens * n], [_IMAGE_TOKENS * n], [1], images=n, media=[media_counts(seen * n, 0)])


def _response(request: Respond) -> Estimate | None:
    body = {**request.parameters, "input": request.input, "instructions": request.instructions}
    is_known = not (request.is_open_ended or has_unseen_input(body))
    return _of_body("responses", body, size_of(body)) if is_known else None


def _raw(request: RawRequest) -> Estimate | None:
    operation = request.path.rpartition("/openai/v1/")[2].strip("/")
    if request.method != "POST":  # it calls no model, but what it fetches may be on record as a call
        return Estimate([]) if _STORED.isdisjoint(operation.lower().split("/")) else None
    if not request.content:
        return None
    if operation == "embeddings":
        return Estimate([len(request.content)], [0], [1])
    body = json_object(request.content)
    result = _of_body(operation, body, len(request.content))
    is_open = operation in _ANSWERED and (has_unseen_input(body) or names_unseen(request.content))
    return None if result.takes_limit or is_open else result


def _of_body(operation: str, body: Mapping[str, Any], size: int) -> Estimate:
    """Return the estimate of a request with this body, of so many bytes."""
    text = json.dumps(body)
    images, sounds = text.count('"image_url"') + text.count('"input_image"'), text.count('"input_audio"')
    media = media_counts(images, sounds * MEDIA_TOKENS + (len(text) // SOUND_BYTES if sounds else 0))
    return Estimate(
        [size + _PER_CALL + sum(media.values())],
        [answer_limit(body, _RAW_LIMITS.get(operation, ()))],
        [_choices(body)],
        tier=_tier(body),
        media=[media],
        speaks=speaks(body),
    )


def _input_tokens(chat: Chat, media: Mapping[str, int]) -> int:
    messages: Sequence[Mapping[str, Any]] = chat.messages
    if media:
        messages = [without_media(message) for message in messages]
    tokens = _PER_CALL + _PER_MESSAGE * len(messages) + (_WITH_TOOLS if chat.parameters.get("tools") else 0)
    return tokens + size_of(messages) + size_of(chat.parameters) + sum(media.values())


def _rounded_up(tokens: int) -> int:
    """Return the tokens rounded up by an eighth at most, so that many calls have few different numbers."""
    step = 1 << max(tokens.bit_length() - _KEPT_BITS, 0)
    return -(-tokens // step) * step


def _choices(parameters: Mapping[str, Any]) -> int:
    return max([whole_number(parameters[name]) or 1 for name in _CHOICES if name in parameters], default=1)


def _tier(parameters: Mapping[str, Any]) -> str | None:
    tier = parameters.get("service_tier")
    return tier if isinstance(tier, str) else None

"""The input of `multi_chat`: many prompts, one chat call each."""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

from shared.contract.chat import Chat, check_messages, check_parameters
from shared.contract.decoding import decode
from shared.errors import InvalidJob

MOST_PROMPTS = 1000


class MultiChatInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prompts, each a string or a list of OpenAI messages; the parameters are those of every call."""

    prompts: list[Any]
    parameters: dict[str, Any] = {}


def decode_multi_chat(data: Raw | bytes) -> list[Chat]:
    """One chat a prompt, in order. Raises InvalidJob with the path of the member at fault."""
    given = decode(data, MultiChatInput, at="input")
    check_parameters(given.parameters)
    if not 0 < len(given.prompts) <= MOST_PROMPTS:
        raise InvalidJob(f"`input.prompts` must hold 1 to {MOST_PROMPTS} prompts.")
    return [
        Chat(_messages(prompt, f"input.prompts[{index}]"), given.parameters)
        for index, prompt in enumerate(given.prompts)
    ]


def _messages(prompt: Any, at: str) -> list[Any]:
    if isinstance(prompt, str):
        if not prompt.strip():
            raise InvalidJob(f"`{at}` is empty.")
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, list):
        raise InvalidJob(f"`{at}` must be a string or a list of messages.")
    check_messages(prompt, at=at)
    return prompt

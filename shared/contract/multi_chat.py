"""The input of `multi_chat`: many prompts, one chat call each."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.chat import Chat, Messages, check_messages, check_parameters
from shared.contract.decoding import decode
from shared.contract.names import Text


class MultiChatInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prompts, each a text or a list of OpenAI messages, and the parameters of every call."""

    prompts: Annotated[list[Text | Messages], Meta(min_length=1, max_length=1000)]
    """Prompts, each a text or the messages of one conversation."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


def decode_multi_chat(data: Raw | bytes) -> list[Chat]:
    """One chat for each prompt, in order. Raises InvalidJob with the path of the member at fault."""
    chats = decode(data, MultiChatInput, at="input")
    check_parameters(chats.parameters)
    return [
        Chat(_messages(prompt, f"input.prompts[{index}]"), chats.parameters)
        for index, prompt in enumerate(chats.prompts)
    ]


def step_key(number: int) -> str:
    """Return the key of the step that is the answer to the prompt of that number, from 0."""
    return f"{number:04}"


def _messages(prompt: str | list[Any], at: str) -> list[Any]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    check_messages(prompt, at=at)
    return prompt

"""What `input` holds, by the job's action."""

from __future__ import annotations

from msgspec import Struct

from shared.contract.chat import ChatInput
from shared.contract.edit_image import EditImageInput
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import Action
from shared.contract.multi_chat import MultiChatInput
from shared.contract.raw import RawInput
from shared.contract.respond import RespondInput
from shared.contract.speak import SpeakInput
from shared.contract.summarize import SummarizeInput
from shared.contract.transcribe import TranscribeInput

INPUTS: dict[Action, type[Struct]] = {
    "chat": ChatInput,
    "multi_chat": MultiChatInput,
    "image": ImageInput,
    "summarize": SummarizeInput,
    "embed": EmbedInput,
    "raw": RawInput,
    "edit_image": EditImageInput,
    "transcribe": TranscribeInput,
    "speak": SpeakInput,
    "respond": RespondInput,
}
"""The type of each action's input."""

"""
Where a member belongs that is unknown where it stands: the hint of a refusal, which follows from the contract's types.

Imported after a refusal only.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache

from msgspec import Struct
from msgspec.structs import fields

from shared.contract.chat import ChatInput
from shared.contract.connection import ConnectionRecord
from shared.contract.edit_image import EditImageInput
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.inputs import INPUTS
from shared.contract.job import Job, Options, Output, salvage
from shared.contract.multi_chat import MultiChatInput
from shared.contract.raw import FileInput, RawInput
from shared.contract.refusals import json_member
from shared.contract.speak import SpeakInput
from shared.contract.summarize import SummarizeInput
from shared.contract.transcribe import TranscribeInput

_OTHER_NAMES: dict[type[Struct], dict[str, str]] = {
    ChatInput: {"input": "messages"},
    MultiChatInput: {"input": "prompts"},
    ImageInput: {"input": "prompt"},
    EditImageInput: {"input": "prompt", **dict.fromkeys(("image", "image[]"), "images")},
    SummarizeInput: {"input": "text"},
    TranscribeInput: {"file": "blob"},
    SpeakInput: {"input": "text"},
    EmbedInput: {"input": "texts"},
    RawInput: {"url": "path", "body": "json", "params": "query"},
    FileInput: {"name": "filename", "data": "content", **dict.fromkeys(("media_type", "mime_type"), "content_type")},
    Output: dict.fromkeys(("url", "webhook", "callback_url", "webhook_url"), "callback"),
    Job: {"deployment": "model"},
    ConnectionRecord: {**dict.fromkeys(("base_url", "api_base", "url"), "endpoint"), "deployment": "default_model"},
}
"""What providers' APIs and HTTP clients call a member."""
_MIN_SIMILARITY = 0.8
_PARAMETERS = "A parameter of the model belongs in `input.parameters`"

_Place = tuple[type[Struct], str]
"""A type of the contract, and the path of its values in a job."""
_OUTSIDE_INPUT: tuple[_Place, ...] = ((Job, ""), (Options, "options"), (Output, "output"))


def placement_hint(name: str, struct: type[Struct], root: type[Struct], *, at: str, data: bytes) -> str:
    """
    Return a sentence that says where the unknown member `name` belongs, or an empty text if the types don't show it.

    It stands in a `struct` at the path `at`, in `data` that was to be decoded as a `root`.
    """
    struct = Job if issubclass(struct, Job) else struct  # in the queue, a job has an envelope beside its members
    own: _Place = struct, at
    is_input = root in INPUTS.values()
    if not is_input and not issubclass(root, Job):
        return _did_you_mean([own], name)
    others = [owner for owner in _OUTSIDE_INPUT if owner[0] is not struct]
    if not is_input and (kind := INPUTS.get(salvage(data).get("action", ""))):
        others.append((kind, "input"))
    open_members = _open_members(struct)
    if twin := _twin([own], name):
        return f"Did you mean `{twin}`?"
    if path := _twin(others, name):
        sentence = f"It belongs in `{path}`." if "." in path else f"It belongs in the job's own `{path}`."
        return f"{sentence} {open_members}" if struct is RawInput else sentence
    if is_input and (action := next((action for action, kind in INPUTS.items() if _twin([(kind, "")], name)), None)):
        return f"It belongs to the action {action}. {open_members}"
    return _did_you_mean([own, *others], name) or (open_members if name[:1].isalpha() else "")


def _open_members(struct: type[Struct]) -> str:
    """Say where members of any name belong, such as the parameters of a model."""
    if struct is RawInput:
        return f"A member of the request's body belongs in `input.{json_member(struct)}`."
    if struct is Job:
        return f"{_PARAMETERS}, a note of your own in `metadata`."
    return f"{_PARAMETERS}." if struct is Options or "parameters" in _names(struct) else ""


def _did_you_mean(places: list[_Place], name: str) -> str:
    path = _twin(places, name) or _similar(places, name)
    return f"Did you mean `{path}`?" if path else ""


def _twin(places: list[_Place], name: str) -> str:
    """Return the path of the member with that name in another spelling, such as in camel case, or by another API's."""
    for struct, at in places:
        for member in _names(struct):
            if _letters(member) == _letters(name) or _OTHER_NAMES.get(struct, {}).get(name) == member:
                return _join(at, member)
    return ""


def _similar(places: list[_Place], name: str) -> str:
    """Return the path of a member whose name is much like `name`, or has it as a word, as `job_id` has `id`."""
    for struct, at in places:
        members = {_letters(member): member for member in _names(struct)}
        words = (member for member in _names(struct) if name.casefold() in member.split("_"))
        close = get_close_matches(_letters(name), members, n=1, cutoff=_MIN_SIMILARITY)
        if member := next(words, None) or (members[close[0]] if close else None):
            return _join(at, member)
    return ""


@cache
def _names(struct: type[Struct]) -> tuple[str, ...]:
    """The public names of a type's members."""
    return tuple(field.encode_name for field in fields(struct) if not field.encode_name.startswith("_"))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def _join(at: str, member: str) -> str:
    return f"{at}.{member}" if at else member

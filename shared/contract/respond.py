"""The input of `respond`: what the Responses API takes, with files by the names of their blobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import NamedBlob, named_blob
from shared.contract.parameters import merged_parameters
from shared.errors import InvalidJob

JOB_METADATA = "customer_job"
"""The metadata of a response that says which job created it."""
MAX_METADATA = 15
"""The API takes 16, of which one is the app's."""
MAX_BLOBS = 20
INSTEAD = {
    "input": "set `input.input` instead",
    "instructions": "set `input.instructions` instead",
    "previous_response_id": "set `input.previous_response_id` instead",
    "model": "set the job's own `model` instead",
    "background_options": "set `options.processing` to background instead",
}
"""What `parameters` can't hold, and what to do about it."""
_FILES = frozenset({"input_image", "input_file"})
_PART_LISTS = ("content", "output")
Items = Annotated[list[dict[str, Any]], Meta(min_length=1, description="a list of at least one item")]


class RespondInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a response is to be made of."""

    input: str | Items
    """
    The prompt: a text, or items as the Responses API has them. In place of its data or URL, an `input_image` or
    `input_file` may have a `blob`.
    """
    instructions: str | None = None
    """The system message of this response alone."""
    previous_response_id: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    """The response that this one continues: the `id` in another job's output."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the Responses API, passed on unchanged."""


class BlobPart(Struct, frozen=True):
    """A content part that is to get its data from a blob."""

    part: dict[str, Any]
    named: NamedBlob


class Respond(Struct, frozen=True):
    """The response that a job asks for."""

    input: str | list[Any]
    instructions: str | None
    previous_response_id: str | None
    parameters: dict[str, Any]
    blobs: tuple[NamedBlob, ...] = ()
    """Those that its content parts name."""

    @property
    def in_background(self) -> bool:
        """Whether the provider is to make it in the background, which it stores it for."""
        return self.parameters.get("background") is not False and self.parameters.get("store") is not False

    @property
    def is_open_ended(self) -> bool:
        """Whether the input has more than the job says: an earlier response, or files."""
        return self.previous_response_id is not None or any(
            part["type"] == "input_file" or "blob" in part for part, _ in self._parts()
        )

    @property
    def images(self) -> int:
        """How many images the input has."""
        return sum(part["type"] == "input_image" for part, _ in self._parts())

    def blob_parts(self) -> Iterator[BlobPart]:
        """Yield the content parts that name a blob. Raises InvalidJob."""
        for part, at in self._parts():
            if part["type"] in _FILES and "blob" in part:
                yield BlobPart(part, named_blob(part["blob"], at=f"{at}.blob"))

    def _parts(self) -> Iterator[tuple[dict[str, Any], str]]:
        for index, item in enumerate(self.input if isinstance(self.input, list) else ()):
            for member, parts in part_lists(item).items():
                for number, part in enumerate(parts):
                    if isinstance(part, dict) and isinstance(part.get("type"), str):
                        yield part, f"input.input[{index}].{member}[{number}]"


def part_lists(item: Mapping[str, Any]) -> Mapping[str, list[Any]]:
    """Return the lists of content parts that an item has, by their members: a message's, and a tool's results."""
    return {member: item[member] for member in _PART_LISTS if isinstance(item.get(member), list)}


def decode_respond(data: Raw | bytes) -> Respond:
    """The response that `data`, a job's input, asks for. Raises InvalidJob with the path of the member at fault."""
    members = decode(data, RespondInput, at="input")
    _check_parameters(members.parameters)
    # Not by the type: msgspec 0.22 counts a pattern's references wrong if it is in several unions with lists.
    if isinstance(members.input, str) and not members.input.strip():
        raise InvalidJob("`input.input` must be text that is not blank, or a list of items.")
    respond = Respond(members.input, members.instructions, members.previous_response_id, members.parameters)
    blobs = tuple(each.named for each in respond.blob_parts())
    if len(blobs) > MAX_BLOBS:
        raise InvalidJob(f"`input.input` names more than {MAX_BLOBS} blobs.")
    return msgspec.structs.replace(respond, blobs=blobs)


def _check_parameters(parameters: dict[str, Any]) -> None:
    merged_parameters(parameters, {}, INSTEAD)
    if parameters.get("stream"):
        raise InvalidJob("`input.parameters.stream` can't be true: a job doesn't stream its result.")
    check_metadata(parameters)


def check_metadata(parameters: Mapping[str, Any]) -> None:
    """Raise InvalidJob unless the metadata of a response has room for the app's own."""
    metadata = parameters.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidJob("`input.parameters.metadata` must be an object.")
    if metadata and (len(metadata) > MAX_METADATA or JOB_METADATA in metadata):
        raise InvalidJob(
            f"`input.parameters.metadata` may have {MAX_METADATA} members, none of them {JOB_METADATA}: that is the "
            "app's own."
        )

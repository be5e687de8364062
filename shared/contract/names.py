"""The contract's names and ids: each a type that carries its pattern, its length and its rule in words."""

from __future__ import annotations

import re
from typing import Annotated, Any

from msgspec import Meta, Struct

from shared.errors import InvalidJob

# `\Z`, because `$` also matches before a line break at the end.
_NAME = r"^[a-z0-9]+(-[a-z0-9]+)*\Z"
_NAME_LENGTH = 50
_JOB_ID = r"^[A-Za-z0-9._-]{0,99}[A-Za-z0-9_-]\Z"
_BLOB_PATH = r"^[a-z0-9](?![a-z0-9-]*--)[a-z0-9-]{1,61}[a-z0-9](?=/[^\x00-\x1f\\]{1,900}\Z)(/(?!\.{0,2}(/|\Z))[^/]+)+\Z"

NAME_RULE = "1 to 50 lower-case letters, digits and single hyphens, starting and ending in a letter or digit"
"""What `is_name` checks, in words."""

Name = Annotated[str, Meta(max_length=_NAME_LENGTH, pattern=_NAME, description=NAME_RULE)]
"""A customer's id, or a connection's name."""

JobId = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=_JOB_ID,
        description="1 to 100 letters, digits, `.`, `_` or `-`, and not ending in `.`",
    ),
]
"""
A job's id. It is a segment of the paths of blobs, from which Storage drops a dot at the end: two jobs would share blobs
(learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata).
"""

ModelName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        pattern=r"\S",
        description="the name of a model or deployment, 1 to 200 characters",
    ),
]
"""A model as its provider calls it, or a deployment."""

QueueName = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=63,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*\Z",
        description="true, false or the name of a queue: 3 to 63 lower-case letters, digits and single hyphens",
    ),
]
"""A queue of Azure Storage (learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata)."""

Text = Annotated[str, Meta(pattern=r"\S", description="text that is not blank")]
"""A text that holds more than white space."""

Line = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*\Z",
        description="a line of text, at most 200 characters",
    ),
]
"""A text that holds more than white space, and no line break or other control character."""

Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z", description="an ISO 4217 code, such as USD")]
"""What amounts are in."""

BlobPath = Annotated[str, Meta(pattern=_BLOB_PATH, description="a blob's `container/name`")]
"""A blob by its container and name, without empty, `.` and `..` segments."""

_is_name = re.compile(_NAME).search
_is_job_id = re.compile(_JOB_ID).search
_is_blob_path = re.compile(_BLOB_PATH).search


class BlobName(Struct, frozen=True):
    """A blob that somebody else wrote, to be read."""

    container: str
    name: str


class NamedBlob(Struct, frozen=True):
    """A blob that an input names, and the path of the member that does."""

    blob: BlobName
    at: str

    def __str__(self) -> str:
        return f"`{self.at}` ({self.blob.container}/{self.blob.name})"


def is_name(text: object) -> bool:
    """Whether `text` is a customer's id or a connection's name (NAME_RULE)."""
    return isinstance(text, str) and len(text) <= _NAME_LENGTH and _is_name(text) is not None


def is_job_id(text: object) -> bool:
    """Whether `text` is a job's id: 1 to 100 letters, digits, `.`, `_` or `-`, not ending in `.`."""
    return isinstance(text, str) and _is_job_id(text) is not None


def is_reserved_id(job_id: str) -> bool:
    """Whether no caller's job may have this id: such ids are of the jobs that close months."""
    return job_id == "statements" or job_id.startswith("statement-")


def parse_blob_name(text: Any, *, at: str) -> BlobName:
    """The container and the name in `text`, a BlobPath. Raises InvalidJob, which names the member `at`."""
    if not isinstance(text, str) or not _is_blob_path(text):
        raise InvalidJob(f"`{at}` must be a blob's `container/name`.")
    container, _, name = text.partition("/")
    return BlobName(container, name)


def named_blob(text: Any, *, at: str) -> NamedBlob:
    """The blob that the member `at` names. Raises InvalidJob as `parse_blob_name`."""
    return NamedBlob(parse_blob_name(text, at=at), at)


def blobs_of(job_input: Any) -> list[NamedBlob]:
    """The blobs that a decoded input names: in its members, or in lists that these are."""
    names = job_input.__struct_fields__ if isinstance(job_input, Struct) else ()
    named = []
    for name in names:
        value = getattr(job_input, name)
        is_list = isinstance(value, list | tuple)
        for number, part in enumerate(value if is_list else (value,)):
            if isinstance(part, BlobName):
                named.append(NamedBlob(part, f"input.{name}[{number}]" if is_list else f"input.{name}"))
            elif isinstance(part, NamedBlob):
                named.append(part)
            else:
                break  # no list has other things beside blobs
    return named

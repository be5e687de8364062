"""What distinguishes two jobs with one id: a hash of what they ask for, wherever their input is."""

from __future__ import annotations

import hashlib
import re

import msgspec
from msgspec import UNSET, Raw

from shared.contract.job import Job, explicit_members
from shared.contract.processing import DEFAULT_DEADLINES_S
from shared.errors import JobConflict
from shared.jobs.records import job_id_of
from shared.jobs.versions import check_version
from shared.storage.base import Row

_OWN_INPUT = re.compile(r"[^/]+/[^/]+/[^/]+/input-(?P<digest>[0-9a-f]{32})\.json")
"""`container/customer/job/…`: an input that came over HTTP and does not fit a message."""


def fingerprint(job: Job) -> str:
    """
    Return the SHA-256 (hex) of what the job asks for, whatever its id: two jobs with one id must agree in it.

    It is in the rows of jobs for as long as these are kept, so it must be the same in the next version.
    """
    members = explicit_members(job)
    members.pop("job_id", None)
    if (
        job.options.deadline_s == DEFAULT_DEADLINES_S[job.options.processing]
    ):  # it ends as late as one that leaves it out
        members["options"].pop("deadline_s")
        members = {name: value for name, value in members.items() if name != "options" or value}
    own = _OWN_INPUT.fullmatch(members.get("input_blob", ""))
    if isinstance(job.input, Raw):
        members["input"] = _digest(job.input)
    elif own:  # the same, whether the input is in the message or in a blob of the job's own
        members["input"] = own["digest"]
        del members["input_blob"]
    return hashlib.sha256(msgspec.json.encode(members, order="sorted")).hexdigest()


def is_own_input(path: str) -> bool:
    """Return whether `container/name` is that of a blob that `move_input` names."""
    return _OWN_INPUT.fullmatch(path) is not None


def move_input(job: Job, container: str) -> tuple[Job, str, bytes]:
    """
    Return the job with its `input` in a blob of its own, that blob's name below the job's others, and its bytes.

    The job asks for the same: its fingerprint is the same.
    """
    assert isinstance(job.input, Raw)  # noqa: S101  # a job that names a blob fits any message
    # The bytes are as they were written. The name is that of their content, so that another input has another blob.
    name = f"input-{_digest(job.input)}.json"
    path = f"{container}/{job.customer}/{job.id}/{name}"
    return msgspec.structs.replace(job, input=UNSET, input_blob=path), name, bytes(job.input)


def without_white_space(job: Job) -> Job:
    """Return a job whose `input` only names a blob, with nothing else in it. Its fingerprint is the same."""
    assert isinstance(job.input, Raw)  # noqa: S101  # `input_blob` fits any message
    return msgspec.structs.replace(job, input=Raw(msgspec.json.format(job.input, indent=-1)))


def _digest(data: Raw) -> str:
    """Return 32 hex digits of an input's content: white space, escapes and the order of members don't matter."""
    return hashlib.sha256(msgspec.json.encode(msgspec.json.decode(data), order="sorted")).hexdigest()[:32]


def check_fingerprint(row: Row, fingerprint: str) -> None:
    """Raise JobConflict if the row is that of a job with another fingerprint, NewerVersion if that can't be said."""
    check_version(row.values.get("version", 0), "job's row")
    if row.values["fingerprint"] != fingerprint:
        raise JobConflict(f"The id {job_id_of(row)} belongs to a job of customer {row.partition} with other content.")

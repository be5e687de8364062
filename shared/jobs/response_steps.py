"""
What a job's steps say of the responses that it has created at its provider (see `actions.respond`).

`begin1` is written before the first is created, `id1` when the provider has said which it is. `void1`: the provider has
refused it, or was never asked. `lost1`: whether it exists is not known, which is on record as a call that may have been
billed. After both, another one may be created: `begin2`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from shared.actions.base import Step
from shared.billing.usage import UNANSWERED, Call, total
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.clock import now, rfc3339
from shared.connections.account import account_of
from shared.connections.connection import Connection
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Processing
from shared.errors import StorageUnavailable
from shared.jobs.attempt import OUTCOME_STEP, Attempt
from shared.jobs.lease import Lease
from shared.jobs.records import job_key
from shared.jobs.response_rows import creation_row, name_creation
from shared.jobs.step_rows import StepRecord, step_prefix, step_row
from shared.jobs.steps import Steps
from shared.storage.base import Row, Table

_BEGIN, _ID, _VOID, _LOST = "begin", "id", "void", "lost"


@dataclass(frozen=True, slots=True)
class Creation:
    """A response that was created, or may have been."""

    number: int
    name: str
    """What its metadata says."""
    at: datetime
    in_background: bool
    account: str
    """Which account of the provider it is at."""
    model: str
    label: ConnectionLabel
    deployment_scope: str | None = None
    response_id: str = ""
    """Empty: its creation got no answer."""
    adapted: Sequence[str] = ()
    processing: Processing = "standard"
    """How it is made: see `jobs.windows`."""


@dataclass(frozen=True, slots=True)
class Creations:
    """All that a job has begun. `last`: the one that may have been bought and has no end, if there is one."""

    number: int = 0
    lost: int = 0
    last: Creation | None = None


@dataclass(frozen=True, slots=True)
class ResponseSteps:
    """The steps of one attempt. Every method raises StorageUnavailable, those that write also LeaseLost."""

    attempt: Attempt
    steps: Steps

    async def read(self) -> Creations:
        """Return what the job has begun."""
        keys = await self._keys()
        number = max(_numbers(keys), default=0)
        lost = sum(key.startswith(_LOST) for key in keys)
        if not _last_number(keys):
            return Creations(number, lost)
        begun, created = await self.steps.get(f"{_BEGIN}{number}"), await self.steps.get(f"{_ID}{number}")
        assert begun is not None  # noqa: S101  # its key is among them
        creation = msgspec.convert({**begun.value, "number": number, "name": self.name(number)}, Creation)
        return Creations(number, lost, creation if created is None else replace(creation, **created.value))

    async def names(self) -> Sequence[tuple[str, str]]:
        """Return the names of all that the job has begun, each with its response, if it can have been waited for."""
        stored = {step.key: step.value for step in await self.attempt.stored_steps()}
        ids = {key: msgspec.json.decode(value)["response_id"] for key, value in stored.items() if key.startswith(_ID)}
        numbers = _numbers(stored.keys() | self.attempt.saved)
        return [(self.name(number), ids.get(f"{_ID}{number}", "")) for number in numbers]

    async def _keys(self) -> set[str]:
        return {step.key for step in await self.attempt.stored_steps()} | self.attempt.saved

    def name(self, number: int) -> str:
        """Return what a response's metadata says about its creation."""
        lease = self.attempt.lease
        return name_creation(lease.customer, lease.job_id, lease.incarnation, number)

    async def begin(
        self,
        number: int,
        connection: Connection,
        model: str,
        *,
        in_background: bool,
        processing: Processing = "standard",
        adapted: Sequence[str] = (),
    ) -> Creation:
        """Say that a response is about to be created: also in a row for its events and its poll, if `in_background`."""
        creation = Creation(
            number,
            self.name(number),
            now(),
            in_background,
            account_of(connection),
            model,
            connection.label(),
            connection.deployment_scope,
            adapted=adapted,
            processing=processing,
        )
        names = connection.customer, connection.name, creation.name, self.attempt.job.id
        rows = [creation_row(*names)] if in_background else []
        try:
            await self.steps.save(f"{_BEGIN}{number}", Step(_values(creation)), rows)
        except StorageUnavailable:
            with suppress(StorageUnavailable):  # nothing is sent: both are written with whatever is next
                await self.refused(creation)
            raise
        return creation

    def keep_reservation(self, *, is_bought: bool) -> None:
        """Have the job keep what it has reserved of budgets, whatever it waits for, if a response may be bought."""
        if self.attempt.budgets is not None:
            self.attempt.budgets.keeps = is_bought or bool(self.attempt.lease.lines)

    async def created(self, creation: Creation, response_id: str, adapted: Sequence[str]) -> Creation:
        """Say which response it is."""
        await self._save(f"{_ID}{creation.number}", {"response_id": response_id, "adapted": list(adapted)})
        return replace(creation, response_id=response_id, adapted=adapted)

    async def refused(self, creation: Creation) -> None:
        """Say that it does not exist."""
        await self._save(f"{_VOID}{creation.number}", {})

    async def lost(self, creation: Creation, calls: Sequence[Call] = ()) -> None:
        """Say that nothing more is done about it, and that it may have been billed, or was, as these calls."""
        await self.steps.save(f"{_LOST}{creation.number}", Step({}, calls or [UNANSWERED]))

    async def _save(self, key: str, value: dict[str, Any]) -> None:
        await self.steps.save(key, Step(value))


def is_new(attempt: Attempt, creation: Creation) -> bool:
    """Return whether this attempt has got to know which response a creation has come to."""
    return f"{_ID}{creation.number}" in attempt.saved


async def last_creation(table: Table, customer: str, job_id: str) -> Creation | None:
    """
    Return what a job that nobody runs has begun last, if that may have been bought and has no end.

    Raises StorageUnavailable.
    """
    job, prefix = await table.read(customer, job_key(job_id)), step_prefix(job_id)
    rows = [row async for row in table.scan(customer, prefix, f"{prefix}~")]
    values = {row.key.removeprefix(prefix): row.values.get("value", b"") for row in rows}
    number = _last_number(values)
    if job is None or not number:
        return None
    begun, created = (msgspec.json.decode(values.get(f"{key}{number}", b"{}")) for key in (_BEGIN, _ID))
    name = name_creation(customer, job_id, job.values.get("incarnation", ""), number)
    return msgspec.convert({**begun, **created, "number": number, "name": name}, Creation)


def lost_rows(creation: Creation, lease: Lease, action: str, at: datetime) -> list[Row]:
    """Return the step of a response that its job never reads, and the usage record, as `ResponseSteps.lost` does."""
    labels = RecordLabels(
        *(lease.customer, lease.job_id, action, creation.model, creation.label),
        creation.deployment_scope,
        lease.incarnation,
    )
    key = f"{_LOST}{creation.number}"
    step = step_row(lease.customer, lease.job_id, StepRecord(key, b"{}", total([UNANSWERED])))
    return [step, *usage_rows(labels, [UNANSWERED], at, suffix=key)]


def _last_number(keys: Collection[str]) -> int:
    """Return the number of what was begun last; 0 if that has an end."""
    number = max(_numbers(keys), default=0)
    ends = {OUTCOME_STEP, f"{_VOID}{number}", f"{_LOST}{number}"}
    return 0 if ends.intersection(keys) else number


def _numbers(keys: Collection[str]) -> list[int]:
    return [int(key.removeprefix(_BEGIN)) for key in keys if key.startswith(_BEGIN)]


def _values(creation: Creation) -> dict[str, Any]:
    """Return a creation as the value of a step, without what follows from its key."""
    values = msgspec.to_builtins(creation)
    values["at"] = rfc3339(creation.at)
    return {name: value for name, value in values.items() if name not in {"number", "name", "response_id"}}

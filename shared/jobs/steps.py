"""
The steps of one attempt: parts of a job that are billed by themselves, and stored as soon as they are done.

A step's value and its usage records are written in one transaction before anything else happens, so that a later
attempt continues after it and makes no call twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.actions.base import Completed, Step
from shared.actions.fan_out import PART
from shared.billing.usage import as_lost
from shared.contract.decoding import decode_condensed, json_size
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.result import ConnectionLabel
from shared.errors import ProviderUnavailable, RetryLater, StorageUnavailable
from shared.jobs.attempt import OUTCOME_STEP, Attempt
from shared.jobs.attempt_usage import AttemptUsage
from shared.jobs.outputs import Outputs
from shared.jobs.step_rows import MAX_STEP_BYTES, StepRecord
from shared.storage.base import Row
from shared.upstream.messages import Response

_COPIES = 3
"""A value that is read from a blob is in memory so often: as JSON, and, for a moment, as text and in its value."""
_MAX_RESERVED_BYTES = 112 * 1024 * 1024
"""What one job's values count at most: one with more would never have its turn."""
MAX_TOTAL_BYTES = 224 * 1024 * 1024
"""Of the values of a job's steps, as JSON. They are in memory until the job ends, and in its result."""
current_step: ContextVar[str] = ContextVar("current_step", default="")
"""The key of the step that is being done; empty outside of any."""
unsaved_responses: ContextVar[list[Response]] = ContextVar("unsaved_responses")
"""The billed responses of the step, or of its part, that is being done: lost unless that is stored."""


@dataclass(slots=True)
class Steps:
    """The steps that the job has, of this attempt and of earlier ones."""

    attempt: Attempt
    outputs: Outputs
    reserve: Callable[[str, int], Awaitable[object]]
    """See `Inputs.reserve`. A later attempt has all values in memory at once, and many jobs may wake at a time."""
    _memory: object = None
    _steps: dict[str, Step] | None = None
    _failure: RetryLater | None = None
    """Why the steps could not be read. The attempt does not try again: each of its many parts would."""
    _size: int = 0
    """Bytes of the values of all steps, as JSON."""
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, key: str) -> Step | None:
        """Return the step, or None if it is not done. Raises StorageUnavailable, and Throttled without memory."""
        return (await self._load()).get(key)

    async def keys(self) -> Collection[str]:
        """Return the keys of the steps that are done. Raises StorageUnavailable."""
        return (await self._load()).keys()

    async def save(self, key: str, step: Step, beside: Sequence[Row] = ()) -> None:
        """Store a step, and insert other rows `beside`. Raises LeaseLost, StorageUnavailable."""
        await self._save(key, step, beside)
        steps = await self._load()
        steps[key] = step
        number = 0
        while (part := steps.pop(part_key(key, number := number + 1), None)) is not None:  # it has their values
            self._size -= json_size(part.value)

    async def save_outcome(self, outcome: Completed) -> None:
        """Store the job's outcome as a step, so that its calls are not repeated if its blob can't be written."""
        value = {
            "output": outcome.output,
            "status": outcome.status,
            "error": None if outcome.error is None else error_body(outcome.error),
            "model": self.attempt.usage.model,
            "connection": self.attempt.usage.label,
            "deployment_scope": self.attempt.usage.deployment_scope,
        }
        await self._save(OUTCOME_STEP, Step(value, outcome.calls))

    async def get_outcome(self) -> Completed | None:
        """Return the outcome that an earlier attempt has stored. Raises StorageUnavailable."""
        records = await self.attempt.stored_steps()
        record = next((record for record in records if record.key == OUTCOME_STEP), None)
        if record is None:
            return None
        value = await self._value_of(record)
        usage = self.attempt.usage
        usage.model, usage.label = value["model"], msgspec.convert(value["connection"], ConnectionLabel | None)
        usage.deployment_scope = value.get("deployment_scope")  # steps of older versions have none
        error = None if value["error"] is None else error_from_body(value["error"])
        return Completed(value["output"], (), value["status"], error)

    async def _load(self) -> dict[str, Step]:
        async with self._loading:
            if self._failure is not None:
                raise self._failure
            if self._steps is None:
                try:
                    records = _without_done_parts(await self.attempt.stored_steps())
                    await self._reserve_for(records)
                    self._steps = {record.key: Step(await self._value_of(record)) for record in records}
                except RetryLater as exc:
                    self._failure = exc
                    raise
        return self._steps

    async def _reserve_for(self, records: Sequence[StepRecord]) -> None:
        size = sum(record.blob_size for record in records)
        if size:
            amount = min(_COPIES * size, _MAX_RESERVED_BYTES)
            self._memory = await self.reserve(self.attempt.job.customer, amount)

    async def _save(self, key: str, step: Step, beside: Sequence[Row] = ()) -> None:
        value = msgspec.json.encode(step.value)
        self._size += len(value)
        if self._size > MAX_TOTAL_BYTES:
            self.attempt.usage.add_unsettled_calls(as_lost(step.calls))
            raise ProviderUnavailable(f"The job's answers together have more than {MAX_TOTAL_BYTES >> 20} MiB.")
        in_blob = len(value) > MAX_STEP_BYTES
        if in_blob:
            try:
                await self.attempt.with_retries(
                    lambda: self.outputs.write(self.attempt.job, _blob_name(key), value, "application/json")
                )
            except StorageUnavailable:
                self.attempt.usage.add_unsettled_calls(as_lost(step.calls))
                raise
        usage_rows = [*self.attempt.step_usage(key, step.calls), *beside]
        usage = self.attempt.usage.of_calls(step.calls)
        stored = str(len(value)).encode() if in_blob else value
        record = StepRecord(key, stored, usage, in_blob=in_blob, usage_rows=usage_rows)
        await self.attempt.save_step(record, step.calls)

    async def _value_of(self, record: StepRecord) -> Any:
        value = record.value
        if record.in_blob:
            value = await self.outputs.read_own_blob(self.attempt.job, _blob_name(record.key))
        self._size += len(value)
        return decode_condensed(value)


async def do_work(work: Callable[[], Awaitable[Step]], key: str, usage: AttemptUsage) -> Step:
    """Return what `work` returns as the step with this key, or as a part of it. What fails is on record as lost."""
    responses: list[Response] = []
    step, unsaved = current_step.set(key), unsaved_responses.set(responses)
    try:
        return await work()
    except BaseException:
        usage.add_lost_responses(responses)
        raise
    finally:
        unsaved_responses.reset(unsaved)
        current_step.reset(step)


def part_key(step: str, number: int) -> str:
    """Return the key of a part of a step, or of a job without steps (see `Context.step_part`)."""
    return f"{step}{PART}{number}"


def _without_done_parts(records: Sequence[StepRecord]) -> list[StepRecord]:
    """Return the steps without the parts of those that are done, which have their values."""
    done = {record.key for record in records}
    return [record for record in records if PART not in record.key or record.key.partition(PART)[0] not in done]


def _blob_name(key: str) -> str:
    return f"steps/{key}.json"

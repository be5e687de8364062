"""
The context of a job of `respond`: it creates a response once, and no worker waits for that (see `actions.respond`).

There is no idempotency key, and no list of responses. So a step says that one is about to be created, and another which
one it is; between the two, whether it exists is not known, and `jobs.response_executor` goes on with that.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from shared.actions.answer import answered_error
from shared.actions.operation import JsonOperation
from shared.billing.usage import UNANSWERED
from shared.contract.decoding import UNREADABLE, json_object
from shared.contract.respond import JOB_METADATA
from shared.contract.usage import Processing
from shared.errors import (
    JobError,
    LeaseLost,
    ProviderUnavailable,
    RequestRejected,
    RetryLater,
    StorageUnavailable,
    UpstreamError,
)
from shared.jobs.context import ActionContext
from shared.jobs.drain import CallCutOff
from shared.jobs.response_rows import ResponseEvents, ResponseRows
from shared.jobs.response_steps import Creation, ResponseSteps
from shared.jobs.response_wait import wait_for
from shared.jobs.windows import LENGTH, OPTIONS, processing_of
from shared.upstream.capabilities import Adaptation
from shared.upstream.messages import Response

BACKGROUND = "background"
"""The member of a request that says that the provider may make the response later."""
_ANSWERS = frozenset({"completed", "incomplete"})
"""The statuses with which a response may come at once; what has failed is read by the next attempt."""
_REFUSED = frozenset({400, 422})
_TIMED_OUT = 408
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~:=+-]{0,499}")
"""As of a batch. Gateways encode where a response is in its id: LiteLLM's have more than 200 characters."""
_UNSUPPORTED = re.compile(
    r"background\b.{0,80}\b(?:not|n't|isn't) (?:\w+ )?(?:supported|available|allowed|enabled)"
    r"|(?:not support|unsupported|unknown|unrecognized|not permitted)\b.{0,80}\bbackground\b",
    re.IGNORECASE | re.DOTALL,
)


class Head(msgspec.Struct, frozen=True):
    """What is read of a response before it has ended."""

    id: str = ""
    status: str = ""
    metadata: dict[str, Any] | None = None


def read_head(response: Response) -> Head:
    """Return what a response says about itself; nothing if it can't be read."""
    try:
        return msgspec.json.decode(response.body, type=Head)
    except UNREADABLE:
        return Head()


def _is_refusal(error: UpstreamError) -> bool:
    """Return whether the provider has said that it does not make the response."""
    status = error.facts.status or 0
    return 400 <= status < 500 and status != _TIMED_OUT  # noqa: PLR2004


def is_response_id(text: str) -> bool:
    """Return whether a provider's id can be a segment of a path."""
    return _ID.fullmatch(text) is not None


class ResponseOperation(JsonOperation):
    """The creation of a response. One in the background is sent again only if it does not exist for certain."""

    __slots__ = ()

    @property
    def in_background(self) -> bool:
        """Whether the provider makes it in the background."""
        return self.body.get(BACKGROUND) is True

    @property
    def is_billed(self) -> bool:
        """See Operation. What is made in the background is on record once it is fetched."""
        return not self.in_background

    @property
    def processing(self) -> Processing:
        """How it asks for the response to be made."""
        return processing_of(self.body.get(OPTIONS))

    def is_final(self, error: UpstreamError) -> bool:
        """See Operation."""
        if self.in_background and (error.facts.unanswered or self._is_refused(error)):
            return True
        return JsonOperation.is_final(self, error)

    def adapt(self, error: UpstreamError) -> bool:
        """See Operation."""
        return not self._is_refused(error) and JsonOperation.adapt(self, error)

    def is_background_refused(self, error: UpstreamError) -> bool:
        """Return whether the model makes nothing in the background, and the job may be adapted to that."""
        return not self._strict and self._names_background(error)

    def is_window_refused(self, error: UpstreamError) -> bool:
        """Return whether the model makes nothing in the window that was asked for."""
        if self.processing == "standard" or not isinstance(error, RequestRejected):
            return False
        named = f"{error.facts.detail.get('param')} {error}"
        names_it = OPTIONS in named or LENGTH in named or self._names_background(error)
        return error.facts.status in _REFUSED and names_it

    def _is_refused(self, error: UpstreamError) -> bool:
        return self.is_background_refused(error) or self.is_window_refused(error)

    def _names_background(self, error: UpstreamError) -> bool:
        if not self.in_background or not isinstance(error, RequestRejected):
            return False
        names_it = error.facts.detail.get("param") == BACKGROUND or _UNSUPPORTED.search(str(error)) is not None
        return error.facts.status in _REFUSED and names_it

    def leave_background(self) -> None:
        """Ask for an answer at once, now and in later operations of this model."""
        adaptation = Adaptation(BACKGROUND)
        self._capabilities.learn(adaptation, *self._key)
        self._change(adaptation)
        self.set_members()


@dataclass(slots=True)
class ResponseContext(ActionContext):
    """See above."""

    operation_type = ResponseOperation

    def members(self, _: ResponseOperation) -> Mapping[str, Any]:
        """Return what a request says beside what its job asks for. Raises JobError."""
        return {}

    def goes_on(self, operation: ResponseOperation, error: UpstreamError) -> bool:
        """Return whether the request is sent again, otherwise than it was refused."""
        if not operation.is_background_refused(error):
            return False
        operation.leave_background()
        return True

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """See `actions.respond.ResponseCreator`."""
        own = ResponseSteps(self.attempt, self.steps)
        number = (await own.read()).number
        operation = await make()
        assert isinstance(operation, ResponseOperation)  # noqa: S101  # see `operation`
        metadata = operation.body.get("metadata") or {}
        while True:
            number += 1
            background = operation.in_background
            operation.set_members(metadata={**metadata, JOB_METADATA: own.name(number)}, **self.members(operation))
            processing = operation.processing
            creation = await own.begin(
                *(number, self.connection, self.model),
                in_background=background,
                processing=processing,
                adapted=operation.adapted,
            )
            own.keep_reservation(is_bought=background)
            try:
                response = await ActionContext.call(self, operation)
            except (JobError, RetryLater) as error:
                if background and isinstance(error, CallCutOff):
                    raise  # it may exist
                if background and isinstance(error, UpstreamError) and error.facts.unanswered:
                    if not _is_refusal(error):
                        raise wait_for(self.services, self.attempt, creation) from error
                    # It does not exist, but providers charge for such a refusal.
                    await own.lost(creation, [replace(UNANSWERED, request_id=error.facts.request_id)])
                    raise
                await own.refused(creation)
                if background:  # else a job that is refused for days would leave a row for each time
                    await self._forget(creation)
                own.keep_reservation(is_bought=False)
                if isinstance(error, UpstreamError) and self.goes_on(operation, error):
                    continue
                raise
            response = replace(response, processing=processing)
            if not background:
                return response, operation.adapted
            return await self._created(own, creation, response, operation.adapted), operation.adapted

    async def _created(
        self, own: ResponseSteps, creation: Creation, response: Response, adapted: Sequence[str]
    ) -> Response:
        """
        Keep what was created in the background; return it if it has ended, or is an error. Raises BatchWait if not.

        Whoever has lost the lease meanwhile leaves its name, as an event would: the job's next attempt adopts it.
        """
        head = read_head(response)
        if not is_response_id(head.id):
            if head.status in _ANSWERS or answered_error([json_object(response.body)], response) is not None:
                return response
            raise wait_for(self.services, self.attempt, creation) from ProviderUnavailable("The response has no id.")
        try:
            creation = await own.created(creation, head.id, adapted)
        except (LeaseLost, StorageUnavailable):
            with suppress(StorageUnavailable):
                events = ResponseEvents(self.services.schedule.table, self.services.schedule)
                await events.ended(self.connection.customer, self.connection.name, head.id)
            raise
        if head.status not in _ANSWERS:
            raise wait_for(self.services, self.attempt, creation)
        return response

    async def _forget(self, creation: Creation) -> None:
        with suppress(StorageUnavailable):  # then the end of the job does it
            rows = ResponseRows(self.services.schedule.table)
            await rows.forget(self.connection.customer, self.connection.name, [(creation.name, "")])

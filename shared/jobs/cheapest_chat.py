"""The context of a chat at the cheapest price: a line of a batch, a call, or a response in a window of hours."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.actions.chat_routes import RESPONSES, names_another
from shared.actions.cheapest_chat import NoWindow, WindowFits
from shared.actions.operation import JsonOperation
from shared.errors import ModelNotFound, RequestRejected, UpstreamError
from shared.jobs.batch_context import batched
from shared.jobs.context import ActionContext
from shared.jobs.list_price import buy_at_flex
from shared.jobs.patient_response import PatientResponseContext
from shared.jobs.response_context import ResponseContext, ResponseOperation
from shared.jobs.windows import LENGTH, OPTIONS, WINDOWS, refuse
from shared.upstream.messages import Operation, Response


@dataclass(slots=True)
class CheapestChatContext(PatientResponseContext):
    """See above, and `actions.cheapest_chat.WindowContext`."""

    takes_windows: bool = False

    async def call(self, operation: Operation) -> Response:
        """See BatchContext. Raises WindowFits in place of a call at the list price, if a window may be taken."""
        operation = batched(operation)
        response = await self.answer(operation)
        if response is None:
            response = await buy_at_flex(self, operation)
        if response is None and self.takes_windows:
            await self.leave_batches()
            if self.window() is not None:
                raise WindowFits
        return await ActionContext.call(self, operation) if response is None else response

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """See `actions.respond.ResponseCreator`. Raises NoWindow, too."""
        return await ResponseContext.create(self, make)

    def members(self, _: ResponseOperation) -> Mapping[str, Any]:
        """See ResponseContext. Which window it is."""
        window = self.window()
        if window is None:
            raise NoWindow
        return {OPTIONS: {LENGTH: window.length}}

    def leave_windows(self, error: UpstreamError) -> None:
        """See `actions.cheapest_chat.WindowContext`."""
        self.takes_windows = False
        self.stopped = self.failed = None  # that was about the response alone
        if isinstance(error, ModelNotFound) or (isinstance(error, RequestRejected) and names_another(error, RESPONSES)):
            for window in WINDOWS:
                refuse(window.processing, self.capabilities)

"""
`chat` with `options.processing: cheapest`: the chat of a batch or of the flex tier, else a response in a window of
hours (see `chat_in_background`), else a chat at the list price.
"""

from __future__ import annotations

from typing import Protocol, cast

from shared.actions import chat, chat_in_background
from shared.actions.base import Completed, Context
from shared.actions.chat import NEEDS_MODEL, decode, keeps_blobs
from shared.actions.chat_in_background import request_of
from shared.actions.respond import check_connection
from shared.contract.chat import Chat
from shared.errors import InvalidJob, ModelNotFound, ProviderUnavailable, RateLimited, RequestRejected, UpstreamError

__all__ = ["NEEDS_MODEL", "decode", "keeps_blobs", "run"]


class WindowFits(Exception):
    """Nothing cheaper than a window of hours is to be had in time. Raised in place of a call, and nothing is bought."""


class NoWindow(Exception):
    """No window of hours is to be had in time. Nothing is bought."""


class WindowContext(Protocol):
    """The context of such a chat: its `call` raises WindowFits, its `create` (see ResponseCreator) NoWindow."""

    takes_windows: bool
    """Whether the chat may be made in a window. If not, `call` buys it."""

    def leave_windows(self, error: UpstreamError) -> None:
        """Take no window, and remember a refusal that is about the model."""


async def run(request: Chat, ctx: Context) -> Completed:
    """See Action."""
    windows = cast(WindowContext, ctx)
    windows.takes_windows = _can_wait(request, ctx)
    while True:
        try:
            return await chat.run(request, ctx)
        except WindowFits:
            pass
        try:
            return await chat_in_background.run(request, ctx)
        except NoWindow:
            windows.takes_windows = False
        except (RequestRejected, ModelNotFound, ProviderUnavailable, RateLimited) as error:
            windows.leave_windows(error)  # the list price may do it all the same


def _can_wait(request: Chat, ctx: Context) -> bool:
    try:
        check_connection(ctx.connection, "A window of hours")
        return not (request_of(request).adapted or ctx.strict)
    except InvalidJob:
        return False

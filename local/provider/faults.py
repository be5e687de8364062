"""
What a test lets go wrong for an account: on its routes, in its batches, for its calls, responses and webhooks.

A fault happens once, `times` times, or with `times=None` always. Of those that fit, the oldest happens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

Fault = TypeVar("Fault")


@dataclass(slots=True)
class Plan(Generic[Fault]):
    """Faults that are to happen, in order."""

    _waiting: list[tuple[Fault, int | None]] = field(default_factory=list)

    def add(self, fault: Fault, times: int | None = 1) -> None:
        """Let `fault` happen `times` times, or always."""
        self._waiting.append((fault, times))

    def clear(self) -> None:
        """Let no more of them happen."""
        self._waiting.clear()

    def take(self, fits: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        """Return the fault that happens now, which has then happened once more; None for none."""
        for index, (fault, times) in enumerate(self._waiting):
            if fits(fault):
                if times is not None:
                    self._waiting[index : index + 1] = [(fault, times - 1)] if times > 1 else []
                return fault
        return None

    def __bool__(self) -> bool:
        return bool(self._waiting)


@dataclass(frozen=True, slots=True)
class RouteFault:
    """
    What happens to a request instead of its answer.

    `lost`: it is done, and the connection breaks without an answer. `reset`: the connection breaks before it is done.
    `hang`: it is not done and nothing is sent, until the client leaves. `hang_after`: it is done, likewise. `status`:
    it is not done, and an error is sent. `cut`: half of the answer is sent, then the connection breaks. `slow`: it
    takes `after_s` real seconds.
    """

    kind: Literal["lost", "reset", "hang", "hang_after", "status", "cut", "slow"]
    status: int = 500
    code: str = ""
    message: str = "A test injected this error."
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.5
    path: str = ""
    """It happens only to requests whose path contains this, such as the id of a response."""


@dataclass(frozen=True, slots=True)
class BatchFault:
    """What goes wrong with a batch. Several may, of one fault; seconds are the clock's and replace the account's."""

    list_late_s: float = 0
    """The list doesn't show it for so long."""
    validating_s: float | None = None
    in_progress_s: float | None = None
    finalizing_s: float | None = None
    cancelling_s: float | None = None
    fail_code: str = ""
    """It fails in validation with this code, such as `token_limit_exceeded`."""
    errors_only: bool = False
    """Every line errors, so that there is an error file only."""
    expire_share: float | None = None
    """It expires after this share of its lines is done."""
    shuffle: bool = False
    """The output is not in the order of the input."""
    missing: int = 0
    """So many of its last lines are not executed, and in neither file."""
    duplicates: int = 0
    """So many lines of the output stand in it twice."""
    bom: bool = False
    """The output begins with a byte order mark."""


@dataclass(frozen=True, slots=True)
class CallFault:
    """
    A call, direct or a line of a batch, that errors.

    It fits calls whose custom_id is `match`, or whose prompt contains it, and that have the parameter `if_parameter`.
    With a `status` of 200, the answer is cut short by the content filter: `finish_reason` `content_filter`, billed.
    """

    status: int = 500
    code: str = "server_error"
    message: str = "A test injected this error."
    param: str | None = None
    match: str = ""
    if_parameter: str = ""
    retry_after_s: int | None = None

    def fits(self, custom_id: str, prompt: str, body: Mapping[str, Any]) -> bool:
        """Return whether it is for this call."""
        if self.if_parameter and self.if_parameter not in body:
            return False
        return self.match == custom_id or self.match in prompt


@dataclass(frozen=True, slots=True)
class ResponseFault:
    """
    How a response in the background ends, and how long it takes; seconds are the clock's.

    `in_window`: it happens only to one that was asked for in a window of hours.
    """

    status: Literal["completed", "failed", "incomplete"] = "failed"
    queued_s: float | None = None
    in_progress_s: float | None = None
    in_window: bool = False


@dataclass(frozen=True, slots=True)
class WebhookFault:
    """What happens to an event: it is never sent, sent twice, sent `late_s` later, or with a wrong signature."""

    kind: Literal["lost", "doubled", "late", "wrong_signature"]
    late_s: float = 60


@dataclass(slots=True)
class Faults:
    """An account's faults."""

    routes: Plan[tuple[str, RouteFault]] = field(default_factory=Plan)
    batches: Plan[BatchFault] = field(default_factory=Plan)
    calls: Plan[CallFault] = field(default_factory=Plan)
    responses: Plan[ResponseFault] = field(default_factory=Plan)
    webhooks: Plan[WebhookFault] = field(default_factory=Plan)
    flex_unavailable: Plan[int] = field(default_factory=Plan)
    """A direct call that asks for flex gets a 429 `resource_unavailable` with this `Retry-After`."""

    def route(self, name: str, fault: RouteFault, times: int | None = 1) -> None:
        """Let a fault happen to a route, such as `batches.create` (server.ROUTES has all), or to any: `*`."""
        self.routes.add((name, fault), times)

    def take_route(self, name: str, path: str) -> RouteFault | None:
        """Return the fault that happens to a request of this route."""
        taken = self.routes.take(lambda each: each[0] in (name, "*") and each[1].path in path)
        return taken and taken[1]

    def clear(self) -> None:
        """Let nothing more go wrong."""
        for each in (self.routes, self.batches, self.calls, self.responses, self.webhooks, self.flex_unavailable):
            each.clear()


LOST = RouteFault("lost")
RESET = RouteFault("reset")
HANG = RouteFault("hang")
HANG_AFTER = RouteFault("hang_after")
CUT = RouteFault("cut")


def error(status: int, code: str = "", *, retry_after_s: int | None = None) -> RouteFault:
    """Return a fault that answers with an error."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return RouteFault("status", status, code or str(status), headers=headers)

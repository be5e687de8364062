"""The Responses API: answered at once, or in the background with a status to poll."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from local.provider.account import Account
from local.provider.answers import prompt_of, response
from local.provider.calls import Call, check_model, execute
from local.provider.clock import Timers
from local.provider.errors import ApiError, not_found
from local.provider.faults import ResponseFault

ENDED = frozenset({"completed", "failed", "cancelled", "incomplete"})
WINDOWS = {"2h": "background_2h", "8h": "background_8h"}


@dataclass(slots=True)
class Response:
    """A stored response."""

    id: str
    request: Mapping[str, Any] = field(repr=False)
    created_at: float
    body: dict[str, Any] = field(repr=False)
    processing: str = "standard"

    @property
    def status(self) -> str:
        """One of queued, in_progress, completed, failed, cancelled, incomplete."""
        return str(self.body["status"])

    def json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {**self.body, "id": self.id, "created_at": int(self.created_at)}


@dataclass(frozen=True, slots=True)
class Responses:
    """Creates responses, and ends those in the background by timers."""

    timers: Timers
    notify: Callable[[Account, str, str, float], None]

    def create(self, account: Account, body: Mapping[str, Any], at: float) -> dict[str, Any]:
        """Answer, or begin to in the background. Raises ApiError."""
        if not body.get("background"):
            executed = execute(account, Call("responses", body, at))
            if executed.status != 200:  # noqa: PLR2004 -- HTTP's own number
                error = executed.body["error"]
                raise ApiError(
                    executed.status, error["code"], error["message"], error.get("param"), headers=executed.headers
                )
            if body.get("store", True):
                made = Response(executed.body["id"], body, at, executed.body)
                account.responses[made.id] = made
            return executed.body
        if not body.get("store", True):
            raise ApiError(400, "invalid_value", "'background' needs 'store' to be true.", "store")
        prompt_of("responses", body)
        check_model(account, str(body.get("model") or ""))
        if body.get("model") in account.no_background:
            message = "Background mode is not supported with this model."
            raise ApiError(400, "unsupported_parameter", message, "background")
        window = (body.get("background_options") or {}).get("completion_window")
        if window is not None and window not in WINDOWS:
            raise ApiError(400, "invalid_value", "'completion_window' must be '2h' or '8h'.", "background_options")
        if window in account.no_windows:
            message = "Unknown parameter: 'background_options'."
            raise ApiError(400, "unknown_parameter", message, "background_options")
        made = Response(
            f"resp_{uuid4().hex}", body, at, response(body, status="queued"), WINDOWS.get(str(window), "standard")
        )
        account.responses[made.id] = made
        fault = account.faults.responses.take(lambda each: window is not None or not each.in_window)
        fault = fault or ResponseFault("completed")
        begins = at + _first(fault.queued_s, account.durations.queued_s)
        ends = begins + _first(fault.in_progress_s, account.durations.responding_s)
        self.timers.at(begins, lambda _: self._begin(made))
        self.timers.at(ends, lambda due: self._end(account, made, fault, due))
        return made.json()

    def cancel(self, account: Account, made: Response, at: float) -> None:
        """Cancel a response; one that has ended stays as it is. Raises ApiError if it isn't in the background."""
        if not made.request.get("background"):
            raise ApiError(400, "invalid_request", "Only a response in the background can be cancelled.")
        if made.status not in ENDED:
            made.body["status"] = "cancelled"
            self.notify(account, "response.cancelled", made.id, at)

    def _begin(self, made: Response) -> None:
        if made.status == "queued":
            made.body["status"] = "in_progress"

    def _end(self, account: Account, made: Response, fault: ResponseFault, at: float) -> None:
        if made.status in ENDED:
            return
        if fault.status == "failed":
            made.body |= {"status": "failed", "error": {"code": "server_error", "message": "A test injected this."}}
        else:
            request = {**made.request, **({"max_output_tokens": 1} if fault.status == "incomplete" else {})}
            executed = execute(account, Call("responses", request, at, made.processing, made.id))
            if executed.status == 200:  # noqa: PLR2004 -- HTTP's own number
                made.body = executed.body
            else:
                made.body |= {"status": "failed", "error": executed.body["error"]}
        made.body["completed_at"] = int(at) if made.status == "completed" else None
        self.notify(account, f"response.{made.status}", made.id, at)


def get_response(account: Account, name: str) -> Response:
    """Return a response. Raises ApiError if the account doesn't have it."""
    made = account.responses.get(name)
    if made is None:
        raise not_found("response", name)
    return made


def _first(seconds: float | None, usual: float) -> float:
    return usual if seconds is None else seconds

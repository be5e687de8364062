"""The HTTP app: passes a request to the handler of its route, and turns every error into a problem."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from shared.connections.store import VaultForbids
from shared.contract.documents import API_PREFIX
from shared.event_names import NAMESPACE, REQUEST_FAILED
from shared.http.auth import Caller, read_caller
from shared.http.messages import Request, Response
from shared.http.problems import Problem, problem_for, problem_response
from shared.http.routes import ROUTES, Route
from shared.jobs.crash_log import log_text
from shared.settings import Settings
from shared.telemetry.base import SILENT, Telemetry

Handler = Callable[[Request, Caller], Awaitable[Response]]
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Of every response, unless it says otherwise: no cache keeps customers' data."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class HttpApp:
    """Responds to requests. `handlers` has one for each of ROUTES, by the route's name."""

    settings: Settings
    handlers: Mapping[str, Handler]
    telemetry: Telemetry = SILENT

    async def handle(self, name: str, request: Request) -> Response:
        """The response of the route of that name. Errors become responses, too."""
        route = next(route for route in ROUTES if route.name == name)
        with self.telemetry.http_request(request.method, f"{API_PREFIX}/{route.path}", request.headers):
            response = await self._respond(route, request)
            self.telemetry.http_responded(response.status)
        return response

    async def _respond(self, route: Route, request: Request) -> Response:
        try:
            response = await self._call_handler(route, request)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the caller gets a problem, and never its text
            response = problem_response(logged_problem(exc, route.name))
        return Response(response.status, response.body, response.media_type, {**_HEADERS, **response.headers})

    async def _call_handler(self, route: Route, request: Request) -> Response:
        self.settings.check()
        if route.role is None:
            return await self.handlers[route.name](request, Caller(frozenset()))
        caller = read_caller(request.headers, self.settings)
        caller.check_role(*route.roles)
        if route.is_operators:
            caller.check_operator()
        return await self.handlers[route.name](request, caller)


def logged_problem(error: Exception, route: str) -> Problem:
    """The problem that `error` is to a caller of the route. What is not the caller's fault is logged."""
    problem = problem_for(error)
    if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Our own sentence if a service is down or the operator has to act. The text of any other error may be the
        # caller's: only the place where it was raised is logged.
        is_ours = problem.code == "unavailable"
        sentence = str(error) if isinstance(error, Problem | VaultForbids) else log_text(error)
        why = f" {sentence}" if is_ours else f"\n{''.join(traceback.format_tb(error.__traceback__))}"
        log.error("%s route=%s %s%s", REQUEST_FAILED, route, type(error).__name__, why)
    return problem

"""The door: a request whose route is found to the room that answers it, and every error to a problem."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from shared.contract.documents import API_PREFIX
from shared.event_names import REQUEST_FAILED
from shared.http.auth import Caller, read_caller
from shared.http.messages import Request, Response
from shared.http.problems import problem_of, problem_response
from shared.http.routes import ROUTES, Route
from shared.settings import Settings
from shared.telemetry.base import SILENT, Telemetry

Handler = Callable[[Request, Caller], Awaitable[Response]]
_SECURE = {"X-Content-Type-Options": "nosniff"}

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class Door:
    """Answers requests. `handlers` has one for each of ROUTES by its name."""

    settings: Settings
    handlers: Mapping[str, Handler]
    telemetry: Telemetry = SILENT

    async def answer(self, name: str, request: Request) -> Response:
        """The response of the route of that name; an error is one too."""
        route = next(route for route in ROUTES if route.name == name)
        with self.telemetry.http_request(route.method, f"{API_PREFIX}/{route.path}", request.headers):
            response = await self._respond(route, request)
            self.telemetry.http_responded(response.status)
        return response

    async def _respond(self, route: Route, request: Request) -> Response:
        try:
            response = await self._answer(route, request)
        except Exception as exc:  # noqa: BLE001  # whatever it is, the caller gets a problem, and never its text
            problem = problem_of(exc)
            if problem.status >= 500:  # noqa: PLR2004
                # Of what is down, or the operator's to mend, a sentence of ours; of a fault only where it is: what
                # it says may be the caller's.
                known = problem.code == "unavailable"
                why = f" {exc}" if known else f"\n{''.join(traceback.format_tb(exc.__traceback__))}"
                log.error("%s route=%s %s%s", REQUEST_FAILED, route.name, type(exc).__name__, why)  # noqa: TRY400
            response = problem_response(problem)
        return Response(response.status, response.body, response.media_type, {**_SECURE, **response.headers})

    async def _answer(self, route: Route, request: Request) -> Response:
        if route.role is None:
            return await self.handlers[route.name](request, Caller(frozenset()))
        caller = read_caller(request.headers, self.settings)
        caller.check_role(route.role)
        return await self.handlers[route.name](request, caller)

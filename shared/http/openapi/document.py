"""
The interface as an OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.1).

Put together of the routes, of `operations`, and of the decoder's types as `schemas` gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from shared.contract.documents import API_PREFIX, ProblemDocument
from shared.contract.names import JobId, Name
from shared.http import problems
from shared.http.messages import JSON
from shared.http.openapi import examples
from shared.http.openapi.operation import Answer, Operation, Parameter
from shared.http.openapi.operations import HEADERS, OPERATIONS
from shared.http.openapi.schemas import Schema, components, reference, schema_of
from shared.http.routes import ROUTES, Route

HEALTH = Route("health", "GET", "health", None, "Whether the app is loaded")
"""Not one of ROUTES: it stands in function_app."""

_PLACES = {
    "customer": ("The customer's id.", schema_of(Name)),
    "job_id": ("The job's id.", schema_of(JobId)),
    "name": ("The connection's name.", schema_of(Name)),
}
_COMMON = {500: "`internal`: a fault of the software, which its log describes."}
_KEYED = {
    401: "`unauthorized`: no token. Where it is a function key that is missing or wrong, the host answers, "
    "without a body.",
    403: "`forbidden`: the token has not the role, or is tied to another customer.",
    503: "`unavailable`: Storage or Key Vault gives no answer now.",
}
_ABOUT = """\
AI jobs on each customer's own subscription: submitted, followed, billed.

Every request but those that say otherwise needs a function key, in the header `x-functions-key` or the \
parameter `code`, or a token where App Service authentication stands in front. Errors are \
`application/problem+json` (RFC 9457) with a stable `code`. What matches no route gets an empty 404 of the host."""


def document_bytes() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document())


def document() -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (*ROUTES, HEALTH):
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route, OPERATIONS[route.name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Customer AI Jobs", "version": "1", "description": _ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": API_PREFIX}],
        "paths": paths,
        "components": {
            "schemas": components(*_kinds()),
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "code": {"type": "apiKey", "in": "query", "name": "code"},
                "entra": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


def _operation(route: Route, told: Operation) -> dict[str, Any]:
    errors = {**(_COMMON if route.role is None else {**_KEYED, **_COMMON}), **told.errors}
    if route is HEALTH:
        errors = {}
    answers = {status: _answer(answer) for status, answer in told.answers.items()}
    answers |= {status: _error(status, about, waits=status in told.waits) for status, about in errors.items()}
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "description": told.about,
        "parameters": [*_places(route), *(_parameter(one) for one in told.parameters)],
        "responses": {str(status): answers[status] for status in sorted(answers)},
        "security": [] if route.role is None else [{"key": []}, {"code": []}, {"entra": [route.role]}],
    }
    places = {name: shown for name, shown in examples.PLACES.items() if f"{{{name}}}" in route.path}
    example = {"path": places, "query": told.query_example, "headers": told.header_example}
    made["x-example"] = {name: shown for name, shown in example.items() if shown}
    if told.body is not None:
        made["requestBody"] = {
            "required": told.body_required,
            "content": {JSON: _content(told.body, told.body_example)},
        }
    return made


def _places(route: Route) -> Iterator[dict[str, Any]]:
    for segment in route.path.split("/"):
        if segment.startswith("{"):
            about, schema = _PLACES[segment.strip("{}")]
            yield {
                "name": segment.strip("{}"),
                "in": "path",
                "required": True,
                "description": about,
                "schema": schema,
            }


def _parameter(told: Parameter) -> dict[str, Any]:
    return {
        "name": told.name,
        "in": told.place,
        "required": told.required,
        "description": told.about,
        "schema": told.schema,
    }


def _answer(told: Answer) -> dict[str, Any]:
    made: dict[str, Any] = {"description": told.about}
    names = {**dict.fromkeys(told.headers, True), **dict.fromkeys(told.maybe, False)}
    if names:
        made["headers"] = {name: _header(name, always=always) for name, always in names.items()}
    if told.bodies:
        made["content"] = {
            kind: _content(what, told.example if kind == JSON else None) for kind, what in told.bodies.items()
        }
    if told.links:
        made["links"] = {name: _link(name) for name in told.links}
    return made


def _link(name: str) -> dict[str, Any]:
    (route,) = [one for one in ROUTES if one.name == name]
    places = {place["name"]: f"$response.body#/{place['name']}" for place in _places(route)}
    return {"operationId": name, "description": route.summary, "parameters": places}


def _error(status: int, about: str, *, waits: bool) -> dict[str, Any]:
    code = about.removeprefix("`").partition("`: ")[0]
    shown = problems.problem_response(problems.Problem(status, code, examples.SENTENCES[code]))
    content = {"schema": reference(ProblemDocument), "example": msgspec.json.decode(shown.body)}
    made: dict[str, Any] = {"description": about, "content": {problems.MEDIA_TYPE: content}}
    return {**made, "headers": {"Retry-After": _header("Retry-After", always=False)}} if waits else made


def _content(what: Any, example: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"schema": what if isinstance(what, Mapping) else reference(what)}
    return made if example is None else {**made, "example": example}


def _header(name: str, *, always: bool) -> dict[str, Any]:
    schema: Schema = {"type": "integer", "minimum": 1} if name == "Retry-After" else {"type": "string"}
    return {"description": HEADERS[name], "required": always, "schema": schema}


def _kinds() -> tuple[list[type], list[type]]:
    """The types that requests have, and those that answers have."""
    told = [*OPERATIONS.values()]
    taken = [one.body for one in told]
    given = [kind for one in told for answer in one.answers.values() for kind in answer.bodies.values()]
    return _types(taken), _types([ProblemDocument, *given])


def _types(kinds: Iterable[Any]) -> list[type]:
    return list(dict.fromkeys(kind for kind in kinds if isinstance(kind, type)))

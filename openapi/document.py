"""
The HTTP API as an OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.1).

Made from the app's routes, from `operations`, and from the types that decode requests and encode responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from openapi import examples
from openapi.operation import Operation, Parameter, Response
from openapi.operations import OPERATIONS, TAGS
from openapi.portable_schema import Schema, portable
from openapi.schemas import components, reference, schema_of
from openapi.shared_parts import HEADERS, JSON
from shared.contract.closed_month import StatementId
from shared.contract.documents import API_PREFIX, ProblemDocument
from shared.contract.names import JobId, Name
from shared.http.problems import PROBLEM_JSON, Problem, problem_response
from shared.http.routes import ROUTES, Route

HEALTH = Route("health", "GET", "health", None, "Check whether the app is loaded")
"""Not one of ROUTES: `function_app` defines it."""

_PATH_PARAMETERS = {
    "customer": ("The customer's id", Name),
    "job_id": ("The job's id", JobId),
    "connection": ("The connection's name", Name),
    "name": ("The {resource}'s name", Name),
    "statement": ("The month, such as 2026-11, or a correction of it, such as 2026-11-1", StatementId),
}
_EVERY_ERROR = {500: "`internal`: a fault in the app; the app's log describes it."}
_GUARDED_ERRORS = {
    401: "`unauthorized`: the request has no valid token. If it lacks a function key, or has a wrong one, Azure's host "
    "responds by itself, without a body.",
    403: "`forbidden`: the token lacks the role, is tied to another customer, or reaches none.",
    503: "`unavailable`: Storage or Key Vault does not respond.",
}
_OPERATORS = "A caller whose token is tied to a customer is refused."
_ENTRA = (
    "A token for App Service authentication, with the roles in its claims; none includes another. It reaches the "
    "customer that a claim of it names, or every customer if it names none and has the role Customers.All."
)
_DESCRIPTION = """\
Run AI jobs on each customer's own subscription: submit them, follow them, and read what they used.

Unless an operation says otherwise, a request needs a function key, in the header `x-functions-key` or the query \
parameter `code`, or a token if App Service authentication is in front of the app. Errors are \
`application/problem+json` (RFC 9457) with a stable `code`. What takes GET takes HEAD, too. If no route matches, \
Azure's host responds 404 without a body."""


def document() -> dict[str, Any]:
    """The OpenAPI document. Raises InputMissing."""
    paths: dict[str, dict[str, Any]] = {}
    for route in (*ROUTES, HEALTH):
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route, OPERATIONS[route.name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Customer AI Jobs", "version": "1", "description": _DESCRIPTION, "license": {"name": "MIT"}},
        "servers": [{"url": API_PREFIX}],
        "paths": paths,
        "components": {
            "schemas": components(
                _types(operation.body for operation in OPERATIONS.values()),
                _types([ProblemDocument, *_response_bodies()]),
            ),
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "x-functions-key"},
                "code": {"type": "apiKey", "in": "query", "name": "code"},
                "entra": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _ENTRA},
            },
        },
    }


def _response_bodies() -> list[Any]:
    responses = [response for operation in OPERATIONS.values() for response in operation.responses.values()]
    return [body for response in responses for body in response.bodies.values()]


def _types(bodies: Iterable[Any]) -> list[type]:
    choices = [body if isinstance(body, tuple) else (body,) for body in bodies]
    return list(dict.fromkeys(kind for kinds in choices for kind in kinds if isinstance(kind, type)))


def _operation(route: Route, operation: Operation) -> dict[str, Any]:
    errors = {**(_EVERY_ERROR if route.role is None else {**_GUARDED_ERRORS, **_EVERY_ERROR}), **operation.errors}
    responses = {status: _response(response) for status, response in operation.responses.items()}
    if route is not HEALTH:
        for status, description in errors.items():
            error = _error(status, description, retriable=status in operation.retriable)
            responses[status] = _merged(responses[status], error) if status in responses else error
    in_path = _path_parameters(route)
    described: dict[str, Any] = {
        "operationId": route.name,
        "tags": [TAGS[route.name]],
        "summary": route.summary,
        "description": f"{operation.description} {_OPERATORS if route.is_operators else ''}".rstrip(),
        "parameters": [*in_path, *map(_parameter, operation.parameters)],
        "responses": {str(status): responses[status] for status in sorted(responses)},
        "security": []
        if route.role is None
        else [{"key": []}, {"code": []}, *({"entra": [role]} for role in route.roles)],
    }
    example = {
        "path": {parameter["name"]: examples.PATH_PARAMETERS[parameter["name"]] for parameter in in_path},
        "query": operation.query_example,
        "headers": operation.header_example,
    }
    described["x-example"] = {name: value for name, value in example.items() if value}
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {JSON: _content(operation.body, operation.body_example)},
        }
    return described


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    names = [segment.strip("{}") for segment in route.path.split("/") if segment.startswith("{")]
    resource = TAGS[route.name].removesuffix("s")
    described = [(name, *_PATH_PARAMETERS[name]) for name in names]
    return [_path_parameter(name, text.format(resource=resource), kind) for name, text, kind in described]


def _path_parameter(name: str, description: str, kind: Any) -> dict[str, Any]:
    schema = schema_of(kind)
    text = f"{description}: {schema.pop('description')}."
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.location,
        "required": parameter.required,
        "description": parameter.description,
        "schema": portable(parameter.schema),
    }


def _response(response: Response) -> dict[str, Any]:
    described: dict[str, Any] = {"description": response.description}
    names = {**dict.fromkeys(response.headers, True), **dict.fromkeys(response.optional_headers, False)}
    if names:
        described["headers"] = {name: _header(name, required=required) for name, required in names.items()}
    if response.bodies:
        described["content"] = {
            kind: _content(body, response.example if kind == JSON else None) for kind, body in response.bodies.items()
        }
    if response.links:
        described["links"] = {name: _link(name) for name in response.links}
    return described


def _link(name: str) -> dict[str, Any]:
    (route,) = [route for route in ROUTES if route.name == name]
    parameters = [parameter["name"] for parameter in _path_parameters(route)]
    return {
        "operationId": name,
        "description": route.summary,
        "parameters": {parameter: f"$response.body#/{parameter}" for parameter in parameters},
    }


def _error(status: int, description: str, *, retriable: bool) -> dict[str, Any]:
    code = description.removeprefix("`").partition("`: ")[0]
    response = problem_response(Problem(status, code, examples.PROBLEM_DETAILS[code]))
    content = {"schema": reference(ProblemDocument), "example": msgspec.json.decode(response.body)}
    described: dict[str, Any] = {"description": description, "content": {PROBLEM_JSON: content}}
    return {**described, "headers": {"Retry-After": _header("Retry-After", required=False)}} if retriable else described


def _merged(response: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    """A status that is a problem, or something else, by the media type."""
    description = f"{response['description']} Or {error['description']}"
    return {**error, "description": description, "content": {**error["content"], **response["content"]}}


def _content(body: Any, example: Any) -> dict[str, Any]:
    if isinstance(body, tuple):
        schema = {"oneOf": [reference(kind) for kind in body]}
    else:
        schema = portable(body) if isinstance(body, Mapping) else reference(body)
    described: dict[str, Any] = {"schema": schema}
    return described if example is None else {**described, "example": example}


def _header(name: str, *, required: bool) -> dict[str, Any]:
    schema: Schema = {"type": "integer", "minimum": 1} if name == "Retry-After" else {"type": "string"}
    return {"description": HEADERS[name], "required": required, "schema": schema}

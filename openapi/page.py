"""The OpenAPI document as an HTML page with its style in it. The page loads nothing and runs no script."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from openapi.html_text import Html, joined, table, tag, with_code
from openapi.schema_text import choice_text, schema_text

STYLE = """
:root{color-scheme:light dark;--line:light-dark(#d5d9de,#3a414a);--soft:light-dark(#f4f6f8,#1b2027);
--quiet:light-dark(#55606c,#9aa5b1);--link:light-dark(#0b5cad,#7db7f0)}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem 1.2rem 4rem;
background:light-dark(#fff,#12161b);color:light-dark(#1b2027,#dfe4ea)}
a{color:var(--link)}h1{margin-bottom:.2rem}h2{margin-top:3rem;border-top:1px solid var(--line);padding-top:1.5rem}
h3{margin-bottom:.3rem}code,pre{font:.9em/1.45 ui-monospace,monospace}
pre{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:.8rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;display:block;overflow-x:auto}
th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--quiet)}.quiet{color:var(--quiet)}
.method{display:inline-block;min-width:4.5rem;font:600 .85em ui-monospace,monospace}
nav ul{list-style:none;padding:0}p code,li code{overflow-wrap:anywhere}summary{cursor:pointer}
"""
_APP_URL = "https://APP.azurewebsites.net"


def write_page(document: Mapping[str, Any]) -> str:
    """The page of the app's OpenAPI document."""
    info = document["info"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    prefix = document["servers"][0]["url"]
    schemas = document["components"]["schemas"]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", info["title"]),
        tag("style", Html(STYLE)),
    )
    body = tag(
        "body",
        tag("h1", info["title"]),
        *(tag("p", *with_code(part)) for part in info["description"].split("\n\n")),
        tag("p", "For machines: ", tag("a", "OpenAPI 3.1", href=f"{prefix}/openapi.json"), "."),
        tag("nav", tag("ul", *(_entry(method, prefix + path, operation) for method, path, operation in operations))),
        *(part for method, path, operation in operations for part in _operation(method, prefix + path, operation)),
        tag("h2", "Types", id="types"),
        *(part for name, schema in schemas.items() for part in _type(name, schema)),
    )
    return "<!doctype html>" + tag("html", head, body, lang="en") + "\n"


def _entry(method: str, path: str, operation: Mapping[str, Any]) -> Html:
    link = tag("a", tag("code", path), href=f"#{operation['operationId']}")
    return tag("li", tag("span", method.upper(), class_="method"), link, f" {operation['summary']}")


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[Html]:
    yield tag("h2", operation["summary"], id=operation["operationId"])
    yield tag("p", tag("span", method.upper(), class_="method"), tag("code", path))
    yield tag("p", *with_code(operation["description"]))
    yield tag("p", *with_code(_permission(operation["security"])), class_="quiet")
    if operation["parameters"]:
        yield tag("h3", "Parameters")
        yield table(("name", "in", "type", ""), map(_parameter, operation["parameters"]))
    yield tag("h3", "Request")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield tag("p", tag("code", kind), ": ", schema_text(content["schema"]))
    yield tag("pre", _request(method, path, operation))
    yield tag("h3", "Responses")
    yield table(("status", "body", ""), (_response(*each) for each in operation["responses"].items()))
    yield from _examples(operation["responses"])


def _permission(security: list[Mapping[str, list[str]]]) -> str:
    if not security:
        return "Needs no key."
    roles = ", ".join(f"`{role}`" for scheme in security for role in scheme.get("entra", ()))
    return f"Needs a function key, or a token with the role {roles}."


def _parameter(parameter: Mapping[str, Any]) -> tuple[str, ...]:
    description = joined(with_code(parameter["description"]))
    return tag("code", parameter["name"]), parameter["in"], schema_text(parameter["schema"]), description


def _request(method: str, path: str, operation: Mapping[str, Any]) -> str:
    example = operation.get("x-example", {})
    for name, value in example.get("path", {}).items():
        path = path.replace(f"{{{name}}}", value)
    query = f"?{example['query']}" if example.get("query") else ""
    lines = [f"curl -X {method.upper()} '{_APP_URL}{path}{query}'"]
    headers = dict(example.get("headers", {}))
    if operation["security"]:
        headers = {"x-functions-key": "KEY", **headers}
    content = operation.get("requestBody", {}).get("content", {})
    body = next(iter(content.values())).get("example") if content else None
    if body is not None:
        headers["Content-Type"] = next(iter(content))
    lines += [f"  -H '{name}: {value}'" for name, value in headers.items()]
    if body is not None:
        text = json.dumps(body, indent=2, ensure_ascii=False).replace("'", r"'\''")
        lines.append(f"  -d '{text}'")
    return " \\\n".join(lines)


def _response(status: str, response: Mapping[str, Any]) -> tuple[str, ...]:
    bodies = [
        part
        for kind, content in response.get("content", {}).items()
        for part in (tag("code", kind), " ", schema_text(content["schema"]))
    ]
    return _status(status), joined(bodies), joined(with_code(response["description"]))


def _status(status: str) -> str:
    return f"{status} {HTTPStatus(int(status)).phrase}"


def _examples(responses: Mapping[str, Mapping[str, Any]]) -> Iterator[Html]:
    """Every example of a success, and the first of an error: one error looks like the next."""
    failed = False
    for status, response in responses.items():
        for content in response.get("content", {}).values():
            if "example" not in content or failed:
                continue
            failed = int(status) >= HTTPStatus.BAD_REQUEST
            text = json.dumps(content["example"], indent=2, ensure_ascii=False)
            yield tag("details", tag("summary", f"Example of {status}"), tag("pre", text))


def _type(name: str, schema: Mapping[str, Any]) -> Iterator[Html]:
    yield tag("h3", name, id=f"type-{name}")
    if "description" in schema:
        yield tag("p", *with_code(schema["description"]))
    if "oneOf" in schema and "properties" not in schema:
        yield tag("p", "One of: ", choice_text(schema["oneOf"]))
    required = schema.get("required", ())
    rows = [
        (
            tag("code", member),
            "yes" if member in required else "",
            schema_text(described),
            joined(with_code(described.get("description", ""))),
        )
        for member, described in schema.get("properties", {}).items()
    ]
    if rows:
        yield table(("member", "required", "type", ""), rows)

"""
The OpenAPI document as a page: HTML made here, with its style in it, and nothing to load or to run.

Knows the document and no code. Every text of it passes through `html.escape`, because only `_tag` makes tags.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

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
_CODE = re.compile(r"`([^`]+)`")
_ADDRESS = "https://APP.azurewebsites.net"
_VOID = {"meta"}
_FAILED = 400


class _Html(str):
    """Markup, as against text."""

    __slots__ = ()


def write_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document of ours."""
    told = document["info"]
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    prefix = document["servers"][0]["url"]
    schemas = document["components"]["schemas"]
    head = _tag(
        "head",
        _tag("meta", charset="utf-8"),
        _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _tag("title", told["title"]),
        _tag("style", _Html(STYLE)),
    )
    body = _tag(
        "body",
        _tag("h1", told["title"]),
        *(_tag("p", *_words(part)) for part in told["description"].split("\n\n")),
        _tag("p", "The same for machines: ", _tag("a", "OpenAPI 3.1", href=f"{prefix}/openapi.json"), "."),
        _tag("nav", _tag("ul", *(_entry(method, prefix + path, one) for method, path, one in operations))),
        *(part for method, path, one in operations for part in _operation(method, prefix + path, one)),
        _tag("h2", "Types", id="types"),
        *(part for name, schema in schemas.items() for part in _type(name, schema)),
    )
    return "<!doctype html>" + _tag("html", head, body, lang="en") + "\n"


def policy() -> str:
    """The page's Content-Security-Policy: nothing but its own style, by its hash."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _entry(method: str, path: str, operation: Mapping[str, Any]) -> _Html:
    link = _tag("a", _tag("code", path), href=f"#{operation['operationId']}")
    return _tag("li", _tag("span", method.upper(), class_="method"), link, f" {operation['summary']}")


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[_Html]:
    yield _tag("h2", operation["summary"], id=operation["operationId"])
    yield _tag("p", _tag("span", method.upper(), class_="method"), _tag("code", path))
    yield _tag("p", *_words(operation["description"]))
    yield _tag("p", *_words(_who_may(operation["security"])), class_="quiet")
    if operation["parameters"]:
        yield _tag("h3", "Parameters")
        rows = [
            (_tag("code", one["name"]), one["in"], _schema(one["schema"]), _joined(_words(one["description"])))
            for one in operation["parameters"]
        ]
        yield _table(("name", "in", "what it takes", ""), rows)
    yield _tag("h3", "Request")
    if "requestBody" in operation:
        for kind, content in operation["requestBody"]["content"].items():
            yield _tag("p", _tag("code", kind), ": ", _schema(content["schema"]))
    yield _tag("pre", _request(method, path, operation))
    yield _tag("h3", "Answers")
    yield _table(
        ("status", "body", ""),
        [
            (_status(status), _body(answer), _joined(_words(answer["description"])))
            for status, answer in operation["responses"].items()
        ],
    )
    failed = False
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values():
            if "example" not in content or failed:
                continue
            failed = int(status) >= _FAILED  # one error is like the next
            text = json.dumps(content["example"], indent=2, ensure_ascii=False)
            yield _tag("details", _tag("summary", f"Example of {status}"), _tag("pre", text))


def _who_may(security: list[Mapping[str, list[str]]]) -> str:
    if not security:
        return "Needs no key."
    roles = ", ".join(f"`{role}`" for one in security for role in one.get("entra", ()))
    return f"Needs a function key, or a token with the role {roles}."


def _request(method: str, path: str, operation: Mapping[str, Any]) -> str:
    example = operation.get("x-example", {})
    for name, value in example.get("path", {}).items():
        path = path.replace(f"{{{name}}}", value)
    query = f"?{example['query']}" if example.get("query") else ""
    lines = [f"curl -X {method.upper()} '{_ADDRESS}{path}{query}'"]
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


def _status(status: str) -> str:
    return f"{status} {HTTPStatus(int(status)).phrase}"


def _body(answer: Mapping[str, Any]) -> _Html:
    kinds = [
        (_tag("code", kind), " ", _schema(content["schema"])) for kind, content in answer.get("content", {}).items()
    ]
    return _joined(part for kind in kinds for part in kind)


def _type(name: str, schema: Mapping[str, Any]) -> Iterator[_Html]:
    yield _tag("h3", name, id=f"type-{name}")
    if "description" in schema:
        yield _tag("p", *_words(schema["description"]))
    if "oneOf" in schema and "properties" not in schema:
        yield _tag("p", "One of: ", _either(schema["oneOf"]))
    required = schema.get("required", ())
    rows = [
        (
            _tag("code", member),
            "yes" if member in required else "",
            _schema(told),
            _joined(_words(told.get("description", ""))),
        )
        for member, told in schema.get("properties", {}).items()
    ]
    if rows:
        yield _table(("member", "needed", "what it takes", ""), rows)


def _schema(schema: Mapping[str, Any]) -> _Html:
    """A schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _joined([_tag("a", name, href=f"#type-{name}"), *_default(schema)])
    either = [one for one in schema.get("anyOf", schema.get("oneOf", ())) if one.get("type") != "null"]
    if either and "properties" not in schema:
        return _joined([_either(either), *_default(schema)])
    kind = schema.get("type", "anything")
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        told = _comma(_tag("code", str(one)) for one in values if one is not None)
    elif kind == "array" and "items" in schema:
        told = _joined(["list of ", _schema(schema["items"])])
    elif kind == "object" and schema.get("additionalProperties"):
        told = _joined(["object of ", _schema(schema["additionalProperties"])])
    else:
        told = _joined([kind if isinstance(kind, str) else " or ".join(one for one in kind if one != "null")])
    return _joined([told, *_limits(schema), *_default(schema)])


def _either(schemas: list[Mapping[str, Any]]) -> _Html:
    return _joined([part for one in schemas for part in (" or ", _schema(one))][1:])


_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "up to {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
    "maxLength": "up to {} characters",
}


def _limits(schema: Mapping[str, Any]) -> Iterator[str | _Html]:
    for name, words in _LIMITS.items():
        if name in schema:
            yield f", {words.format(schema[name])}"
    if "pattern" in schema and schema["pattern"] != r"\S":
        yield _joined([", ", _tag("code", schema["pattern"])])


def _default(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("default") not in (None, {}) and not isinstance(schema["default"], dict):
        yield f", default {json.dumps(schema['default'])}"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> _Html:
    head = _tag("tr", *(_tag("th", name) for name in names))
    return _tag("table", head, *(_tag("tr", *(_tag("td", cell) for cell in row)) for row in rows))


def _words(text: str) -> Iterator[str]:
    """A text whose `…` are code."""
    for number, part in enumerate(_CODE.split(text)):
        yield _tag("code", part) if number % 2 else part


def _comma(parts: Iterator[str]) -> _Html:
    return _joined([piece for part in parts for piece in (", ", part)][1:])


def _joined(parts: Any) -> _Html:
    return _Html("".join(part if isinstance(part, _Html) else html.escape(part) for part in parts))


def _tag(name: str, /, *inner: str, **attributes: str) -> _Html:
    """One element; what is no markup of ours is escaped."""
    told = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return _Html(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{_joined(inner)}</{name}>")

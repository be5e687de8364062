"""
Reads what a refusal says, in whichever shape an endpoint or a gateway puts it. Pure.

| shape | from |
| --- | --- |
| `{"error": {code, message, type, param, innererror}}` | OpenAI, Azure OpenAI, Anthropic |
| `{status, code, message, detail: {loc}}`, `{statusCode, message}` | Foundry's `/models`, API Management |
| `[{"error": {code, message, status}}]` | Google's gateways |
| `{"detail": [{loc, msg}]}`, `{"detail": "…"}` | FastAPI (vLLM, LiteLLM), problem+json |
| `{"error": "…"}`, `{"errors": [{message}]}`, plain text | other gateways |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.contract.decoding import UNREADABLE, json_size, json_value

_MESSAGES = ("message", "Message", "msg", "detail", "error_description", "error", "errors", "title")
"""Members that hold the sentence, in the order in which they are looked for."""
_CODES = ("code", "type", "status")
_DETAIL = ("code", "type", "param")
_MARKUP = ("<", "{", "[")
"""How a text begins that is a page, or JSON that was cut."""
_QUOTE_LIMIT = 500
"""Characters of a provider's text that a message quotes."""
_MAX_MESSAGE = 4 * _QUOTE_LIMIT
"""Characters of it that are looked at."""
_MAX_VERDICTS = 16 * 1024
"""Bytes of JSON. Real ones have a few hundred; an error is passed on, logged and encoded in many ways."""
_MAX_ITEMS = 5
"""Problems of one refusal that are quoted."""
_MAX_DEPTH = 3
# Providers repeat a part of the key: `sk-proj-****abcd`. The whole key is redacted before.
_KEY_FRAGMENT = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_*-]+|[A-Za-z0-9_-]*\*{3,}[A-Za-z0-9_*-]*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal says."""

    message: str = ""
    """The endpoint's own sentence; empty if there is none."""
    codes: frozenset[str] = frozenset()
    """Its codes and types, in lower case."""
    detail: dict[str, Any] = field(default_factory=dict)
    """See `UpstreamFacts.detail`."""

    @property
    def quote(self) -> str:
        """How one of our sentences ends: with the endpoint's, if there is one."""
        if not self.message.strip():
            return "."
        return f": {quotable(self.message)}"


def read_refusal(body: bytes) -> Refusal:
    """Return what a body says that comes with a status other than 2xx."""
    try:
        value = json_value(body)
    except UNREADABLE:
        text = body.decode(errors="replace").strip().removeprefix("\ufeff")
        readable = any(map(str.isalpha, text)) and not text.startswith(_MARKUP)
        return Refusal(text[:_MAX_MESSAGE]) if readable else Refusal()
    return refusal_of(value)


def refusal_of(value: Any) -> Refusal:
    """Return what the JSON value of a refusal says."""
    if isinstance(value, str):
        return Refusal(value[:_MAX_MESSAGE])
    error = _innermost(value)
    inner = _object(error.get("innererror") or error.get("inner_error"))
    details = _object(error.get("details"))  # Anthropic's
    values = (*(error.get(name) for name in _CODES), inner.get("code"), details.get("error_code"))
    codes = frozenset(str(value).lower() for value in values if value and isinstance(value, str | int))
    return Refusal(_message(error)[:_MAX_MESSAGE], codes, _detail(error, inner))


def quotable(text: str) -> str:
    """Return a provider's text as `shorten` does, without the part of a key that it may repeat."""
    return shorten(_KEY_FRAGMENT.sub("***", text))


def shorten(text: str) -> str:
    """Return a provider's or a model's text on one line and cut, so that an error message can quote it."""
    line = " ".join(text.split())
    return line[:_QUOTE_LIMIT] + ("…" if len(line) > _QUOTE_LIMIT else "")


def _innermost(value: Any) -> dict[str, Any]:
    """Return the object that has the message and the codes."""
    current = _first_object(value)
    for _ in range(_MAX_DEPTH):
        within = next((_first_object(current[name]) for name in ("error", "errors") if current.get(name)), {})
        if not within:
            break
        current = within
    return current


def _first_object(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return next((item for item in value if isinstance(item, dict)), {})
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _message(error: Mapping[str, Any]) -> str:
    problems = [problem for problem in error["detail"] if isinstance(problem, dict)] if _has_list(error) else []
    if problems:
        return "; ".join(_problem(problem) for problem in problems[:_MAX_ITEMS])
    return _sentence(error)


def _sentence(error: Mapping[str, Any]) -> str:
    texts = (_first_text(error.get(name)) for name in _MESSAGES)
    return next((text for text in texts if text.strip()), "")


def _has_list(error: Mapping[str, Any]) -> bool:
    return isinstance(error.get("detail"), list) and not isinstance(error.get("message"), str)


def _problem(problem: Mapping[str, Any]) -> str:
    location, message = ".".join(_path(problem.get("loc"))), _sentence(problem)
    return f"{location}: {message}" if location else message


def _first_text(value: Any) -> str:
    """Return a text, or the first one of a list or object that stands where a text is expected."""
    if isinstance(value, list):
        value = next(iter(value), "")
    if isinstance(value, dict):
        value = next((value[name] for name in _MESSAGES if isinstance(value.get(name), str)), "")
    return value if isinstance(value, str) else ""


def _detail(error: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    detail: dict[str, Any] = {name: error[name][:_QUOTE_LIMIT] for name in _DETAIL if isinstance(error.get(name), str)}
    for path, kind in _locations(error.get("detail")):
        detail.setdefault("param", path[:_QUOTE_LIMIT])
        if isinstance(kind, str):
            detail.setdefault("code", kind[:_QUOTE_LIMIT])
        break
    for source in (inner, error):
        verdicts = source.get("content_filter_result") or source.get("content_filter_results")  # Azure's images API
        verdicts = verdicts or filter_verdicts(source.get("content_filters"))  # and its Responses API
        if isinstance(verdicts, dict):
            return detail | filter_detail(verdicts)
    return detail


def filter_detail(verdicts: Any) -> dict[str, Any]:
    """Return a content filter's verdicts as an error's detail; nothing if they are no object, or a very long one."""
    if not isinstance(verdicts, dict) or not verdicts or json_size(verdicts) > _MAX_VERDICTS:
        return {}
    return {"content_filter_result": verdicts}


def filter_verdicts(filters: Any, source: str | None = None) -> dict[str, Any] | None:
    """
    Return what a list of content filters says, as Azure's Responses API has it: of one that has blocked something, if
    any has. `source`: `prompt` or `completion`; None: either.
    """
    objects = [each for each in filters if isinstance(each, dict)] if isinstance(filters, list) else []
    of_source = [each for each in objects if source is None or each.get("source_type") == source]
    of_source.sort(key=lambda each: not each.get("blocked"))
    results = (each.get("content_filter_results") for each in of_source)
    return next((result for result in results if isinstance(result, dict) and result), None)


def _locations(detail: Any) -> Iterator[tuple[str, Any]]:
    """The members of the request's body that a refusal names, each as its path, and what is wrong with it."""
    for problem in detail if isinstance(detail, list) else [detail]:
        location = problem.get("loc") if isinstance(problem, dict) else None
        if isinstance(location, list) and location[:1] == ["body"] and location[1:]:
            yield ".".join(_path(location)), problem.get("type")


def _path(location: Any) -> list[str]:
    parts = location if isinstance(location, list) else []
    return [str(part) for part in (parts[1:] if parts[:1] == ["body"] else parts)]

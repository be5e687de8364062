"""
One call as a span and as metrics, named after the semantic conventions for generative AI
(opentelemetry.io/docs/specs/semconv/gen-ai). Loaded only if telemetry is on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from opentelemetry.trace import StatusCode, get_current_span

from shared import event_names as names
from shared.billing.provider_usage import read_usage
from shared.contract.decoding import UNREADABLE
from shared.telemetry.base import CallObserver, RequestInfo
from shared.telemetry.metrics import OTHER, Attributes, Metrics

_OPERATIONS = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embeddings": "embeddings",
    "images/generations": "generate_content",
    "images/edits": "generate_content",
}
"""The operation by the end of the URL's path."""
_PROVIDERS = {
    "azure_openai": "azure.ai.openai",
    "foundry": "azure.ai.inference",
    "openai": "openai",
    "anthropic": "anthropic",
}
_SYSTEMS = _PROVIDERS | {"azure_openai": "az.ai.openai", "foundry": "az.ai.inference"}
"""Values of the older attribute, by which Application Insights recognizes a call of a model."""
_PORTS = {"https": 443, "http": 80}
_MAX_REASONS = 16
# What an endpoint sends is taken for a name only if no sentence of an answer can look like it.
_is_model = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}").fullmatch
_is_id = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
_is_word = re.compile(r"[A-Za-z_]{1,40}").fullmatch


class _Choice(Struct):
    finish_reason: str | None = None
    message: Any = None
    text: str | None = None


class _Response(Struct):
    """The members of a response that telemetry reports. Others are skipped, undecoded."""

    id: str | None = None
    model: str | None = None
    usage: Any = None
    choices: list[_Choice] = []
    content: Any = None
    """Claude's answer: it has one, and no choices."""
    stop_reason: str | None = None


class CallSpan(CallObserver):
    """Observes a call whose span is the current one. `content`: with prompts and answers."""

    def __init__(self, metrics: Metrics, request: RequestInfo, *, content: bool) -> None:
        self._metrics, self._request, self._content = metrics, request, content
        address = urlsplit(request.url)
        self.operation = _operation(address.path)
        self.model = _model(request.model)
        self._attributes: Attributes = {
            names.ATTR_CUSTOMER: request.customer,
            "gen_ai.operation.name": self.operation,
            "gen_ai.provider.name": _PROVIDERS[request.provider],
            "server.address": address.hostname or "",
            "server.port": address.port or _PORTS.get(address.scheme, 0),
            **({"gen_ai.request.model": self.model} if self.model else {}),
        }
        self.tries = 0
        self._started_at = time.monotonic()
        self._last_try_ended_at = 0.0
        self._waited_s = 0.0

    def first_attributes(self) -> Attributes:
        """Return the span's attributes at its start: those that metrics have, too, and the connection."""
        more = {"gen_ai.system": _SYSTEMS[self._request.provider], names.ATTR_CONNECTION: self._request.connection}
        return self._attributes | more

    @contextmanager
    def observe_try(self) -> Iterator[None]:
        """See CallObserver."""
        if self.tries:
            self._waited_s += time.monotonic() - self._last_try_ended_at
        self.tries += 1
        try:
            yield
        finally:
            self._last_try_ended_at = time.monotonic()

    def response_received(self, body: bytes) -> None:
        """See CallObserver."""
        try:
            response = msgspec.json.decode(body, type=_Response)
        except UNREADABLE:
            return
        attributes: Attributes = {"gen_ai.response.model": _model(response.model)} if response.model else {}
        self._attributes |= attributes
        if response.id and _is_id(response.id):
            attributes["gen_ai.response.id"] = response.id
        ends = [response.stop_reason, *(choice.finish_reason for choice in response.choices[:_MAX_REASONS])]
        reasons = list(filter(None, ends))
        if reasons:
            attributes["gen_ai.response.finish_reasons"] = [each if _is_word(each) else OTHER for each in reasons]
        if (usage := read_usage(response.usage)) is not None:
            for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is None:
                    continue
                attributes[f"gen_ai.usage.{kind}_tokens"] = tokens
                self._metrics.tokens.record(tokens, self._metric_attributes() | {"gen_ai.token.type": kind})
        if self._content:
            attributes |= _content(self._request.body, response)
        get_current_span().set_attributes(attributes)

    def failed(self, code: str) -> None:
        """Report that the call failed."""
        self._attributes["error.type"] = code
        get_current_span().set_attributes({"error.type": code, names.ATTR_CODE: code})
        get_current_span().set_status(StatusCode.ERROR)

    def end(self) -> None:
        """Report that the call is over; no further try follows."""
        attributes = self._metric_attributes()
        self._metrics.call_duration.record(time.monotonic() - self._started_at, attributes)
        if self.tries > 1:
            get_current_span().set_attribute(names.ATTR_TRIES, self.tries)
            waited_in = {names.ATTR_CUSTOMER: attributes[names.ATTR_CUSTOMER], names.ATTR_WAITED_IN: "call"}
            self._metrics.wait_time.record(self._waited_s, waited_in)

    def _metric_attributes(self) -> Attributes:
        """Return the attributes with a bounded variety of what customers and endpoints choose."""
        customer, labels = self._request.customer, self._metrics.labels
        attributes = self._attributes | {names.ATTR_CUSTOMER: labels.customer(customer)}
        for name in ("gen_ai.request.model", "gen_ai.response.model"):
            if name in attributes:
                attributes[name] = labels.text(customer, name, attributes[name])
        server = f"{attributes['server.address']}:{attributes['server.port']}"
        if labels.text(customer, "server", server) == OTHER:
            attributes |= {"server.address": OTHER, "server.port": 0}
        return attributes


def _model(name: str) -> str:
    """Return the name of a model; OTHER if it does not look like one: a caller or an endpoint can send anything."""
    return name if not name or _is_model(name) else OTHER


def _operation(path: str) -> str:
    parent, _, name = path.rstrip("/").rpartition("/")
    return _OPERATIONS.get(f"{parent.rpartition('/')[2]}/{name}") or _OPERATIONS.get(name, "raw")


def _content(body: bytes, response: _Response) -> Attributes:
    """The texts of prompts and answers, in the form of the semantic conventions."""
    try:
        request = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    request = request if isinstance(request, dict) else {}
    messages = request.get("messages")
    if not isinstance(messages, list):
        messages = [{"role": "user", "content": request.get("prompt", request.get("input"))}]
    if request.get("system"):
        messages = [{"role": "system", "content": request["system"]}, *messages]
    prompts = [_message(message) for message in messages if isinstance(message, dict)]
    answers = [
        _message(choice.message if isinstance(choice.message, dict) else {"content": choice.text})
        | {"role": "assistant", "finish_reason": choice.finish_reason}
        for choice in response.choices
    ]
    if isinstance(response.content, list):
        answer = {"role": "assistant", "content": response.content}
        answers = [_message(answer) | {"finish_reason": response.stop_reason}]
    content = {"gen_ai.input.messages": prompts, "gen_ai.output.messages": answers}
    return {name: msgspec.json.encode(value).decode() for name, value in content.items() if value}


def _message(message: Any) -> dict[str, Any]:
    content = message.get("content")
    pieces = content if isinstance(content, list) else [content]
    texts = [piece.get("text") if isinstance(piece, dict) else piece for piece in pieces]
    parts = [{"type": "text", "content": text} for text in texts if isinstance(text, str)]
    return {"role": str(message.get("role")), "parts": parts}

"""
Tests a connection with one cheap call, and reports what a job would end with.

If a model is known, it is called for one token, which checks the key, the deployment and the quota. Otherwise the
endpoint's list of models is requested, which costs nothing. Nothing is retried.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from shared.billing.outbox import Outbox
from shared.billing.usage import UNANSWERED, Call, call_of_answer
from shared.billing.usage_records import RecordLabels, call_suffix, marker_row, placeholder_suffix, usage_rows
from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.endpoint_shapes import CLAUDE
from shared.contract.decoding import json_object
from shared.contract.documents import ConnectionTest
from shared.errors import (
    ConnectionFault,
    ContentFiltered,
    JobError,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
)
from shared.storage.base import Row
from shared.upstream.capabilities import Capabilities, read_adaptation
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response, UpstreamRequest

PROBE_TIMEOUT_S = 15.0
"""Seconds that a test may take."""
CHAT = "chat/completions"
_MESSAGES = "messages"
_MODELS = "models"
_INVALID_REQUEST = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class ConnectionProbe:
    """Tests connections."""

    client: UpstreamClient
    capabilities: Capabilities
    outbox: Outbox
    """Of the table that the usage records are written to: a test's are exported like a job's."""

    async def run(self, connection: Connection, requested_model: str | None) -> ConnectionTest:
        """
        Test the connection with the requested model, or with its own.

        Raises InvalidJob if that model can't be requested, StorageUnavailable if a call that may be billed can't be
        recorded.
        """
        model = connection.model_for(requested_model, needed=False) or connection.default_model or ""
        if not model and not connection.endpoint.has_model_list:
            connection.model_for(requested_model)
        began = time.monotonic()
        try:
            if model:
                await self._chat(connection, model, began + PROBE_TIMEOUT_S)
                result = ConnectionTest(ok=True, message=f"The endpoint accepts the key and answers as {model}.")
            else:
                await self._list_models(connection, began + PROBE_TIMEOUT_S)
                result = ConnectionTest(
                    ok=True, message="The endpoint accepts the key. No model was called, because none was named."
                )
        except (UpstreamError, ConnectionFault) as error:
            result = result_for_error(error, model)
        return msgspec.structs.replace(
            result,
            message=connection.without_key(result.message),
            provider=connection.endpoint.provider,
            model=connection.without_key(model) or None,
            latency_ms=round((time.monotonic() - began) * 1000),
        )

    async def _list_models(self, connection: Connection, deadline: float) -> None:
        url = connection.endpoint.url(_MODELS, "")
        response = await self._send(connection, UpstreamRequest("GET", url, headers=connection.headers()), deadline)
        if not isinstance(_body(response).get("data"), list):
            raise _unexpected(response, "a list of models")

    async def _chat(self, connection: Connection, model: str, deadline: float) -> None:
        operation, answer = (_MESSAGES, "content") if connection.endpoint.provider == CLAUDE else (CHAT, "choices")
        key = (*connection.identity, model, operation)
        body: dict[str, Any] = {
            "model": connection.endpoint.model_in_body(model),
            "messages": [{"role": "user", "content": "ping"}],
            "max_tokens": 1,
        }
        for adaptation in self.capabilities.adaptations(*key):
            body = adaptation.apply(body) if adaptation.parameter in body else body
        record = _Record(self.outbox, connection, model)
        await record.add_unanswered()
        try:
            try:
                response = await self._send(connection, _request(connection, model, operation, body), deadline)
            except RequestRejected as error:
                learned = read_adaptation(error, body, droppable=frozenset())
                if learned is None:
                    raise
                self.capabilities.learn(learned, *key)
                request = _request(connection, model, operation, learned.apply(body))
                response = await self._send(connection, request, deadline)
        except (UpstreamError, ConnectionFault) as error:
            if not (isinstance(error, UpstreamError) and error.facts.unanswered):
                await record.add_refused()
            raise
        response_body = _body(response)
        await record.add_answered(call_of_answer(response_body, response.request_id))
        if not isinstance(response_body.get(answer), list):
            raise _unexpected(response, "a chat completion")

    async def _send(self, connection: Connection, request: UpstreamRequest, deadline: float) -> Response:
        timeout_s = max(deadline - time.monotonic(), 0.1)
        return await self.client.send(request, connection.access, customer=connection.customer, timeout_s=timeout_s)


def result_for_error(error: JobError, model: str = "") -> ConnectionTest:
    """Return the result of a test that ended with this error."""
    facts = error.facts if isinstance(error, UpstreamError) else UpstreamFacts()
    if isinstance(error, ContentFiltered) or (model and _is_about_model(error, facts)):
        message = f"The endpoint accepts the key and has the model {model}, but refused the test chat. {error}"
        return ConnectionTest(ok=True, message=message, status=facts.status, request_id=facts.request_id)
    return ConnectionTest(
        ok=False, code=error.code, message=str(error), status=facts.status, request_id=facts.request_id
    )


def _is_about_model(error: JobError, facts: UpstreamFacts) -> bool:
    # A model that does not chat is refused for that reason, by OpenAI with 404. The key was accepted before.
    about_model = facts.status in _INVALID_REQUEST or facts.detail.get("param") == "model"
    return isinstance(error, RequestRejected) and about_model


@dataclass(slots=True)
class _Record:
    """The usage record of a test. It is written before the call, so that no billed call lacks one."""

    outbox: Outbox
    connection: Connection
    model: str
    job_id: str = field(default_factory=lambda: f"connection-test-{uuid.uuid4().hex}")
    started_at: datetime = field(default_factory=now)

    async def add_unanswered(self) -> None:
        """Record the call as unanswered."""
        await self._insert(self._row(UNANSWERED, placeholder_suffix(1)))

    async def add_answered(self, call: Call) -> None:
        """Record the response, and the marker that supersedes the first record (see billing.usage_records)."""
        await self._insert(self._row(call, call_suffix(1, 1)), self._marker())

    async def add_refused(self) -> None:
        """Record with the marker alone that the call was refused, and so is not billed."""
        await self._insert(self._marker())

    async def _insert(self, *rows: Row) -> None:
        first, *beside = await self.outbox.with_outbox(rows)
        await self.outbox.table.insert(first, beside=beside)

    def _labels(self) -> RecordLabels:
        connection = self.connection
        return RecordLabels(
            connection.customer,
            self.job_id,
            "chat",
            self.model,
            connection.label(),
            connection.deployment_scope,
        )

    def _marker(self) -> Row:
        return marker_row(self._labels(), 1, now(), since=self.started_at)

    def _row(self, call: Call, suffix: str) -> Row:
        (row,) = usage_rows(self._labels(), [call], now(), suffix=suffix)
        return row


def _request(connection: Connection, model: str, operation: str, body: dict[str, Any]) -> UpstreamRequest:
    return UpstreamRequest(
        "POST",
        connection.endpoint.url(operation, model),
        msgspec.json.encode(body),
        {"content-type": "application/json", **connection.headers()},
    )


def _body(response: Response) -> dict[str, Any]:
    # One token, or a list of models, is not so large; reading it could stop the worker for a moment.
    return {} if response.is_large else json_object(response.body)


def _unexpected(response: Response, expected: str) -> ProviderUnavailable:
    facts = UpstreamFacts(response.status, response.request_id)
    return ProviderUnavailable(
        f"The endpoint answered {response.status}, but not with {expected}: check the path and the `provider`.", facts
    )

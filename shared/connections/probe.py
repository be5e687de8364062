"""
Trying a connection: one cheap call, and a verdict that says what would have to be mended.

Where a model is known it is asked for one token, which finds out about key, deployment and quota; else the
endpoint is asked for its list of models, which costs nothing. Nothing is tried again.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import msgspec

from shared.billing.usage import Call, call_of_answer, usage_rows
from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.resolver import AddressNotAllowed
from shared.contract.decoding import json_object
from shared.contract.documents import TrialDocument, Verdict
from shared.contract.job import Options
from shared.errors import (
    AccountBlocked,
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ContentFiltered,
    CredentialRejected,
    JobError,
    ModelNotFound,
    NetworkRefused,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
)
from shared.storage.base import Row, RowChanged, Table
from shared.upstream.capabilities import Capabilities, read_adaptation
from shared.upstream.client import Transport
from shared.upstream.messages import EntraAccess, Reply, UpstreamRequest

TRIAL_S = 15.0
"""Seconds that a trial may take."""
CHAT = "chat/completions"
_MODELS = "models"


class _Strange(ProviderUnavailable):
    """The endpoint answered with something that no AI endpoint says."""


_REFUSALS: Mapping[type[JobError], Verdict] = {
    AddressNotAllowed: "address_not_allowed",
    ConnectionDisabled: "disabled",
    ConnectionExpired: "expired",
    ConnectionFault: "not_valid",
    NetworkRefused: "not_reachable",
    CredentialRejected: "key_refused",
    ModelNotFound: "deployment_missing",
    QuotaExhausted: "quota_gone",
    RateLimited: "rate_limited",
    AccountBlocked: "blocked",
    ContentFiltered: "fine",
    RequestRejected: "not_understood",
    _Strange: "not_understood",
}
_UNFIT = frozenset({400, 422})


@dataclass(frozen=True, slots=True)
class Trials:
    """Tries connections."""

    transport: Transport
    capabilities: Capabilities
    table: Table

    async def run(self, connection: Connection, asked: str | None) -> TrialDocument:
        """
        What comes of trying the connection with the model that is `asked` for, or its own.

        Raises InvalidJob where that model can't be asked for, StorageUnavailable where a call that costs
        something can't be put on record.
        """
        model = connection.model_for(asked, needed=False) or connection.default_model or ""
        if not model and connection.endpoint.style == "models":  # it has no list of models
            connection.model_for(asked)
        began = time.monotonic()
        try:
            if model:
                await self._chat(connection, model, began + TRIAL_S)
            else:
                await self._list(connection, began + TRIAL_S)
        except (UpstreamError, ConnectionFault) as error:
            verdict = refused(error, model)
        else:
            what = f"takes the key and answers as {model}" if model else "takes the key. No model was tried: name one"
            verdict = TrialDocument(ok=True, verdict="fine", message=f"The endpoint {what}.")
        took = round((time.monotonic() - began) * 1000)
        return msgspec.structs.replace(
            verdict,
            message=connection.without_key(verdict.message),
            provider=connection.endpoint.provider,
            model=connection.without_key(model) or None,
            latency_ms=took,
        )

    async def _list(self, connection: Connection, until: float) -> None:
        url = connection.endpoint.url(_MODELS, "")
        reply = await self._send(connection, UpstreamRequest("GET", url, headers=connection.headers()), until)
        if not isinstance(json_object(reply.body).get("data"), list):
            raise _strange(reply, "list of models")

    async def _chat(self, connection: Connection, model: str, until: float) -> None:
        place = (connection.endpoint.base, model, CHAT)
        body: dict[str, Any] = {
            "model": connection.endpoint.model_in_body(model),
            "messages": [{"role": "user", "content": "ping"}],
            "max_tokens": 1,
        }
        for known in self.capabilities.adaptations(*place):
            body = known.apply(body) if known.parameter in body else body
        request = _asking(connection, model, body)
        record = _Record(self.table, connection, model)
        await record.open()
        try:
            try:
                reply = await self._send(connection, request, until)
            except RequestRejected as error:
                learned = read_adaptation(error, body, droppable=frozenset())
                if learned is None:
                    raise
                self.capabilities.learn(learned, *place)
                reply = await self._send(connection, _asking(connection, model, learned.apply(body)), until)
        except (UpstreamError, ConnectionFault) as error:
            if not (isinstance(error, UpstreamError) and error.facts.unanswered):
                await record.withdraw()
            raise
        said = json_object(reply.body)
        await record.close(call_of_answer(said, reply.request_id))
        if not isinstance(said.get("choices"), list):
            raise _strange(reply, "chat completion")

    async def _send(self, connection: Connection, request: UpstreamRequest, until: float) -> Reply:
        options = Options(max_retries=0, timeout_s=max(until - time.monotonic(), 0.1))
        try:
            # The end that is given here is no run's: a call that takes too long is a timeout, and not put back.
            return await self.transport.send(request, connection.access, options, until=until + TRIAL_S)
        except ConnectionInvalid as exc:
            if isinstance(connection.access, EntraAccess) and connection.access.tenant_id:
                raise
            raise AddressNotAllowed(str(exc)) from None


def refused(error: JobError, model: str = "") -> TrialDocument:
    """The verdict on a connection that met this error."""
    facts = error.facts if isinstance(error, UpstreamError) else UpstreamFacts()
    verdict = next((verdict for kind, verdict in _REFUSALS.items() if isinstance(error, kind)), None)
    if verdict is None:
        verdict = "not_reachable" if facts.status is None else "failing"
    message = str(error)
    # A model that does not chat says so, with 404 at OpenAI: who can say that has let the key in.
    unfit = facts.status in _UNFIT or facts.detail.get("param") == "model"
    if verdict == "not_understood" and model and unfit:
        verdict = "fine"
    if verdict == "fine":
        message = f"The endpoint takes the key and knows {model}, which did not take this small chat. {message}"
    return TrialDocument(
        ok=verdict == "fine",
        verdict=verdict,
        message=message,
        code=None if verdict == "fine" else error.code,
        status=facts.status,
        request_id=facts.request_id,
    )


@dataclass(slots=True)
class _Record:
    """The usage record of a trial: there before the call is made, so that none that is paid for is missing."""

    table: Table
    connection: Connection
    model: str
    job_id: str = field(default_factory=lambda: f"connection-test-{uuid.uuid4().hex}")
    at: datetime = field(default_factory=now)
    etag: str = ""

    async def open(self) -> None:
        """Puts the call on record as one without an answer."""
        self.etag = await self.table.insert(self._row(Call(None, outcome="unanswered")))

    async def close(self, call: Call) -> None:
        """Writes what the answer said."""
        with contextlib.suppress(RowChanged):  # it was erased meanwhile, with all of the customer's rows
            await self.table.merge(self._row(call))

    async def withdraw(self) -> None:
        """Removes the record of a call that was refused, and so cost nothing."""
        await self.table.delete([self._row(Call(None))])

    def _row(self, call: Call) -> Row:
        connection = self.connection
        (row,) = usage_rows(connection.customer, self.job_id, "chat", self.model, connection.label(), [call], self.at)
        return replace(row, etag=self.etag)


def _asking(connection: Connection, model: str, body: dict[str, Any]) -> UpstreamRequest:
    return UpstreamRequest(
        "POST",
        connection.endpoint.url(CHAT, model),
        msgspec.json.encode(body),
        {"content-type": "application/json", **connection.headers()},
    )


def _strange(reply: Reply, what: str) -> _Strange:
    facts = UpstreamFacts(reply.status, reply.request_id)
    return _Strange(f"The endpoint answered {reply.status} with something that is no {what}.", facts)

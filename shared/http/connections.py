"""
Onboarding over HTTP: a customer's connections kept, shown, tried and removed. A key goes in and never comes out.

What is kept has been through the decoder and the checks that will read it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import msgspec

from shared.clock import now, rfc3339
from shared.connections.connection import Connection
from shared.connections.endpoint_url import encode_segment
from shared.connections.key_vault import KeyVaultCredentials, SecretFacts, VaultForbids
from shared.connections.probe import Trials, refused
from shared.connections.resolver import Connections, check_dates
from shared.connections.store import StoredCredential
from shared.contract.connection import decode_connection
from shared.contract.decoding import decode
from shared.contract.documents import (
    API_PREFIX,
    ConnectionDocument,
    ConnectionList,
    ConnectionSettings,
    TrialDocument,
    TrialRequest,
)
from shared.contract.names import NAME_RULE, is_name
from shared.contract.result import ErrorBody
from shared.errors import ConnectionDisabled, ConnectionFault, InvalidJob
from shared.event_names import CONNECTION_DELETED, CONNECTION_SAVED
from shared.http.auth import Caller
from shared.http.messages import (
    Request,
    Response,
    has_precondition,
    json_response,
    preconditions_hold,
    tagged,
)
from shared.http.problems import Problem, not_found
from shared.http.request_parsing import check_body
from shared.secret import Secret
from shared.upstream.messages import EntraAccess

VALUE_LIMIT = 25 * 1024
"""Bytes of a secret (learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates)."""

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class ConnectionsDoor:
    """The routes of connections. `secrets` is None where the app has no Key Vault."""

    connections: Connections
    secrets: KeyVaultCredentials | None
    trials: Trials

    async def put(self, request: Request, caller: Caller) -> Response:
        """`PUT …/connections/{name}`: keeps a new version; 201 where there was none, 412 against a precondition."""
        customer, name = _named_to_change(request, caller)
        value = _read_record(request)
        candidate = StoredCredential(value, "")
        self.connections.open(candidate, customer, name)
        vault = self._vault()
        try:
            before = await vault.look(customer, name)
            there = None if before is None else self._describe(customer, before[1], before[0])
            _check_preconditions(request, there)
            facts = await vault.put(customer, name, value)
        except ConnectionDisabled as exc:  # that somebody has switched it off holds for whoever calls here
            raise ConnectionDisabled(f"{exc} It has to be switched on in Key Vault first.") from None
        except VaultForbids as exc:
            raise _forbidden(exc) from None
        self.connections.forget(customer, name)
        log.info("%s customer=%s connection=%s version=%s", CONNECTION_SAVED, customer, name, facts.version)
        document = self._describe(customer, facts, candidate)
        if before is None:
            path = f"{API_PREFIX}/customers/{quote(customer)}/connections/{quote(name)}"
            return json_response(document, status=201, headers={"Location": path})
        return json_response(document)

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET …/connections/{name}`."""
        customer, name = _named_to_read(request, caller)
        document = await self._look(customer, name)
        if document is None:
            raise not_found("connection")
        return tagged(request, json_response(document))

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/connections`: names and dates. Reads no values."""
        customer = request.params["customer"]
        caller.check_reads(customer, "customer")
        if not is_name(customer):
            raise not_found("customer")
        try:
            documents = [
                _document(customer, facts) async for facts in self._vault().list(customer) if is_name(facts.connection)
            ]
        except VaultForbids as exc:
            raise _forbidden(exc) from None
        found = ConnectionList(connections=sorted(documents, key=lambda one: one.name))
        return tagged(request, json_response(found))

    async def delete(self, request: Request, caller: Caller) -> Response:
        """`DELETE …/connections/{name}`: 204, and it can be recovered for as long as the vault is set to; or 412."""
        customer, name = _named_to_change(request, caller)
        if has_precondition(request):
            there = await self._look(customer, name)
            if there is None:
                raise not_found("connection")
            _check_preconditions(request, there)
        try:
            removed = await self._vault().delete(customer, name)
        except VaultForbids as exc:
            raise _forbidden(exc) from None
        self.connections.forget(customer, name)
        if not removed:
            raise not_found("connection")
        log.info("%s customer=%s connection=%s", CONNECTION_DELETED, customer, name)
        return Response(204)

    async def test(self, request: Request, caller: Caller) -> Response:
        """`POST …/connections/{name}/test`: 200 with the verdict, whatever it is."""
        customer, name = _named_to_change(request, caller)
        asked = _read_trial(request)
        try:
            return json_response(await self._try(customer, name, asked.model))
        except InvalidJob as exc:  # the endpoint takes another model, or needs one
            raise Problem(400, "invalid_request", str(exc)) from None

    async def _try(self, customer: str, name: str, model: str | None) -> TrialDocument:
        try:
            found = await self._vault().get(customer, name)
            if found is None:
                raise not_found("connection")
            connection = self.connections.open(found, customer, name)
            check_dates(found, customer, name, now())
        except ConnectionFault as exc:
            return refused(exc)
        return await self.trials.run(connection, model)

    async def _look(self, customer: str, name: str) -> ConnectionDocument | None:
        try:
            found = await self._vault().look(customer, name)
        except ConnectionFault as exc:  # a vault shows nothing of a secret that is switched off
            return ConnectionDocument(customer=customer, name=name, enabled=False, error=_error(exc))
        return None if found is None else self._describe(customer, found[1], found[0])

    def _vault(self) -> KeyVaultCredentials:
        if self.secrets is None:
            raise Problem(503, "unavailable", "The app has no Key Vault: its setting KEY_VAULT_URL is not set.")
        return self.secrets

    def _describe(self, customer: str, facts: SecretFacts, found: StoredCredential) -> ConnectionDocument:
        settings, error = None, None
        try:
            settings = _settings(self.connections.open(found, customer, facts.connection))
            check_dates(found, customer, facts.connection, now())
        except ConnectionFault as exc:
            error = _error(exc)
        return _document(customer, facts, settings, error)


def _read_record(request: Request) -> Secret:
    """The connection of a request's body, checked as far as it can be by itself, as a secret's value."""
    if len(request.body) > VALUE_LIMIT:
        raise Problem(413, "too_large", f"The body is larger than {VALUE_LIMIT} bytes, which a secret holds at most.")
    check_body(request)
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise Problem(400, "invalid_request", "The body is not valid UTF-8.") from None
    if not text.lstrip().startswith("{"):  # as a secret's value, it would be a bare key
        raise Problem(400, "invalid_request", "The body must be a JSON object.")
    record = msgspec.structs.asdict(decode_connection(text))
    given = {name: value for name, value in record.items() if value is not None}
    return Secret(msgspec.json.encode(given).decode())


def _read_trial(request: Request) -> TrialRequest:
    if not request.body and "transfer-encoding" not in request.headers:
        return TrialRequest()
    check_body(request)
    try:
        return decode(request.body, TrialRequest, root="The body")
    except InvalidJob as exc:
        raise Problem(400, "invalid_request", str(exc)) from None


def _check_preconditions(request: Request, there: ConnectionDocument | None) -> None:
    # Key Vault has no writes under a condition, so one that comes in between is not seen.
    if not preconditions_hold(request, None if there is None else json_response(there)):
        raise Problem(412, "precondition_failed", "The connection is not as `If-Match` or `If-None-Match` wants it.")


def _named_to_change(request: Request, caller: Caller) -> tuple[str, str]:
    customer, name = request.params["customer"], request.params["name"]
    caller.check_writes(customer)
    if not is_name(customer) or not is_name(name):
        raise Problem(400, "invalid_request", f"Customers and connections are named with {NAME_RULE}.")
    return customer, name


def _named_to_read(request: Request, caller: Caller) -> tuple[str, str]:
    customer, name = request.params["customer"], request.params["name"]
    caller.check_reads(customer, "connection")
    if not is_name(customer) or not is_name(name):
        raise not_found("connection")
    return customer, name


def _document(
    customer: str,
    facts: SecretFacts,
    settings: ConnectionSettings | None = None,
    error: ErrorBody | None = None,
) -> ConnectionDocument:
    return ConnectionDocument(
        customer=customer,
        name=facts.connection,
        enabled=facts.enabled,
        version=facts.version or None,
        not_before=_moment(facts.not_before),
        expires_on=_moment(facts.expires_on),
        created_at=_moment(facts.created_at),
        updated_at=_moment(facts.updated_at),
        settings=settings,
        error=error,
    )


def _settings(connection: Connection) -> ConnectionSettings:
    endpoint, access = connection.endpoint, connection.access
    entra = isinstance(access, EntraAccess)
    address = endpoint.base
    if endpoint.deployment:
        address += f"/deployments/{encode_segment(endpoint.deployment)}"
    shown = ConnectionSettings(
        endpoint=address,
        provider=endpoint.provider,
        auth="entra" if entra else "api_key",
        scope=access.scope if isinstance(access, EntraAccess) else None,
        tenant_id=access.tenant_id if isinstance(access, EntraAccess) else None,
        api_version=endpoint.api_version if endpoint.version_given else None,
        organization=connection.organization,
        project=connection.project,
        default_model=connection.default_model,
        max_concurrency=connection.max_concurrency,
        monthly_budget=connection.monthly_budget,
    )
    given = msgspec.structs.asdict(shown).items()
    hidden = {name: connection.without_key(value) for name, value in given if isinstance(value, str)}
    return msgspec.structs.replace(shown, **hidden)


def _error(exc: ConnectionFault) -> ErrorBody:
    return ErrorBody(code=exc.code, message=str(exc))


def _forbidden(exc: VaultForbids) -> Problem:
    return Problem(503, "unavailable", str(exc))


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)

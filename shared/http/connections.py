"""
Onboarding over HTTP: store, read, test and delete a customer's connections. No response ever contains a key.

A connection is decoded and checked before it is stored, in the same way as when a job uses it.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from urllib.parse import quote

import msgspec

from shared.billing.audit import AuditTrail
from shared.clock import now
from shared.connections.connection import Connection
from shared.connections.entra_binding import kept_tags
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.probe import ConnectionProbe, result_for_error
from shared.connections.resolver import Connections, check_dates
from shared.connections.store import StoredCredential
from shared.contract.connection import decode_connection
from shared.contract.decoding import decode
from shared.contract.documents import (
    API_PREFIX,
    ConnectionDocument,
    ConnectionList,
    ConnectionTest,
    ConnectionTestRequest,
)
from shared.contract.names import NAME_RULE, is_name
from shared.errors import ConnectionDisabled, ConnectionFault, InvalidJob
from shared.event_names import CONNECTION_DELETED, CONNECTION_SAVED, NAMESPACE
from shared.http.auth import Caller
from shared.http.conditional import meets_preconditions, with_etag
from shared.http.connection_documents import describe_disabled, describe_listed, describe_stored, record_change
from shared.http.messages import Request, Response, json_response
from shared.http.problems import Problem, invalid_request, not_found
from shared.http.request_parsing import check_body, check_media_type, customer_to_read
from shared.secret import Secret

MAX_SECRET_BYTES = 25 * 1024
"""learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates"""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class ConnectionsResource:
    """The routes of connections. `vault` is None if the app has no Key Vault."""

    connections: Connections
    vault: KeyVaultCredentials | None
    probe: ConnectionProbe
    audit: AuditTrail

    async def put(self, request: Request, caller: Caller) -> Response:
        """`PUT …/connections/{name}`: store a new version; 201 if the connection is new, 412 for a precondition."""
        customer, name = _names_to_write(request, caller)
        value = _read_record(request)
        connection = self.connections.open_unbound(StoredCredential(value, ""), customer, name)
        vault = self._vault()
        await self.audit.check(customer)
        try:
            stored = await vault.get_with_info(customer, name)
            current = None if stored is None else describe_stored(self.connections, customer, stored[1], stored[0])
            _check_preconditions(request, current)
            if caller.customer is not None:
                _check_budget(current, connection)
            tags = self._kept_tags(stored[0], connection) if stored else {}
            facts = await vault.put(customer, name, value, tags=tags)
        except ConnectionDisabled as exc:  # who disabled it did so for callers of this route, too
            raise ConnectionDisabled(f"{exc} It has to be enabled in Key Vault first.") from None
        self.connections.forget(customer, name)
        log.info("%s customer=%s connection=%s version=%s", CONNECTION_SAVED, customer, name, facts.version)
        document = describe_stored(self.connections, customer, facts, StoredCredential(value, "", tags=tags))
        await record_change(self.audit, caller.name, current, document)
        if current is None:
            path = f"{API_PREFIX}/customers/{quote(customer)}/connections/{quote(name)}"
            return json_response(document, status=201, headers={"Location": path})
        return json_response(document)

    async def read(self, request: Request, caller: Caller) -> Response:
        """`GET …/connections/{name}`."""
        customer, name = _names_to_read(request, caller)
        document = await self._describe(customer, name)
        if document is None:
            raise not_found("connection")
        return with_etag(request, json_response(document))

    async def list(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/connections`: names and dates. Reads no secret values."""
        customer = customer_to_read(request, caller)
        documents = [
            describe_listed(customer, facts)
            async for facts in self._vault().list(customer)
            if is_name(facts.connection)
        ]
        connections = sorted(documents, key=lambda document: document.name)
        return with_etag(request, json_response(ConnectionList(connections=connections)))

    async def delete(self, request: Request, caller: Caller) -> Response:
        """`DELETE …/connections/{name}`: 204; 412 for a precondition. The vault can recover it for a while."""
        customer, name = _names_to_write(request, caller)
        current = await self._describe(customer, name)
        if current is None:
            raise not_found("connection")
        _check_preconditions(request, current)
        await self.audit.check(customer)
        deleted = await self._vault().delete(customer, name)
        self.connections.forget(customer, name)
        if not deleted:
            raise not_found("connection")
        await record_change(self.audit, caller.name, current, None)
        log.info("%s customer=%s connection=%s", CONNECTION_DELETED, customer, name)
        return Response(204)

    async def test(self, request: Request, caller: Caller) -> Response:
        """`POST …/connections/{name}/test`: 200 with the outcome, good or bad."""
        customer, name = _names_to_write(request, caller)
        try:
            return json_response(await self._test(customer, name, _read_test_request(request).model))
        except InvalidJob as exc:  # also of an endpoint that takes another model, or needs one
            raise invalid_request(str(exc)) from None

    async def _test(self, customer: str, name: str, model: str | None) -> ConnectionTest:
        try:
            credential = await self._vault().get(customer, name)
            if credential is None:
                raise not_found("connection")
            connection = self.connections.open(credential, customer, name)
            check_dates(credential, customer, name, now())
        except ConnectionFault as exc:
            return result_for_error(exc)
        return await self.probe.run(connection, model)

    async def _describe(self, customer: str, name: str) -> ConnectionDocument | None:
        try:
            stored = await self._vault().get_with_info(customer, name)
        except ConnectionFault as exc:
            return describe_disabled(customer, name, exc)
        return None if stored is None else describe_stored(self.connections, customer, stored[1], stored[0])

    def _kept_tags(self, old: StoredCredential, after: Connection) -> dict[str, str]:
        before = None
        with contextlib.suppress(ConnectionFault):
            before = self.connections.open(old, after.customer, after.name)
        return kept_tags(old, before, after)

    def _vault(self) -> KeyVaultCredentials:
        if self.vault is None:
            raise Problem(503, "unavailable", "The app has no Key Vault: its setting KEY_VAULT_URL is not set.")
        return self.vault


def _read_record(request: Request) -> Secret:
    """The connection in a request's body, checked as far as possible without the vault, as a secret's value."""
    if len(request.body) > MAX_SECRET_BYTES:
        message = f"The body is larger than {MAX_SECRET_BYTES} bytes, the limit of a secret."
        raise Problem(413, "too_large", message)
    check_body(request)
    try:
        text = request.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise invalid_request("The body is not valid UTF-8.") from None
    if not text.lstrip().startswith("{"):  # as a secret's value, it would be a bare key
        raise invalid_request("The body must be a JSON object.")
    members = msgspec.structs.asdict(decode_connection(text))
    record = {name: value for name, value in members.items() if value is not None}
    return Secret(msgspec.json.encode(record).decode())


def _read_test_request(request: Request) -> ConnectionTestRequest:
    check_media_type(request)
    if not request.body and "transfer-encoding" not in request.headers:
        return ConnectionTestRequest()
    check_body(request)
    return decode(request.body, ConnectionTestRequest, root="The body")


def _check_preconditions(request: Request, current: ConnectionDocument | None) -> None:
    # Key Vault has no conditional writes, so a write between this check and ours is not noticed.
    if not meets_preconditions(request, None if current is None else json_response(current)):
        message = "The connection does not meet `If-Match` or `If-None-Match`: read it again, and use its new `ETag`."
        raise Problem(412, "precondition_failed", message)


def _check_budget(current: ConnectionDocument | None, new: Connection) -> None:
    settings = None if current is None else current.settings
    cap = None if settings is None else settings.monthly_budget
    if cap is not None and (new.monthly_budget is None or new.monthly_budget > cap):
        message = f"The connection's `monthly_budget` is {cap}. A token that is tied to a customer can only lower it."
        raise Problem(403, "forbidden", message)


def _names_to_write(request: Request, caller: Caller) -> tuple[str, str]:
    customer, name = request.params["customer"], request.params["name"]
    caller.check_writes(customer)
    if not is_name(customer) or not is_name(name):
        raise invalid_request(f"The names of the customer and the connection must be {NAME_RULE}.")
    return customer, name


def _names_to_read(request: Request, caller: Caller) -> tuple[str, str]:
    customer, name = request.params["customer"], request.params["name"]
    caller.check_reads(customer, "connection")
    if not is_name(customer) or not is_name(name):
        raise not_found("connection")
    return customer, name

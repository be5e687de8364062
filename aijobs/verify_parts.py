"""
The parts of `verify`: a tiny chat job by each way in, from its request to its result.

The jobs are the operator's test customer's. They publish no result that another reader would get, and a job that
nobody took ends at its deadline without a call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from standardwebhooks import Webhook

from aijobs.app_client import AppClient
from aijobs.diagnostics import CommandError
from aijobs.finding import error_text
from aijobs.program import command
from shared.clock import now
from shared.connections.secret_cache import FRESH_S
from shared.connections.store import VaultForbids
from shared.contract.documents import API_PREFIX, JobDocument
from shared.contract.result import Result
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from shared.secret import Secret
from shared.services import Services
from shared.webhooks.signing_keys import key_bytes, split_keys

D = TypeVar("D")
_POLL_S = 0.2
_MAX_OUTPUT_TOKENS = 256
"""The answer is a word. A model that reasons needs some more for it, and one that runs away stops here."""
_ROLES = "A new role assignment takes up to ten minutes to work everywhere."


class NotTried(Exception):
    """A part can't be tried. The message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What all parts share. `app` is None if the app's address is not known."""

    services: Services
    app: AppClient | None
    key: Secret | NotTried | None
    """The function key or token, or why there is none. None: the app is the local stack's, which asks for none."""
    customer: str
    connection: str
    model: str | None
    timeout_s: float

    async def queue(self, job_id: str) -> Result:
        """Run a job that a sender puts into the queue."""
        deadline = self._deadline()
        jobs = self.services.settings.jobs_queue
        await self.services.queues.send(jobs, _json({**self._job(job_id), "customer": self.customer}))
        record = await self._follow(job_id, deadline)
        if record is None:
            raise CommandError(
                f"No worker took the job within {self.timeout_s:g} s: its message is still in the queue {jobs}. Check "
                f"that the app runs, and that its identity may read the queue. {_ROLES}"
            )
        return self._result(record)

    async def http(self, job_id: str) -> Result:
        """Run a job that a caller posts, and read its result over HTTP as well."""
        app = self._app()
        if isinstance(self.key, NotTried):
            raise self.key
        headers, deadline = {} if self.key is None else _authorization(self.key), self._deadline()
        body = _json({**self._job(job_id), "customer": self.customer})
        refused = "Pass a function key of this app or, with Entra, a token with the roles Jobs.Submit and Jobs.Read."
        await app.send("POST", f"{API_PREFIX}/jobs", deadline, body=body, headers=headers, refused=refused)
        path = f"{API_PREFIX}/jobs/{self.customer}/{job_id}"
        while True:
            data = await app.send("GET", path, deadline, headers=headers, refused=refused)
            document = _decode(data, JobDocument)
            if "result" in document.links:
                return _decode(
                    await app.send("GET", f"{path}/result", deadline, headers=headers, refused=refused), Result
                )
            if time.monotonic() >= deadline:
                raise self._late(document)
            await asyncio.sleep(_POLL_S)

    async def webhook(self, job_id: str) -> Result:
        """Run a job that a webhook brings, signed with the customer's secret."""
        app, secret, deadline = self._app(), await self._signing_key(), self._deadline()
        body, at = _json(self._job(job_id)), now()
        headers = {
            "webhook-id": job_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": secret.sign(job_id, at, body.decode()),
        }
        refused = (
            f"Either the app reads another vault, or it has read the secret before it was changed, up to "
            f"{FRESH_S / 60:g} minutes ago, or this machine's clock is off."
        )
        path = f"{API_PREFIX}/webhooks/{self.customer}"
        _decode(await app.send("POST", path, deadline, body=body, headers=headers, refused=refused), JobDocument)
        record = await self._follow(job_id, deadline)
        if record is None:
            raise CommandError("The app accepted the job, but its table has no such job: it uses another storage.")
        return self._result(record)

    def _job(self, job_id: str) -> dict[str, Any]:
        prompt, parameters = "Answer with the word OK.", {"max_completion_tokens": _MAX_OUTPUT_TOKENS}
        return {
            "job_id": job_id,
            "action": "chat",
            "connection": self.connection,
            **({} if self.model is None else {"model": self.model}),
            "input": {"prompt": prompt, "parameters": parameters},
            "output": {"queue": False},
            "options": {"deadline_s": self.timeout_s},
        }

    def _app(self) -> AppClient:
        if self.app is None:
            raise NotTried("The settings have no SERVICE_APP_URI, as azd writes it: pass the app's address with --url.")
        return self.app

    async def _signing_key(self) -> Webhook:
        vault, secret = self.services.vault, None
        if vault is None:
            raise NotTried("KEY_VAULT_URL is not set, so the signing secret can't be read.")
        try:
            secret = await vault.signing_secret(self.customer)
        except (ConnectionDisabled, VaultForbids, VaultUnavailable) as exc:
            raise NotTried(error_text(exc)) from None
        if secret is None:
            create = command(f"webhooks create {self.customer}")
            raise NotTried(f"Customer {self.customer} has no signing secret: {create} makes one.")
        keys = [key for key in map(key_bytes, split_keys(secret.value.reveal())) if key]
        if not keys:
            rotate = command(f"webhooks rotate {self.customer}")
            raise NotTried(f"The signing secret of {self.customer} is malformed: {rotate} makes another one.")
        return Webhook(keys[0])

    async def _follow(self, job_id: str, deadline: float) -> JobRecord | None:
        """Return the job's row once it has a result, or as it is when the time is over."""
        while True:
            record = await self.services.queries.get(self.customer, job_id)
            if (record is not None and record.result_body is not None) or time.monotonic() >= deadline:
                return record
            await asyncio.sleep(_POLL_S)

    def _result(self, record: JobRecord) -> Result:
        if record.result_body is None:
            raise self._late(document_of(record))
        return _decode(record.result_body, Result)

    def _late(self, document: JobDocument) -> CommandError:
        """Return the error of a job that has no result when the time is over."""
        waited = f"within {self.timeout_s:g} s"
        if document.error is not None:
            reason = f"it waits for {document.error.code}: {document.error.message}"
            return CommandError(f"The job has no result {waited}: {reason}")
        if document.status == "queued":
            check = f"Check that it runs, and that its identity may read the queue. {_ROLES}"
            return CommandError(f"The app accepted the job, but no worker took it {waited}. {check}")
        return CommandError(f"The job has no result {waited}; its state is {document.status}.")

    def _deadline(self) -> float:
        return time.monotonic() + self.timeout_s


def _authorization(key: Secret) -> Mapping[str, str]:
    """Return the header for a function key, or for an Entra token, which is three parts with dots between them."""
    text = key.reveal()
    if not (text.isascii() and text.isprintable()):
        raise CommandError("The key has characters that no function key and no token has: it is something else.")
    is_token = text.count(".") == 2  # noqa: PLR2004
    return {"authorization": f"Bearer {text}"} if is_token else {"x-functions-key": text}


def _json(members: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(members)


def _decode(data: bytes, kind: type[D]) -> D:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError:
        raise CommandError("The answer is not the app's: --url leads elsewhere, or a proxy answered.") from None

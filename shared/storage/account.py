"""The storage account: options for its clients, and its errors as StorageUnavailable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable
from shared.network.credential import Credential
from shared.network.pool import Pool
from shared.storage.direct.client import DirectClient
from shared.storage.direct.endpoint import read_endpoint
from shared.storage_settings import StorageAccount

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.core.pipeline.transport import AsyncHttpTransport

_CODE = re.compile(r'"code" ?: ?"(\w+)"')
# The attempt waits meanwhile: a few quick retries, then the job is requeued.
_RETRIES = {
    "retry_total": 3,
    "retry_backoff_factor": 0.3,  # of tables; blobs and queues use the next three, whose defaults wait 15 s and more
    "initial_backoff": 0.3,
    "increment_base": 1,
    "random_jitter_range": 0.2,
    "connection_timeout": 10,
    "read_timeout": 30,
}


@dataclass(frozen=True, slots=True)
class Account:
    """The account that holds the jobs: its settings, its credential, and the transport that its clients share."""

    settings: StorageAccount
    credential: Callable[[str], Credential]
    transport: Callable[[], AsyncHttpTransport[Any, Any]]
    pool: Pool

    def direct(self, service: str) -> DirectClient:
        """Return a client of a service for the requests of every job: `table`, `queue` or `blob`."""
        return DirectClient(service, read_endpoint(self.settings, service), self.pool, self.identity)

    def options(self) -> dict[str, Any]:
        """Return the options of every SDK client."""
        return {"transport": self.transport(), **_RETRIES}

    def identity(self) -> Credential:
        """Return the credential, which is needed if there is no connection string."""
        return self.credential(self.settings.client_id)


@contextmanager
def sdk_errors(operation: str) -> Iterator[None]:
    """Raise an SDK's errors within the block as StorageUnavailable. `operation` is as below."""
    from azure.core.exceptions import AzureError  # noqa: PLC0415  # an SDK that is used has loaded it

    try:
        yield
    except AzureError as exc:
        raise storage_error(operation, exc) from exc


def storage_error(operation: str, exc: AzureError) -> StorageUnavailable:
    """Map an SDK's exception. `operation` names what failed, such as "table jobs: insert"."""
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415

    if isinstance(exc, HttpResponseError) and exc.status_code:
        return refusal_error(operation, exc.status_code, error_code(exc))
    return StorageUnavailable(f"Storage did not answer ({operation}: {type(exc).__name__}).")


def refusal_error(operation: str, status: int, code: str) -> StorageUnavailable:
    """Return the error for a response of Storage with this status and error code."""
    return StorageUnavailable(f"Storage refused a request ({operation}: {status} {code}).")


def error_code(exc: HttpResponseError) -> str:
    """Return Storage's error code, such as `TableNotFound`."""
    code = getattr(exc, "error_code", None)
    if code is None:  # not every SDK client sets it, but the message contains the body
        match = _CODE.search(str(exc))
        return match[1] if match else type(exc).__name__
    return str(getattr(code, "value", code))

"""How a Storage service is reached, and what its refusals are called here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, HttpResponseError

from shared.errors import StorageUnavailable
from shared.settings import StorageAccount

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.core.pipeline.transport import AsyncHttpTransport

_CODE = re.compile(r'"code" ?: ?"(\w+)"')
# A worker holds a job meanwhile: a few quick tries, then the job is put back.
_RETRIES = {
    "retry_total": 3,
    "retry_backoff_factor": 0.3,  # of tables; blobs and queues know the next three, whose defaults wait 15 s and more
    "initial_backoff": 0.3,
    "increment_base": 1,
    "random_jitter_range": 0.2,
    "connection_timeout": 10,
    "read_timeout": 30,
}


@dataclass(frozen=True, slots=True)
class Account:
    """The job storage: its settings, the app's identity for it, and the sockets it shares."""

    settings: StorageAccount
    credential: Callable[[str], AsyncTokenCredential]
    transport: Callable[[], AsyncHttpTransport[Any, Any]]

    def options(self) -> dict[str, Any]:
        """What every client of the SDKs is given."""
        return {"transport": self.transport(), **_RETRIES}

    def identity(self) -> AsyncTokenCredential:
        """The credential, where there is no connection string."""
        return self.credential(self.settings.client_id)


def unavailable(what: str, exc: AzureError) -> StorageUnavailable:
    """`exc` in our words; `what` is the operation, such as "table jobs: insert"."""
    if isinstance(exc, HttpResponseError) and exc.status_code:
        return refused(what, exc.status_code, code_of(exc))
    return StorageUnavailable(f"Storage did not answer ({what}: {type(exc).__name__}).")


def code_of(exc: HttpResponseError) -> str:
    """Storage's own word for what went wrong, such as `TableNotFound`."""
    code = getattr(exc, "error_code", None)  # not every call of the SDKs sets it: then the body has it
    if code is None:
        found = _CODE.search(str(exc))
        return found[1] if found else type(exc).__name__
    return str(getattr(code, "value", code))


def refused(what: str, status: int, code: str) -> StorageUnavailable:
    """A refusal of Storage, with the code that its documentation lists."""
    return StorageUnavailable(f"Storage refused ({what}: {status} {code}).")

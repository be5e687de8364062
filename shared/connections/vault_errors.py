"""What the errors of Key Vault's SDK mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

from shared.connections.store import VaultForbids
from shared.errors import VaultUnavailable

_FORBIDDEN = 403
_DISABLED_MESSAGE = "Operation get is not allowed on a disabled secret"


@contextlib.asynccontextmanager
async def mapped_errors(operation: str, timeout_s: float) -> AsyncIterator[None]:
    """Raise the SDK's errors as the app's own. `operation` completes "Key Vault does not allow the app to …"."""
    # `from None`: the SDK's exceptions hold the request, and with it the new value of the secret.
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except ResourceNotFoundError:
        raise
    except HttpResponseError as exc:
        if exc.status_code == _FORBIDDEN:
            raise VaultForbids(
                f"Key Vault does not allow the app to {operation} (403): its identity needs the role Key Vault Secrets "
                "Officer on the vault, and the vault must allow access from its network."
            ) from None
        raise unavailable(exc) from None
    except (AzureError, TimeoutError, ValueError) as exc:
        raise unavailable(exc) from None


def unavailable(exc: Exception) -> VaultUnavailable:
    """Return the app's own error for what a request to the vault ended with."""
    if isinstance(exc, ValueError):
        # The SDK raises it if the challenge is for another domain: the token would go to a stranger.
        return VaultUnavailable(
            "KEY_VAULT_URL is not the URL of a key vault in this app's cloud. It must be the vault's own URL, such as "
            "https://my-vault.vault.azure.net."
        )
    # Without a status there was no response: no network connection, or no token for the app's identity.
    status = exc.status_code if isinstance(exc, HttpResponseError) else None
    if status is None:
        return VaultUnavailable(f"Key Vault did not answer ({type(exc).__name__}).")
    inner = _inner_code(exc)
    return VaultUnavailable(f"Key Vault answered {status}{f' ({inner})' if inner.isidentifier() else ''}.")


def is_secret_disabled(exc: HttpResponseError) -> bool:
    """Return whether the vault refused to read a secret because it is disabled."""
    # The message for a closed network has the word "disabled", too, so the inner code counts if there is one.
    inner = _inner_code(exc)
    is_disabled = inner == "SecretDisabled" if inner else _DISABLED_MESSAGE in str(exc)
    return exc.status_code == _FORBIDDEN and is_disabled


def _inner_code(exc: Exception) -> str:
    inner = getattr(getattr(exc, "error", None), "innererror", None)
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else ""

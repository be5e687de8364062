"""TLS, which costs a cold start 20 ms for each context that loads the system's authorities."""

from __future__ import annotations

import ssl
from functools import cache

from shared.errors import SettingInvalid


@cache
def tls_context() -> ssl.SSLContext:
    """Return the process's context, which trusts the system's authorities."""
    return ssl.create_default_context()


def tls_context_with(ca_file: str) -> ssl.SSLContext:
    """Return a context that trusts the authorities in a file, too. Raises SettingInvalid if it can't be read."""
    tls = ssl.create_default_context()
    try:
        tls.load_verify_locations(ca_file)
    except (OSError, ValueError):
        raise SettingInvalid("KEY_VAULT_CA_FILE must be a file that exists, with certificates in PEM.") from None
    return tls

"""
The value of a customer's signing secret: `whsec_` and base64 of random bytes or, during a rotation, several of them.

Pure, but for the random bytes of a new key.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from shared.contract.pasted import unquote

KEY_BYTES = range(24, 65)
"""The specification's (standardwebhooks.com, "Signature scheme")."""
_NEW_KEY_BYTES = 32
_PREFIX = "whsec_"


def new_key() -> str:
    """Return a new key."""
    return f"{_PREFIX}{base64.b64encode(secrets.token_bytes(_NEW_KEY_BYTES)).decode()}"


def split_keys(value: str) -> list[str]:
    """Return the keys in a secret's value, valid or not, as a person may have pasted them."""
    return [word.strip("\"'") for word in unquote(value).split()]


def key_bytes(text: str) -> bytes:
    """Return the bytes of a key, or none if it is invalid."""
    encoded = text.removeprefix(_PREFIX)
    try:
        # The library itself takes any text for base64, and skips characters that are not.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if text.startswith(_PREFIX) and len(key) in KEY_BYTES else b""

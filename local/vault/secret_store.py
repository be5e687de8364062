"""
The secrets of the local Key Vault, with their versions, and the deleted secrets whose names stay reserved. Behaves
as Key Vault's documentation says. Knows nothing of HTTP.
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

MAX_VALUE_SIZE = 25 * 1024
MAX_TAGS = 15
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


class VaultError(Exception):
    """An error response of Key Vault: HTTP status, code, message, and sometimes an inner code."""

    def __init__(self, status: int, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.inner = inner


@dataclass(slots=True)
class Version:
    """A version of a secret. `attributes` are enabled, nbf, exp, created and updated; times are Unix seconds."""

    value: str = field(repr=False)
    content_type: str | None
    tags: dict[str, str]
    attributes: dict[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(slots=True)
class Secret:
    """A secret, by the name of its first version, and its versions, oldest first."""

    name: str
    versions: list[Version] = field(default_factory=list)


class Secrets:
    """All secrets of a vault. Names are not case-sensitive."""

    def __init__(self) -> None:
        self.live: dict[str, Secret] = {}
        self.deleted: dict[str, Secret] = {}

    def get(self, name: str, version: str = "") -> tuple[Secret, Version]:
        """
        A version of a secret; the latest one if `version` is empty.

        Raises VaultError if it does not exist or is disabled, but not if it has expired.
        """
        secret, match = self._get(name, version)
        if not match.attributes["enabled"]:
            raise VaultError(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return secret, match

    def put(
        self,
        name: str,
        value: str,
        *,
        content_type: str | None = None,
        tags: dict[str, str] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> tuple[Secret, Version]:
        """Add a version. It inherits nothing from the version before it. Raises VaultError."""
        if not _NAME.fullmatch(name) or len(value) > MAX_VALUE_SIZE or len(tags or {}) > MAX_TAGS:
            raise VaultError(400, "BadParameter", "The name, the value or the tags are invalid.")
        if name.lower() in self.deleted:
            raise VaultError(
                409,
                "Conflict",
                f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be "
                "reused; in this state, the secret can only be recovered or purged.",
                "ObjectIsDeletedButRecoverable",
            )
        now = int(time.time())
        all_attributes = {"enabled": True, "created": now, "updated": now, **(attributes or {})}
        version = Version(value, content_type, dict(tags or {}), all_attributes)
        secret = self.live.setdefault(name.lower(), Secret(name))
        secret.versions.append(version)
        return secret, version

    def update(self, name: str, version: str, changes: dict[str, Any]) -> tuple[Secret, Version]:
        """
        Change single `attributes`, or replace `tags` or `contentType`; the value can't change.

        Raises VaultError.
        """
        secret, match = self._get(name, version)
        match.attributes |= {**changes.get("attributes", {}), "updated": int(time.time())}
        if changes.get("tags") is not None:
            match.tags = changes["tags"]
        match.content_type = changes.get("contentType") or match.content_type
        return secret, match

    def delete(self, name: str) -> Secret:
        """Delete a secret. Its name stays reserved until it is purged or recovered. Raises VaultError."""
        self._get(name, "")
        secret = self.deleted[name.lower()] = self.live.pop(name.lower())
        return secret

    def get_deleted(self, name: str) -> Secret:
        """A deleted secret. Raises VaultError."""
        if name.lower() not in self.deleted:
            raise VaultError(404, "SecretNotFound", f"Deleted Secret not found: {name}")
        return self.deleted[name.lower()]

    def recover(self, name: str) -> Secret:
        """Undo a deletion. Raises VaultError."""
        secret = self.live[name.lower()] = self.get_deleted(name)
        del self.deleted[name.lower()]
        return secret

    def purge(self, name: str) -> None:
        """Delete permanently, and free the name. Raises VaultError."""
        self.get_deleted(name)
        del self.deleted[name.lower()]

    def _get(self, name: str, version: str) -> tuple[Secret, Version]:
        secret = self.live.get(name.lower())
        match = next((v for v in reversed(secret.versions) if version in ("", v.id)), None) if secret else None
        if secret is None or match is None:
            path = "/".join(filter(None, (name, version)))
            raise VaultError(
                404,
                "SecretNotFound",
                f"A secret with (name/id) {path} was not found in this key vault. "
                "If you recently deleted this secret you may be able to recover it.",
            )
        return secret, match

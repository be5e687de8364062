"""
What the Key Vault stand-in holds: secrets with their versions, and the deleted ones whose names stay
reserved. Behaves as Key Vault's documentation says; knows no HTTP.
"""

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

MAX_VALUE = 25 * 1024
MAX_TAGS = 15
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")


class VaultError(Exception):
    """What Key Vault answers instead: an HTTP status, its code and a message, sometimes an inner code."""

    def __init__(self, status: int, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.inner = inner


@dataclass(slots=True)
class Version:
    """One version. `attributes` are enabled, nbf, exp, created, updated; the times in Unix seconds."""

    value: str = field(repr=False)
    content_type: str | None
    tags: dict[str, str]
    attributes: dict[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(slots=True)
class Secret:
    """A secret under the name that it was first set with; its versions, oldest first."""

    name: str
    versions: list[Version] = field(default_factory=list)


class Secrets:
    """All secrets of a vault. Names are compared without case."""

    def __init__(self) -> None:
        self.live: dict[str, Secret] = {}
        self.deleted: dict[str, Secret] = {}

    def get(self, name: str, version: str = "") -> tuple[Secret, Version]:
        """
        A version of a secret, the latest if none is named.

        Raises VaultError for what is not there and for what is disabled, not for what has expired.
        """
        secret, found = self._find(name, version)
        if not found.attributes["enabled"]:
            raise VaultError(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return secret, found

    def put(
        self,
        name: str,
        value: str,
        *,
        content_type: str | None = None,
        tags: dict[str, str] | None = None,
        attributes: dict[str, Any] | None = None,
    ) -> tuple[Secret, Version]:
        """A new version, which takes nothing over from the one before it."""
        if not _NAME.fullmatch(name) or len(value) > MAX_VALUE or len(tags or {}) > MAX_TAGS:
            raise VaultError(400, "BadParameter", "The name, the value or the tags are not allowed.")
        if name.lower() in self.deleted:
            raise VaultError(
                409,
                "Conflict",
                f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be "
                "reused; in this state, the secret can only be recovered or purged.",
                "ObjectIsDeletedButRecoverable",
            )
        now = int(time.time())
        made = {"enabled": True, "created": now, "updated": now, **(attributes or {})}
        version = Version(value, content_type, dict(tags or {}), made)
        secret = self.live.setdefault(name.lower(), Secret(name))
        secret.versions.append(version)
        return secret, version

    def update(self, name: str, version: str, changes: dict[str, Any]) -> tuple[Secret, Version]:
        """Changes `attributes` one by one, and `tags` and `contentType` as a whole; never the value."""
        secret, found = self._find(name, version)
        found.attributes |= {**changes.get("attributes", {}), "updated": int(time.time())}
        if changes.get("tags") is not None:
            found.tags = changes["tags"]
        found.content_type = changes.get("contentType") or found.content_type
        return secret, found

    def delete(self, name: str) -> Secret:
        """Moves a secret where it keeps its name reserved until it is purged or recovered."""
        self._find(name, "")
        secret = self.deleted[name.lower()] = self.live.pop(name.lower())
        return secret

    def find_deleted(self, name: str) -> Secret:
        """A deleted secret."""
        if name.lower() not in self.deleted:
            raise VaultError(404, "SecretNotFound", f"Deleted Secret not found: {name}")
        return self.deleted[name.lower()]

    def recover(self, name: str) -> Secret:
        """Takes a deletion back."""
        secret = self.live[name.lower()] = self.find_deleted(name)
        del self.deleted[name.lower()]
        return secret

    def purge(self, name: str) -> None:
        """Deletes for good, and frees the name."""
        self.find_deleted(name)
        del self.deleted[name.lower()]

    def _find(self, name: str, version: str) -> tuple[Secret, Version]:
        secret = self.live.get(name.lower())
        found = next((v for v in reversed(secret.versions) if version in ("", v.id)), None) if secret else None
        if secret is None or found is None:
            asked = "/".join(filter(None, (name, version)))
            raise VaultError(
                404,
                "SecretNotFound",
                f"A secret with (name/id) {asked} was not found in this key vault. "
                "If you recently deleted this secret you may be able to recover it.",
            )
        return secret, found

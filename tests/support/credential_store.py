"""A credential store in memory, and what tests of connections need beside it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from shared.connections import resolver, secret_cache
from shared.connections.connection import Connection
from shared.connections.store import StoredCredential
from shared.errors import (
    VaultUnavailable,
)
from shared.secret import Secret
from shared.settings import Settings, read_settings
from shared.upstream.messages import ApiKey

KEY = "the-key-that-nobody-may-see"
ENDPOINT = "https://contoso.openai.azure.com/openai/v1"
OPERATORS = json.dumps({"endpoint": "https://operator.openai.azure.com", "api_key": "operators-own-key"})


class MemoryCredentials:
    """A credential store in memory. It counts reads, and can be down or slow."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], StoredCredential] = {}
        self.reads: Counter[tuple[str, str]] = Counter()
        self.down = False
        self.gate: asyncio.Event | None = None

    def put(self, customer: str, name: str = "default", value: str | None = None, **attributes: Any) -> None:
        """Store a new version of a secret. By default its value is a valid connection."""
        value = json.dumps({"endpoint": ENDPOINT, "api_key": KEY}) if value is None else value
        attributes = {"version": uuid.uuid4().hex} | attributes
        self.secrets[customer, name] = StoredCredential(Secret(value), **attributes)

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """See CredentialStore."""
        self.reads[customer, connection] += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise VaultUnavailable("Key Vault answered 503.")
        return self.secrets.get((customer, connection))


def set_time(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    """Set the time by which the dates of secrets are checked."""
    for module in (resolver, secret_cache):
        monkeypatch.setattr(module, "now", lambda: at)


def settings(**environment: str) -> Settings:
    """Return settings with these values."""
    return read_settings({"JobStorage": "UseDevelopmentStorage=true"} | environment)


def key_of(connection: Connection) -> str:
    """Return the key of a connection."""
    assert isinstance(connection.access, ApiKey)
    return connection.access.key.reveal()

"""Connections of a store in memory."""

from __future__ import annotations

import pytest

from shared.connections.resolver import Connections
from tests.support.credential_store import (
    Clock,
    CredentialStoreFake,
    settings,
)


@pytest.fixture
def store() -> CredentialStoreFake:
    """An empty store."""
    return CredentialStoreFake()


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def connections(store: CredentialStoreFake, clock: Clock) -> Connections:
    """The connections in the store, by the clock, without a static connection."""
    return Connections(settings(), store, clock=clock)

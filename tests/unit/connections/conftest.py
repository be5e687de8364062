"""Connections of a store in memory."""

from __future__ import annotations

import pytest

from shared.connections.resolver import Connections
from tests.support.credential_store import (
    MemoryCredentials,
    settings,
)
from tests.support.manual_clock import ManualClock


@pytest.fixture
def store() -> MemoryCredentials:
    """An empty store."""
    return MemoryCredentials()


@pytest.fixture
def clock() -> ManualClock:
    """A clock."""
    return ManualClock()


@pytest.fixture
def connections(store: MemoryCredentials, clock: ManualClock) -> Connections:
    """The connections in the store, by the clock, without a static connection."""
    return Connections(settings(), store, clock=clock)

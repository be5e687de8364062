"""Tables of both kinds, for their contract tests."""

from __future__ import annotations

import uuid

import pytest

from shared.storage.base import Table
from tests.support.faulty_tables import FaultyTable, faulty_table
from tests.support.harness import Harness


@pytest.fixture(params=["memory", "azure", pytest.param("azure by the SDK", marks=pytest.mark.long)])
def faulty(request: pytest.FixtureRequest, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyTable:
    """A table in memory, one on Azurite, and one whose requests are all sent by the SDK, with faults on request."""
    return faulty_table(request.param, harness, monkeypatch)


@pytest.fixture
def table(faulty: FaultyTable) -> Table:
    """The same, without faults."""
    return faulty.table


@pytest.fixture
def partition() -> str:
    """A partition of the table, or a prefix of blobs, for one test."""
    return f"p-{uuid.uuid4().hex}"

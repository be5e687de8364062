"""The ledger on Azurite."""

from __future__ import annotations

import pytest

from tests.support.faulty_tables import faulty_table
from tests.support.harness import Harness
from tests.support.ledger_contract import Case, LedgerContract


class TestLedgerOnAzurite(LedgerContract):
    """See LedgerContract."""

    @pytest.fixture
    def case(self, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Case:
        """A ledger on Azurite."""
        faulty = faulty_table("azure", harness, monkeypatch)
        return Case(faulty.table, faulty.faults)

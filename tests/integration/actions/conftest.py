"""
Actions run with Storage in memory, which they use through the job alone. Each runs on Azurite once, in
storage/test_operation_counts.py.
"""

from __future__ import annotations

import pytest

from tests.support.harness import Harness


@pytest.fixture
def harness(memory_harness: Harness) -> Harness:
    """The harness of a module."""
    return memory_harness

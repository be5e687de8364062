"""How many examples a property test tries: a tenth of them in the default tier, all of them in the long one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import find, is_hypothesis_test, settings
from hypothesis import strategies as st

SHARE = 10
FEWEST = 10


def property_tests(items: Iterable[pytest.Item]) -> list[pytest.Function]:
    """Return the tests that hypothesis makes examples for."""
    return [item for item in items if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj)]


def shorten(test: Any) -> None:
    """Let a property test try a tenth of its examples, but ten if it has as many. Shortening it again does nothing."""
    if not hasattr(test, "whole_settings"):
        whole = test._hypothesis_internal_use_settings  # hypothesis's own plugin replaces it in the same way
        test.whole_settings = whole
        few = max(min(FEWEST, whole.max_examples), whole.max_examples // SHARE)
        test._hypothesis_internal_use_settings = settings(whole, max_examples=few)


def prepare_files() -> None:
    """
    Have hypothesis write what it reads of the app's modules and of Unicode, for other processes.

    In a new clone that takes seconds, and each process of a run would do the same.
    """
    find(st.text(), lambda _text: True, settings=settings(database=None, max_examples=1))

"""The bounded dictionary that all caches use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.lru import LRU

KEYS = st.sampled_from("abcdefg")
STEPS = st.lists(st.tuples(st.sampled_from(["get", "set", "pop", "in"]), KEYS, st.integers()), max_size=60)


def test_the_least_recently_used_entry_goes_first():
    """Reading and replacing an entry use it; a look at whether it is there does not."""
    lru = LRU[str, int](3)
    for key, value in (("read", 1), ("looked at", 2), ("replaced", 3)):
        lru.set(key, value)

    assert (1, True) == (lru.get("read"), "looked at" in lru)
    lru.set("replaced", 4)
    lru.set("new", 5)

    assert (1, None, 4, 5) == tuple(lru.get(key) for key in ("read", "looked at", "replaced", "new"))


@given(STEPS, st.integers(1, 5))
def test_it_is_a_dictionary_of_the_last_entries(steps: list[tuple[str, str, int]], max_entries: int):
    """Whatever is done, it holds what a plain list in the order of use holds, cut to its size."""
    lru, model = LRU[str, int](max_entries), list[tuple[str, int]]()
    for step, key, value in steps:
        expected = dict(model).get(key)
        if step == "in":
            assert (expected is not None) == (key in lru)
            continue
        model = [entry for entry in model if entry[0] != key]
        if step == "set":
            lru.set(key, value)
            model = [*model, (key, value)][-max_entries:]
        else:
            assert expected == (lru.get(key) if step == "get" else lru.pop(key))
            model += [(key, expected)] if step == "get" and expected is not None else []
        assert len(model) == len(lru)
        assert all(name in lru for name, _ in model)


def test_a_customer_has_a_share_of_the_entries():
    """
    A key that is a tuple begins with its customer. However many keys one makes up, it discards its own least recently
    used entries: those of a hundred others stay.
    """
    lru = LRU[tuple[str, ...], int](2_000)
    for number in range(99):
        lru.set((f"c{number}", "default"), number)
    for number in range(2_001):
        lru.set(("hostile", f"x{number}"), number)
        lru.get(("hostile", "x0"))

    assert all((f"c{number}", "default") in lru for number in range(99))
    assert (True, False, True) == tuple(("hostile", name) in lru for name in ("x0", "x1", "x2000"))
    assert 99 + 20 == len(lru)

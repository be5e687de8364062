"""Texts: the estimate of their tokens, and how they come apart."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.text_splitter import MIN_LIMIT, estimate_tokens, split

# Text with all that borders and clusters are made of, and any other character.
SPICES = [" ", "\n", "\n\n", "\r\n", "\r\n \r\n", ". ", "。", "…» ", "\u200d", "e\u0301", "👩\u200d💻", "漢字", "word"]
TEXTS = st.lists(st.sampled_from(SPICES) | st.text(max_size=5), max_size=60).map("".join)
BORDERS = {
    "paragraph": ("One line.\nAnother. And more\n\nnext one, he", "One line.\nAnother. And more\n\n"),
    "paragraph with CRLF": ("One line.\r\nAnother. And\r\n\r\nnext one, he", "One line.\r\nAnother. And\r\n\r\n"),
    "line": ("One sentence. Another one\nnext. line abcd", "One sentence. Another one\n"),
    "sentence": ("One sentence. Another one. next line abcd", "One sentence. Another one. "),
    "quoted sentence": ("He said: “Come with me.” and then he we", "He said: “Come with me.” "),
    "word": ("some words without any end, and now ofmore", "some words without any end, and now "),
    "nothing": ("x" * 42, "x" * 36),
}


@given(TEXTS, st.integers(MIN_LIMIT, 30))
def test_parts_are_the_text_and_keep_the_limit(text: str, limit: int):
    """Joined, the parts are the text; none is empty and none goes over the limit."""
    parts = split(text, limit)

    assert text == "".join(parts)
    assert all(0 < estimate_tokens(part) <= limit for part in parts)


@given(TEXTS, TEXTS)
def test_estimate_grows_with_the_text(one: str, other: str):
    """A longer text is no fewer tokens, and two together are no more than each by itself."""
    assert max(map(estimate_tokens, (one, other))) <= estimate_tokens(one + other)
    assert estimate_tokens(one + other) <= estimate_tokens(one) + estimate_tokens(other)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.integers(2, 30))
def test_parts_without_borders_are_full(text: str, limit: int):
    """Every part but the last is at least half full."""
    assert all(2 * len(part) >= limit * 3 for part in split(text, limit)[:-1])


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("abc", 1), ("abcd", 2), ("é", 1), ("漢字", 3), ("👩", 2)])
def test_estimate_weighs_characters(text: str, tokens: int):
    """ASCII is a third of a token a character, accents one, CJK one and a half, emoji two."""
    assert tokens == estimate_tokens(text)


@pytest.mark.parametrize(("text", "first"), BORDERS.values(), ids=BORDERS.keys())
def test_part_ends_at_the_best_border(text: str, first: str):
    """A part of 12 tokens ends at the highest border in its second half."""
    limit = 14 if "“" in text else 12

    assert first == split(text, limit)[0]


def test_border_that_would_leave_a_part_nearly_empty_is_passed_over():
    """A heading is not a part by itself where more fits."""
    assert "Title\n\n" + "word " * 5 == split("Title\n\n" + "word " * 20, 11)[0]


@pytest.mark.parametrize("cluster", ["e\u0301", "👍🏽", "👩\u200d💻", "n\u0303\u0323"])
def test_what_is_seen_as_one_character_stays_whole(cluster: str):
    """A cut does not fall between a letter and its accents, or within a joined emoji."""
    parts = split(cluster * 50, 12)

    assert len(parts) > 1
    assert all(part.replace(cluster, "") == "" for part in parts)


def test_endless_cluster_is_cut_all_the_same():
    """A letter with a thousand accents comes apart, within the limit."""
    parts = split("a" + "\u0301" * 1000, 20)

    assert all(estimate_tokens(part) <= 20 for part in parts)


def test_limit_below_one_character_is_refused():
    """A limit that no emoji fits is the caller's mistake."""
    with pytest.raises(ValueError, match="at least 2"):
        split("x", 1)


@pytest.mark.parametrize(
    "piece", ["word ", "x", "漢", "\n", " ", "\n ", ".", "é. ", "👩\u200d", "\r", ".”", "a\u0301"], ids=ascii
)
@pytest.mark.parametrize("limit", [50, 12_000])
def test_a_megabyte_is_split_in_no_time(piece: str, limit: int):
    """Time grows with the text alone, whatever it is made of."""
    text = piece * (1_000_000 // len(piece.encode()))
    began = time.process_time()

    parts = split(text, limit)

    assert time.process_time() - began < 0.8
    assert len(parts) >= estimate_tokens(text) // limit

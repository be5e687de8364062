"""The estimate of a text's tokens, and how a text is split."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.actions.text_splitter import MIN_LIMIT, PICTURE_TOKENS, estimate_tokens, split
from shared.documents.pictures import ANCHORS, anchor
from tests.support.rows import every_row
from tests.support.sampled import Sampled
from tests.support.work import count_calls

# Everything that boundaries and grapheme clusters are made of.
FRAGMENTS = [
    " ",
    "\n",
    "\n\n",
    "\r\n",
    "\r\n \r\n",
    ". ",
    "。",
    "…» ",
    "word",
    "漢字",
    "\u200d",
    "e\u0301",
    "👩\u200d💻",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=60).map("".join)
BOUNDARIES = {
    "paragraph": ("One line.\nAnother. And more\n\nnext one, he", "One line.\nAnother. And more\n\n"),
    "paragraph with CRLF": ("One line.\r\nAnother. And\r\n\r\nnext one, he", "One line.\r\nAnother. And\r\n\r\n"),
    "line": ("One sentence. Another one\nnext. line abcd", "One sentence. Another one\n"),
    "sentence": ("One sentence. Another one. next line abcd", "One sentence. Another one. "),
    "quoted sentence": ("He said: “Come with me.” and then he we", "He said: “Come with me.” "),
    "word": ("some words without any end, and now ofmore", "some words without any end, and now "),
    "nothing": ("x" * 42, "x" * 36),
    "heading": ("Title\n\n" + "word " * 20, "Title\n\n" + "word " * 5),
}


@given(TEXTS, st.integers(MIN_LIMIT, 30))
@example("a" + "\u0301" * 1000, 20)  # a very long cluster
def test_parts_are_the_text_within_the_limit(text: str, limit: int):
    """Joined, the parts are the text; none is empty, and none exceeds the limit."""
    parts = split(text, limit)

    assert text == "".join(parts)
    assert all(0 < estimate_tokens(part) <= limit for part in parts)


@given(TEXTS, TEXTS)
def test_estimate_grows_with_the_text(first: str, other: str):
    """A longer text has no fewer tokens, and two texts joined have no more than both by themselves."""
    assert max(map(estimate_tokens, (first, other))) <= estimate_tokens(first + other)
    assert estimate_tokens(first + other) <= estimate_tokens(first) + estimate_tokens(other)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1), st.integers(2, 30))
def test_parts_without_boundaries_are_full(text: str, limit: int):
    """Every part but the last is at least half full."""
    assert all(2 * len(part) >= limit * 3 for part in split(text, limit)[:-1])


@every_row(("text", "tokens"), [("", 0), ("abc", 1), ("abcd", 2), ("é", 1), ("漢字", 3), ("👩", 2)])
def test_estimate_weighs_characters(text: str, tokens: int):
    """An ASCII character is a third of a token, an accented one 1, a CJK character 1.5, an emoji 2."""
    assert tokens == estimate_tokens(text)


@every_row(("text", "first"), BOUNDARIES.values(), ids=BOUNDARIES.keys())
def test_part_ends_at_the_best_boundary(text: str, first: str):
    """A part ends at a boundary in its second half: of a paragraph, else of a line, a sentence or a word."""
    limit = 14 if "“" in text else 12

    assert first == split(text, limit)[0]


@every_row("cluster", ["e\u0301", "👍🏽", "👩\u200d💻", "n\u0303\u0323"])
def test_grapheme_clusters_are_not_split(cluster: str):
    """A letter and its accents, or a joined emoji, stay in one part."""
    parts = split(cluster * 50, 12)

    assert len(parts) > 1
    assert all(part.replace(cluster, "") == "" for part in parts)


def test_limit_below_one_character_is_refused():
    """A limit that is too low for an emoji raises ValueError."""
    with pytest.raises(ValueError, match="at least 2"):
        split("x", 1)


def test_splitting_takes_linear_time(sampled: Sampled):
    """Twice as much of any text is about twice the work."""
    pieces = ["word ", "x", "漢", "\n", " ", "\n ", ".", "é. ", "👩\u200d", "\r", ".”", "a\u0301"]
    for piece, limit in sampled(itertools.product(pieces, (50, 12_000)), share=5):
        length, parts = min(400 * limit, 100_000), list[str]()
        half, text = (piece * (size // len(piece.encode())) for size in (length, 2 * length))

        half_calls = count_calls(lambda: split(half, limit))  # noqa: B023  # it is called here
        calls = count_calls(lambda: parts.extend(split(text, limit)))  # noqa: B023

        assert calls < 3 * half_calls + 1000, (piece, limit)
        assert len(parts) >= estimate_tokens(text) // limit


def test_a_picture_counts_as_much_as_it_has_tokens():
    """Eight are about a part; one alone is a part, however low the limit, and other characters count as always."""
    text = "".join(f"[Page {number}]\n\n{anchor(number)}\n\n" for number in range(20))

    parts = split(text, 12_000, at_headings=True, anchors=ANCHORS)
    tiny = split(text, 900, at_headings=True, anchors=ANCHORS)

    assert text == "".join(parts) == "".join(tiny)
    assert [7, 7, 6] == [len(ANCHORS.findall(part)) for part in parts]
    assert 1 == max(len(ANCHORS.findall(part)) for part in tiny)
    assert estimate_tokens(text) + 20 * PICTURE_TOKENS == estimate_tokens(text, ANCHORS)
    assert estimate_tokens("é" * 9) == estimate_tokens("é" * 9, ANCHORS)

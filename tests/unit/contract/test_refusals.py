"""What a refusal says: the path of the member at fault, and the rule of its type in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from shared.contract.decoding import decode
from shared.contract.refusals import printable
from shared.errors import InvalidJob
from tests.support.rows import every_row

Code = Annotated[str, Meta(pattern=r"^[A-Z]+\Z", max_length=3, description="1 to 3 capitals")]


class Part(Struct, forbid_unknown_fields=True):
    """A part with one member of a rule of its own."""

    code: Code


class Whole(Struct, kw_only=True, forbid_unknown_fields=True):
    """Members of every kind that the contract has."""

    code: Code = "A"
    either: bool | Code = True
    choice: Literal["left", "right"] | None = None
    count: Annotated[int, Meta(ge=1)] = 1
    some: Annotated[int, Meta(ge=0, le=20_000)] = 0
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    above: Annotated[float, Meta(gt=0)] = 1.0
    below: Annotated[int, Meta(le=9)] = 1
    title: Annotated[str, Meta(max_length=5)] = ""
    texts: Annotated[list[Code], Meta(min_length=1, max_length=2)] = []
    lists: list[list[Code]] = []
    parts: dict[str, Part] = {}
    files: dict[str, bytes | Part] = {}
    tags: dict[str, dict[str, Code]] = {}
    values: dict[str, str | int | float | bool | list[int]] = {}
    anything: Any = None


@every_row(
    ("text", "message"),
    [
        pytest.param('{"code": "a"}', "`code` must be 1 to 3 capitals.", id="pattern"),
        pytest.param('{"code": "ABCD"}', "`code` must be 1 to 3 capitals.", id="length of a pattern"),
        pytest.param('{"code": 1}', "`code` must be a string, not a whole number.", id="type"),
        pytest.param('{"either": "a"}', "`either` must be 1 to 3 capitals.", id="pattern in a union"),
        pytest.param('{"either": []}', "`either` must be true, false or a string, not a list.", id="type in a union"),
        pytest.param('{"choice": "up"}', "`choice` must be one of left, right.", id="choice"),
        pytest.param('{"count": 0}', "`count` must be a whole number of at least 1.", id="minimum"),
        pytest.param('{"below": 10}', "`below` must be a whole number of at most 9.", id="maximum"),
        pytest.param('{"some": 20001}', "`some` must be a whole number from 0 to 20,000.", id="range"),
        pytest.param('{"some": 1.5}', "`some` must be a whole number, not a decimal number.", id="decimal"),
        pytest.param('{"share": 0}', "`share` must be a number above 0 and at most 1.", id="open range"),
        pytest.param('{"above": -1}', "`above` must be a number above 0.", id="open minimum"),
        pytest.param('{"title": "123456"}', "`title` must be a string of at most 5 characters.", id="length"),
        pytest.param('{"texts": []}', "`texts` must be a list of 1 to 2 items.", id="empty list"),
        pytest.param('{"texts": ["A", "B", "C"]}', "`texts` must be a list of 1 to 2 items.", id="long list"),
        pytest.param('{"texts": ["A", "b"]}', "`texts[1]` must be 1 to 3 capitals.", id="item"),
        pytest.param('{"lists": [["A"], ["A", "b"]]}', "`lists[1][1]` must be 1 to 3 capitals.", id="deep"),
        pytest.param('{"parts": {"a": {"code": "A"}, "b": {}}}', "`parts.b.code` is missing.", id="missing"),
        pytest.param('{"parts": {"b": {"code": "b"}}}', "`parts.b.code` must be 1 to 3 capitals.", id="key"),
        pytest.param('{"parts": {"b": {"kode": "B"}}}', "`parts.b.kode` is not a known member.", id="unknown"),
        pytest.param('{"files": {"a": "YQ==", "b": "?"}}', "`files.b` must be base64.", id="base64"),
        pytest.param('{"files": {"b": 1}}', "`files.b` must be a string or an object, not a whole number.", id="bytes"),
        pytest.param('{"tags": {"a": {"b": "A", "c": "d"}}}', "`tags.a.c` must be 1 to 3 capitals.", id="keys"),
        pytest.param(
            '{"values": {"a": null}}',
            "`values.a` must be true, false, a number, a string or a list, not null.",
            id="five",
        ),
        pytest.param('{"values": {"a": [1, "b"]}}', "`values.a[1]` must be a whole number, not a string.", id="items"),
        pytest.param('{"anything": [{"a": 1e999}]}', "`anything[0].a`: number out of range.", id="number"),
        pytest.param('{"tags": {"a\\nb": 1}}', "`tags.a\ufffdb` must be an object, not a whole number.", id="break"),
        pytest.param('{"tags": {"a": 1}, "tags": {}}', "`tags` must be an object, not a whole number.", id="twice"),
        pytest.param("[]", "The whole must be an object, not a list.", id="root"),
        pytest.param('{"a": 1}', "`a` is not a known member.", id="unknown at the root"),
    ],
)
def test_refusals_name_the_member_and_its_rule(text: str, message: str):
    """The message has the member's path, keys of objects included, and what its type's constraints mean."""
    with pytest.raises(InvalidJob) as raised:
        decode(text.encode(), Whole, root="The whole")

    assert message == str(raised.value)


def test_path_continues_that_of_the_part():
    """A part that is decoded later has the path of its place in the whole text."""
    with pytest.raises(InvalidJob) as raised:
        decode(b'{"texts": ["b"]}', Whole, at="input")

    assert "`input.texts[0]` must be 1 to 3 capitals." == str(raised.value)


def test_names_are_printable_and_short():
    """A caller's name for a member is cut after 100 characters, and what does not print is replaced."""
    assert "n" * 100 + "…" == printable("n" * 101)
    assert "a\ufffdb\ufffd" == printable("a\nb\u202e")

"""What the README and the page on the architecture say of the code: the functions to read, and the floors."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = 30
"""Lines of a function without its docstring."""
ROWS = re.findall(r"^\| `([\w.]+)` in `([\w/.]+)` \| (.*?) \| (.*?) \|", PAGE, re.MULTILINE)
"""Each function to read: its name, its file, what it is reached from, what it does."""
FILES = {name: file for name, file, _, _ in ROWS}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def function(name: str, file: str) -> Function:
    """A function of a file, by its name or its class's and its own; fails where there is none."""
    body: list[ast.stmt] = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    *classes, last = name.split(".") if name[0].isupper() else [name.rpartition(".")[2]]
    for each in classes:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == each)
    return next(node for node in body if isinstance(node, Function) and node.name == last)


def named_in(node: ast.AST) -> set[str]:
    """The names that stand in a function."""
    found = [one for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)]
    return {one.id if isinstance(one, ast.Name) else one.attr for one in found}


def way_to(reached: str) -> list[Function]:
    """The function that another is reached from, and the private ones between."""
    first, *between = re.findall(r"`([\w.]+)`", re.match(r"`[\w.]+`(?: ► `\w+`)*", reached)[0])
    inside = first.rpartition(".")[0]
    return [function(name, FILES[first]) for name in (first, *(f"{inside}.{one}" for one in between))]


def test_readme_and_page_name_the_same_seven_functions():
    """The README and the page name one list, in one order, of seven."""
    (sentence,) = re.findall(r"follow seven functions, each reached from one before it: (.*?)\. \[", README)

    assert re.findall(r"`([\w.]+)`", sentence) == list(FILES)
    assert 7 == len(FILES)


@pytest.mark.parametrize(("name", "file", "reached"), [row[:3] for row in ROWS], ids=FILES)
def test_each_function_is_reached_from_one_before_it(name: str, file: str, reached: str):
    """What is to be read is there, is short, and is named where the page says that it is reached from."""
    steps = [*(way_to(reached) if reached.startswith("`") else []), function(name, file)]

    for step, following in pairwise(steps):
        assert following.name in named_in(step)
    for step in steps:
        described = ast.get_docstring(step) is not None
        assert step.end_lineno - step.body[described].lineno < SHORT
    before = list(FILES)[: list(FILES).index(name)]
    assert not before or re.match(r"`([\w.]+)`", reached)[1] in before


@pytest.mark.parametrize(("name", "does"), [(row[0], row[3]) for row in ROWS], ids=FILES)
def test_functions_beside_the_way_are_there(name: str, does: str):
    """What a row names of other functions is defined where its class is, or in a module of its own."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))

    for one in re.findall(r"`([\w.]+)`", does):
        assert re.search(rf"def {one.rpartition('.')[2]}\(", sources), f"{name}: {one}"

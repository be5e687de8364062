"""What the README, the guide and the architecture page say about the code: functions to read, who imports whom."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from itertools import pairwise

import pytest

from docs import dependencies
from tests.support.doc_samples import ROOT
from tests.support.rows import every_row
from tests.support.source import parse

PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
(WALK,) = re.findall(r"^## One job, seven functions\n(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = 30
"""Lines of a function without its docstring."""
ROWS = re.findall(r"^\| `([\w.]+)` in `([\w/.]+)` \| (.*?) \| (.*?) \|", WALK, re.MULTILINE)
"""Each function to read, on the way there and back: its name, its file, what calls it, what it does."""
FILES = {name: file for name, file, _, _ in ROWS}

Function = ast.FunctionDef | ast.AsyncFunctionDef


_SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
DEFINED = set(re.findall(r"\bdef (\w+)\(", _SOURCES))
"""The functions of the app."""


@functools.cache
def tree_of(file: str) -> ast.Module:
    """The syntax of a file."""
    return parse(ROOT / file)


def function(name: str, file: str) -> Function:
    """A function of a file, by its name, or by its class's name and its own; fails if there is none."""
    body: list[ast.stmt] = tree_of(file).body
    *classes, last = name.split(".") if name[0].isupper() else [name.rpartition(".")[2]]
    for each in classes:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == each)
    return next(node for node in body if isinstance(node, Function) and node.name == last)


def names_in(node: ast.AST) -> set[str]:
    """The names that a function uses."""
    nodes = [each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute)]
    return {each.id if isinstance(each, ast.Name) else each.attr for each in nodes}


def calls_within(name: str, file: str) -> set[str]:
    """What a function calls, by itself and in the private functions of its file that it calls."""
    tree = tree_of(file)
    private = {node.name: node for node in ast.walk(tree) if isinstance(node, Function) and node.name[0] == "_"}
    called: set[str] = set()
    waiting: list[Function] = [function(name, file)]
    while waiting:
        calls = [node.func for node in ast.walk(waiting.pop()) if isinstance(node, ast.Call)]
        new = {each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in calls} - called
        called |= new
        waiting += [private[each] for each in new & private.keys()]
    return called


def path_to(caller: str) -> list[Function]:
    """The function that another is called from, and the private ones between."""
    first, *between = re.findall(r"`([\w.]+)`", re.match(r"`[\w.]+`(?: ► `\w+`)*", caller)[0])
    inside = first.rpartition(".")[0]
    return [function(name, FILES[first]) for name in (first, *(f"{inside}.{each}" for each in between))]


def test_readme_and_guide_name_the_same_seven_functions():
    """The README and CONTRIBUTING.md name one list, in one order, of seven, with nothing between two of them."""
    (sentence,) = re.findall(r"read seven functions, each called from the one before it: (.*?)\. \[", README)
    section, way_back = WALK.split("\nOn the way back", 1)
    seven = [name for name in FILES if f"| `{name}` in " in section]

    assert re.findall(r"`([\w.]+)`", sentence) == seven == list(FILES)[:7]
    assert 7 == len(seven)
    assert [[name] for name in seven[:6]] == [re.findall(r"`([\w.]+)`", caller) for _, _, caller, _ in ROWS[1:7]]
    assert 5 == len(list(FILES)[7:])
    assert all(f"| `{name}` in " in way_back for name in list(FILES)[7:])


def test_objects_are_in_their_modules():
    """Each object of the page is defined in the module that the page names."""
    rows = re.findall(r"^\| `(\w+)` \| `([\w/]+\.py)` \|", PAGE, re.MULTILINE)

    assert ["Services", "Lease", "Attempt", "ActionContext", "Outcome"] == [name for name, _ in rows]
    for name, file in rows:
        assert re.search(rf"^(class {name}\b|{name} = )", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name


@every_row(("name", "file", "caller"), [row[:3] for row in ROWS], ids=FILES)
def test_each_function_is_called_from_one_before_it(name: str, file: str, caller: str):
    """What is to be read exists, is short, and is named in the function that the guide says calls it."""
    steps = [*(path_to(caller) if caller.startswith("`") else []), function(name, file)]

    for step, following in pairwise(steps):
        assert following.name in names_in(step)
    for step in steps:
        has_docstring = ast.get_docstring(step) is not None
        assert step.end_lineno - step.body[has_docstring].lineno < SHORT
    before = list(FILES)[: list(FILES).index(name)]
    assert not before or re.match(r"`([\w.]+)`", caller)[1] in before


@every_row(("name", "does"), [(row[0], row[3]) for row in ROWS], ids=FILES)
def test_functions_beside_the_path_are_called_there(name: str, does: str):
    """Other functions that a row names are defined in the app, and called by the row's function."""
    called = calls_within(name, FILES[name])

    for each in re.findall(r"`([\w.]+)`", does):
        *_, last = each.split(".")
        assert last in DEFINED, f"{name}: {each} is not defined"
        assert last in called, f"{name} doesn't call {each}"


def test_a_call_within_a_file_is_found():
    """A call in a private function counts as its caller's; one in another function doesn't."""
    called = calls_within("Worker.process", "shared/jobs/worker.py")

    assert {"decode_queued_job", "claim", "_publish"} <= called
    assert not {"decode_job", "find_unfinished"} & called


def test_packages_of_the_page_are_the_contracts_layers():
    """The table of packages has the layers of the import contract."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    layers = [sorted(layer.split(" | ")) for layer in reversed(contract["layers"])]

    assert [(str(number), name) for number, layer in enumerate(layers, 1) for name in layer] == sorted(
        rows, key=lambda row: (int(row[0]), row[1])
    )


def test_drawing_of_the_imports_is_up_to_date():
    """The drawing of who imports whom is the one that the code gives."""
    assert PAGE == dependencies.update(PAGE, dependencies.read_graph()), f"Run `{dependencies.COMMAND}`."


def test_drawing_leaves_out_what_follows_and_nothing_else():
    """An arrow that others imply isn't drawn; following the arrows leads to every import."""
    graph = {"a": frozenset("bcd"), "b": frozenset("cd"), "c": frozenset("d"), "d": frozenset(), "e": frozenset("d")}

    assert dependencies.reduce(graph) == graph | {"a": frozenset("b"), "b": frozenset("c")}


def test_drawing_needs_its_place_on_the_page():
    """A page without the two markers is refused, with the lines that it needs."""
    with pytest.raises(ValueError, match="needs these two lines"):
        dependencies.update("# Architecture", {})

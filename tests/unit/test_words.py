"""The code uses the field's words: no private word is the name of a variable, a parameter, a function or a class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.source import parse, python_files

ROOT = Path(__file__).parents[2]
FOLDERS = ("shared", "aijobs", "local", "benchmarks", "openapi", "tests")
PRIVATE = frozenset(
    {
        *("told", "asked", "found", "said", "known", "given", "place", "one", "about", "moment", "never", "until"),
        *("bury", "put_back", "owe", "lose", "recall", "_tell", "_settle", "_goes_on", "_came_back", "_due", "_owed"),
        *("patiently", "withdraw", "most", "stands_for", "prove", "read_back", "taken_over", "nonce", "deaths"),
        *("NotNow", "Postponed", "LaneFull", "JobBusy", "Reply", "Receipt", "Asked", "Watch", "Looks", "Made", "Sums"),
        *("Final", "last_try", "ticks", "Bench", "Hold", "Claim", "Tools", "Parts", "Lane", "Lanes", "lane", "lanes"),
        *("WIDTH", "SLOTS", "KEPT", "PATIENCE_S", "SIT_OUT_S", "MOST_FAILURES", "world", "World", "doorway", "Held"),
    }
)
"""Words that house rules replaced; the glossary has the words that stand for them (docs/glossary.md)."""
TEXT_OR_COMMENT = re.compile(
    r"""["'#](?:(?<=")""(?:[^"]|"(?!""))*"{3}|(?<=")[^"\\\n]*(?:\\.[^"\\\n]*)*"|(?<=')[^'\\\n]*(?:\\.[^'\\\n]*)*'|(?<=\#)[^\n]*)"""
)
OTHERS = re.compile(r"from (?:hypothesis|typing) import [\w, ]+|@given\(|: Final\b")
"""Where many modules use words that others have named so: the module binds no name there."""
SEPARATORS = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a module binds, with their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.MatchAs(name=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name


def is_private(name: str) -> bool:
    """Whether a name is a private word, or one after underscores."""
    return name in PRIVATE or name.lstrip("_") in PRIVATE


def may_be_private(text: str) -> bool:
    """Whether a module has such a word where it may be a name: to parse them all takes longer than to look."""
    code = OTHERS.sub("", TEXT_OR_COMMENT.sub("", text))
    return any(map(is_private, set(code.translate(SEPARATORS).split())))


def test_no_name_is_a_private_word():
    """A newcomer finds the words of the field, in tests as well."""
    files = [
        ROOT / "function_app.py",
        ROOT / "dev.py",
        *(path for each in FOLDERS for path in python_files(ROOT / each)),
    ]
    private = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in files
        if may_be_private(path.read_text("utf-8"))
        for line, name in names(parse(path))
        if is_private(name)
    ]

    assert [] == private

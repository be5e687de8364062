"""
Reads Bicep files as far as the tests of the templates need: syntax, names, and what constant values come to.

It is no compiler: it knows no types, and a value that only a deployment could tell is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\'": "'", "\\\\": "\\", "\\$": "$"}


@dataclass(frozen=True)
class Module:
    """A module as it is used: its file, and the names of the parameters that it is given."""

    symbol: str
    file: Path
    given: Mapping[str, Node]


@dataclass(frozen=True)
class Bicep:
    """One file."""

    path: Path
    source: bytes

    @cached_property
    def root(self) -> Node:
        """The syntax tree."""
        # The grammar knows `param name = value`, a parameters file's way, only as `var`.
        parameters = self.path.suffix == ".bicepparam"
        source = re.sub(rb"^param(?= \w+ =)", b"var  ", self.source, flags=re.MULTILINE) if parameters else self.source
        return _PARSER.parse(source).root_node

    def faults(self) -> list[str]:
        """What can't be parsed, with its line."""
        wrong = (node for node in _all(self.root) if node.type == "ERROR" or node.is_missing)
        return [f"{self.path.name}:{node.start_point.row + 1}: {_text(node)[:60]!r}" for node in wrong]

    def declared(self, kind: str) -> dict[str, Node]:
        """The declarations of a kind (`parameter`, `variable`, `resource`, `module`, `output`) by name."""
        found = (node for node in _all(self.root) if node.type == f"{kind}_declaration")
        return {_text(_child(node, "identifier")): node for node in found}

    def required(self) -> set[str]:
        """The parameters without a default."""
        return {
            name for name, node in self.declared("parameter").items() if not any(c.type == "=" for c in node.children)
        }

    def defaults(self) -> dict[str, Any]:
        """The defaults of its parameters."""
        declared = self.declared("parameter").items()
        return {name: value(node.children[-1], {}) for name, node in declared if name not in self.required()}

    def modules(self) -> list[Module]:
        """The modules that it uses."""
        return [
            Module(
                symbol,
                (self.path.parent / str(value(_child(node, "string"), {}))).resolve(),
                members(members(_body(node)).get("params")),
            )
            for symbol, node in self.declared("module").items()
        ]

    def resources(self) -> list[tuple[str, Node]]:
        """The resources that it makes: type with version, and body. Not those that it only finds (`existing`)."""
        made = (n for n in self.declared("resource").values() if not any(c.type == "existing" for c in n.children))
        return [(str(value(_child(node, "string"), {})), _body(node)) for node in made]

    def variables(self, **known: Any) -> dict[str, Any]:
        """The values of its variables, where they are constant; `known` are parameters' values."""
        names: dict[str, Any] = {**known, "": self.path.parent}
        for name, node in self.declared("variable").items():
            names[name] = value(node.children[-1], names)
        return names

    def descriptions(self) -> dict[str, str]:
        """What is said of each parameter."""
        told: dict[str, str] = {}
        for node, following in zip(self.root.children, self.root.children[1:], strict=False):
            if node.type == "decorators" and following.type == "parameter_declaration":
                calls = [each for each in _all(node) if each.type == "call_expression"]
                for call in calls:
                    if _text(_child(call, "identifier")) == "description":
                        told[_text(_child(following, "identifier"))] = str(value(_arguments(call)[0], {}))
        return told


def read(path: Path) -> Bicep:
    """A file, read."""
    return Bicep(path, path.read_bytes())


def value(node: Node | None, names: Mapping[str, Any]) -> Any:
    """What an expression comes to with `names` (`""` is the folder of its file), or None."""
    found = None
    match node.type if node is not None else "":
        case "string":
            found = "".join(_piece(part, names) for part in node.children[1:-1])
        case "number":
            found = int(_text(node))
        case "boolean":
            found = _text(node) == "true"
        case "identifier":
            found = names.get(_text(node))
        case "array":
            found = [value(item, names) for item in node.named_children]
        case "object":
            found = {name: value(each, names) for name, each in members(node).items()}
        case "ternary_expression":
            found = value(node.named_children[1 if value(node.named_children[0], names) else 2], names)
        case "call_expression":
            found = _called(_text(_child(node, "identifier")), [value(a, names) for a in _arguments(node)], names)
    return found


def members(node: Node | None) -> dict[str, Node]:
    """The members of an object."""
    if node is None or node.type != "object":
        return {}
    # A resource that stands in another one's body is no member of it.
    pairs = [each for each in node.named_children if each.type == "object_property" and each.named_child_count > 1]
    return {_text(pair.named_children[0]).strip("'"): pair.named_children[1] for pair in pairs}


def _called(function: str, given: list[Any], names: Mapping[str, Any]) -> Any:
    if function == "loadTextContent":
        return (names[""] / given[0]).read_text()
    if function == "union":
        return list(dict.fromkeys(item for items in given for item in items or []))
    if function == "empty":
        return not given[0]
    if function == "join":
        return given[1].join(given[0])
    if function == "string":
        return str(given[0]).lower() if isinstance(given[0], bool) else str(given[0])
    return None


def _piece(node: Node, names: Mapping[str, Any]) -> str:
    if node.type == "escape_sequence":
        return _ESCAPES[_text(node)]
    if node.type == "interpolation":
        found = value(node.named_children[0], names)
        return "${}" if found is None else str(found)
    return _text(node)


def _body(node: Node) -> Node:
    last = node.children[-1]
    while last.type in {"if_statement", "for_statement"}:
        last = last.named_children[-1]
    return last


def _arguments(call: Node) -> list[Node]:
    return _child(call, "arguments").named_children


def _child(node: Node, kind: str) -> Node:
    return next(child for child in node.children if child.type == kind)


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _all(child)


def _text(node: Node) -> str:
    return (node.text or b"").decode()

"""
Reads Bicep files as far as the tests of the templates need: syntax, names, and the values of constant expressions.

It isn't a compiler: it doesn't know types, and a value that only a deployment knows is None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\'": "'", "\\\\": "\\", "\\$": "$"}


@dataclass(frozen=True)
class Module:
    """A use of a module: its symbol, its file, and the parameters that are passed to it."""

    symbol: str
    file: Path
    params: Mapping[str, Node]


@dataclass(frozen=True)
class Bicep:
    """One file."""

    path: Path
    source: bytes

    @cached_property
    def root(self) -> Node:
        """The syntax tree."""
        # The grammar knows a parameters file's `param name = value` only as `var`.
        is_parameters = self.path.suffix == ".bicepparam"
        source = (
            re.sub(rb"^param(?= \w+ =)", b"var  ", self.source, flags=re.MULTILINE) if is_parameters else self.source
        )
        return _PARSER.parse(source).root_node

    def syntax_errors(self) -> list[str]:
        """What can't be parsed, with its line."""
        errors = (node for node in _all(self.root) if node.type == "ERROR" or node.is_missing)
        return [f"{self.path.name}:{node.start_point.row + 1}: {_text(node)[:60]!r}" for node in errors]

    def declarations(self, kind: str) -> dict[str, Node]:
        """The declarations of a kind (`parameter`, `variable`, `resource`, `module`, `output`) by name."""
        nodes = (node for node in _all(self.root) if node.type == f"{kind}_declaration")
        return {_text(_child(node, "identifier")): node for node in nodes}

    def required(self) -> set[str]:
        """The names of the parameters without a default."""
        parameters = self.declarations("parameter").items()
        return {name for name, node in parameters if not any(child.type == "=" for child in node.children)}

    def defaults(self) -> dict[str, Any]:
        """The defaults of its parameters."""
        parameters = self.declarations("parameter").items()
        return {name: value(node.children[-1], {}) for name, node in parameters if name not in self.required()}

    def modules(self) -> list[Module]:
        """The modules that it uses."""
        return [
            Module(
                symbol,
                (self.path.parent / str(value(_child(node, "string"), {}))).resolve(),
                members(members(_body(node)).get("params")),
            )
            for symbol, node in self.declarations("module").items()
        ]

    def resources(self) -> list[tuple[str, Node]]:
        """The resources that it creates: type with version, and body; without those that it refers to (`existing`)."""
        nodes = self.declarations("resource").values()
        created = (node for node in nodes if not any(child.type == "existing" for child in node.children))
        return [(str(value(_child(node, "string"), {})), _body(node)) for node in created]

    def variables(self, **parameters: Any) -> dict[str, Any]:
        """The values of its variables, if constant, and of `parameters`."""
        names: dict[str, Any] = {**parameters, "": self.path.parent}
        for name, node in self.declarations("variable").items():
            names[name] = value(node.children[-1], names)
        return names

    def descriptions(self) -> dict[str, str]:
        """The description of each parameter that has one."""
        texts: dict[str, str] = {}
        for node, following in zip(self.root.children, self.root.children[1:], strict=False):
            if node.type == "decorators" and following.type == "parameter_declaration":
                calls = [each for each in _all(node) if each.type == "call_expression"]
                for call in calls:
                    if _text(_child(call, "identifier")) == "description":
                        texts[_text(_child(following, "identifier"))] = str(value(_arguments(call)[0], {}))
        return texts


def read(path: Path) -> Bicep:
    """Reads a file."""
    return Bicep(path, path.read_bytes())


def value(node: Node | None, names: Mapping[str, Any]) -> Any:  # noqa: C901  # one case a kind of expression
    """The value of an expression, with the values of `names` (`""` is the folder of its file); None if not constant."""
    result: Any
    match node.type if node is not None else "":
        case "string":
            result = "".join(_piece(part, names) for part in node.children[1:-1])
        case "number":
            result = int(_text(node))
        case "boolean":
            result = _text(node) == "true"
        case "identifier":
            result = names.get(_text(node))
        case "array":
            result = [value(item, names) for item in node.named_children]
        case "object":
            result = {name: value(each, names) for name, each in members(node).items()}
        case "ternary_expression":
            result = value(node.named_children[1 if value(node.named_children[0], names) else 2], names)
        case "lambda_expression":
            parameter, body = node.named_children
            result = partial(_apply, body, names, _text(parameter))
        case "call_expression":
            result = _call(_text(_child(node, "identifier")), [value(each, names) for each in _arguments(node)], names)
        case "member_expression":
            result = _member(value(node.named_children[0], names), _text(node.named_children[1]))
        case _:
            result = None
    return result


def members(node: Node | None) -> dict[str, Node]:
    """The members of an object; of anything else, none."""
    if node is None or node.type != "object":
        return {}
    # A nested resource in a resource's body isn't a member of it.
    pairs = [each for each in node.named_children if each.type == "object_property" and each.named_child_count > 1]
    return {_text(pair.named_children[0]).strip("'"): pair.named_children[1] for pair in pairs}


def _member(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else None


def _apply(body: Node, names: Mapping[str, Any], parameter: str, argument: Any) -> Any:
    """The value of a lambda's body for one argument."""
    return value(body, {**names, parameter: argument})


def _call(function: str, arguments: list[Any], names: Mapping[str, Any]) -> Any:
    if function == "loadTextContent":
        return (names[""] / arguments[0]).read_text()
    try:
        return _FUNCTIONS[function](*arguments)
    except (KeyError, TypeError, AttributeError):  # another function, or an argument that only a deployment knows
        return None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "union": lambda *lists: list(dict.fromkeys(item for items in lists for item in items or [])),
    "empty": lambda text: not text,
    "join": lambda texts, separator: separator.join(texts),
    "split": lambda text, separator: text.split(separator),
    "json": json.loads,
    "filter": lambda items, function: [item for item in items if function(item)],
    "contains": lambda item, name: name in item,
    "map": lambda items, function: [function(item) for item in items],
    "last": lambda items: items[-1],
    "trim": lambda text: text.strip(),
    "string": lambda item: str(item).lower() if isinstance(item, bool) else str(item),
}


def _piece(node: Node, names: Mapping[str, Any]) -> str:
    if node.type == "escape_sequence":
        return _ESCAPES[_text(node)]
    if node.type == "interpolation":
        content = value(node.named_children[0], names)
        return "${}" if content is None else str(content)
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

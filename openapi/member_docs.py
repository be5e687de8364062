"""What a member of a type is for: the docstring below it in the source. Python keeps these out of the running code."""

from __future__ import annotations

import ast
import inspect
import textwrap

import msgspec


def member_docs(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The docstrings of the members of `kind`, by the members' names in JSON."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)  # noqa: S101  # for mypy: it is the source of a class
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    docs = {}
    for member, doc in zip(node.body, node.body[1:], strict=False):
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name) and isinstance(doc, ast.Expr):
            text = ast.literal_eval(doc.value)
            docs[names[member.target.id]] = " ".join(inspect.cleandoc(text).split())
    return docs

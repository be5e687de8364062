"""Tools of chat completions as the Responses API takes them, and their calls both ways. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidJob

_WORDS = frozenset({"auto", "none", "required"})
_KINDS = ("function", "custom")
_CALLS = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
"""Items that call a tool: the tool's kind, and the member that has its input."""
_NO_PARAMETERS = {"type": "object", "properties": {}}


def read_tools(tools: Any) -> list[dict[str, Any]]:
    """Return a job's `tools`: functions and custom tools, each with the members of its description beside its type."""
    if not isinstance(tools, list):
        raise InvalidJob("`parameters.tools` must be a list of objects.")
    return [_tool(tool, f"parameters.tools[{index}]") for index, tool in enumerate(tools)]


def read_tool_choice(choice: Any) -> str | dict[str, Any]:
    """Return a job's `tool_choice`."""
    if isinstance(choice, str) and choice in _WORDS:
        return choice
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind in _KINDS and (name := _described(choice, kind).get("name")):
        return {"type": kind, "name": name}
    allowed = choice.get("allowed_tools") if kind == "allowed_tools" else None
    if isinstance(allowed, Mapping) and isinstance(allowed.get("tools"), list):
        return {**allowed, "type": kind, "tools": [_named(tool) for tool in allowed["tools"]]}
    raise InvalidJob(
        "`parameters.tool_choice` must be auto, none, required, one function or custom tool, or the allowed tools."
    )


def read_tool_calls(calls: Any, here: str) -> list[dict[str, Any]]:
    """Return an assistant's `tool_calls` as items."""
    if not isinstance(calls, list):
        raise InvalidJob(f"`{here}` must be a list of tool calls.")
    return [_item(call, f"{here}[{index}]") for index, call in enumerate(calls)]


def as_tool_call(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an item of an answer as a tool call of a chat completion; None if it calls none of the job's tools."""
    kind, member = _CALLS.get(str(item.get("type")), ("", ""))
    if not kind:
        return None
    return {"id": item.get("call_id"), "type": kind, kind: {"name": item.get("name"), member: item.get(member)}}


def _tool(tool: Any, here: str) -> dict[str, Any]:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    described = _described(tool, kind) if kind in _KINDS else {}
    if not isinstance(described.get("name"), str):
        raise InvalidJob(
            f"`{here}` must be a function or a custom tool with a `name`: a chat has no others. The action respond has "
            "the tools of the Responses API."
        )
    if kind == "function":
        # There, a function is strict unless it says otherwise.
        strict, parameters = bool(described.get("strict")), described.get("parameters") or _NO_PARAMETERS
        return {**described, "type": kind, "parameters": parameters, "strict": strict}
    form = described.get("format")
    grammar = form.get("grammar") if isinstance(form, Mapping) else None
    if isinstance(grammar, Mapping):
        return {**described, "type": kind, "format": {**grammar, "type": "grammar"}}
    return {**described, "type": kind}


def _described(tool: Mapping[str, Any], kind: Any) -> Mapping[str, Any]:
    described = tool.get(kind)
    return described if isinstance(described, Mapping) else {}


def _named(tool: Any) -> Any:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    return {"type": kind, "name": _described(tool, kind).get("name")} if kind in _KINDS else tool


def _item(call: Any, here: str) -> dict[str, Any]:
    wanted = call.get("type", "function") if isinstance(call, Mapping) else None
    for item, (kind, member) in _CALLS.items():
        described = _described(call, kind) if kind == wanted else {}
        text = described.get(member)
        if isinstance(described.get("name"), str) and isinstance(text, str):
            return {"type": item, "call_id": call.get("id"), "name": described["name"], member: text}
    raise InvalidJob(f"`{here}` must be the call of a function or of a custom tool, with its `name` and its input.")

"""Tools of chat completions as Claude takes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from shared.contract.decoding import UNREADABLE, json_value
from shared.errors import InvalidJob

_CHOICES = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}
_OF_TOOL = ("cache_control", "strict")
"""Members of a tool that Claude has, too: `cache_control` beside the function, `strict` in it."""
_ODD = re.compile("[^a-zA-Z0-9_-]")
_NO_PARAMETERS = {"type": "object", "properties": {}}


def read_tools(tools: Any) -> list[dict[str, Any]]:
    """Return a job's `tools`. Those of Claude's own types, such as its web search, stay as they are."""
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidJob("`parameters.tools` must be a list of objects.")
    return [_tool(tool, f"parameters.tools[{index}]") for index, tool in enumerate(tools)]


def read_tool_choice(wanted: Mapping[str, Any], body: dict[str, Any]) -> None:
    """Set `tool_choice`, which also says whether tools may be called side by side."""
    choice = wanted.get("tool_choice")
    if choice is not None:
        body["tool_choice"] = _choice(choice)
    if wanted.get("parallel_tool_calls") is False and body.get("tools"):
        choice = body.get("tool_choice", _CHOICES["auto"])
        body["tool_choice"] = choice if choice["type"] == "none" else {**choice, "disable_parallel_tool_use": True}


def read_tool_calls(calls: Any, here: str) -> list[dict[str, Any]]:
    """Return an assistant's `tool_calls` as blocks."""
    if not isinstance(calls, list):
        raise InvalidJob(f"`{here}` must be a list of tool calls.")
    return [_tool_use(call, f"{here}[{index}]") for index, call in enumerate(calls)]


def as_tool_call(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block of an answer that calls a tool as a tool call of a chat completion."""
    arguments = msgspec.json.encode(block.get("input") or {}).decode()
    function = {"name": block.get("name"), "arguments": arguments}
    return {"id": block.get("id"), "type": "function", "function": function}


def tool_id(value: Any) -> Any:
    """Return the id of a call as Claude takes it: some models' have other characters, such as `functions.find:0`."""
    return _ODD.sub("_", value) if isinstance(value, str) else value


def _tool(tool: Mapping[str, Any], here: str) -> dict[str, Any]:
    if tool.get("type") != "function" and ("input_schema" in tool or "custom" not in tool):
        return dict(tool)
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidJob(f"`{here}` must be a function with a `name`: Claude takes no other tools of OpenAI's.")
    own = {name: value for name in _OF_TOOL if (value := tool.get(name, function.get(name))) is not None}
    description = {"description": function["description"]} if function.get("description") else {}
    return {
        "name": function["name"],
        **description,
        "input_schema": function.get("parameters") or _NO_PARAMETERS,
        **own,
    }


def _choice(choice: Any) -> dict[str, Any]:
    if isinstance(choice, str) and choice in _CHOICES:
        return dict(_CHOICES[choice])
    if isinstance(choice, Mapping):
        function = choice.get("function")
        if choice.get("type") == "function" and isinstance(function, Mapping) and function.get("name"):
            return {"type": "tool", "name": function["name"]}
        if choice.get("type") in {"auto", "any", "none", "tool"}:  # Claude's own
            return dict(choice)
    raise InvalidJob("`parameters.tool_choice` must be auto, none, required or one function for Claude.")


def _tool_use(call: Any, here: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise InvalidJob(f"`{here}` must be the call of a function: Claude takes no other.")
    text = function.get("arguments") or "{}"
    try:
        arguments = json_value(text.encode()) if isinstance(text, str) else text
    except UNREADABLE:
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidJob(f"`{here}.function.arguments` must be an object in JSON.")
    own = {"cache_control": call["cache_control"]} if call.get("cache_control") else {}
    return {"type": "tool_use", "id": tool_id(call.get("id")), "name": function.get("name"), "input": arguments, **own}

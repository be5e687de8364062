"""Bodies of requests checked by the types of OpenAI's own SDK: a second opinion on what goes to the Responses API."""

from __future__ import annotations

from typing import Any, get_type_hints

from openai.types.responses import (
    CustomToolParam,
    EasyInputMessageParam,
    FunctionToolParam,
    ResponseCustomToolCallOutputParam,
    ResponseCustomToolCallParam,
    ResponseFormatTextConfigParam,
    ResponseFunctionToolCallParam,
    ResponseInputFileParam,
    ResponseInputImageParam,
    ResponseInputTextParam,
    ResponseReasoningItemParam,
    ResponseTextConfigParam,
    ToolChoiceAllowedParam,
    ToolChoiceCustomParam,
    ToolChoiceFunctionParam,
)
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_input_item_param import FunctionCallOutput
from openai.types.shared_params import Reasoning
from pydantic import TypeAdapter

_ITEMS: dict[str, Any] = {
    "message": EasyInputMessageParam,
    "function_call": ResponseFunctionToolCallParam,
    "custom_tool_call": ResponseCustomToolCallParam,
    "function_call_output": FunctionCallOutput,
    "custom_tool_call_output": ResponseCustomToolCallOutputParam,
    "reasoning": ResponseReasoningItemParam,
}
_PARTS: dict[str, Any] = {
    "input_text": ResponseInputTextParam,
    "input_image": ResponseInputImageParam,
    "input_file": ResponseInputFileParam,
}
_TOOLS: dict[str, Any] = {"function": FunctionToolParam, "custom": CustomToolParam}
_CHOICES: dict[str, Any] = {
    "function": ToolChoiceFunctionParam,
    "custom": ToolChoiceCustomParam,
    "allowed_tools": ToolChoiceAllowedParam,
}
_OBJECTS: dict[str, Any] = {"text": ResponseTextConfigParam, "reasoning": Reasoning}


def check_request(body: dict[str, Any]) -> None:
    """Fail unless the SDK's types have every member of a request, and take its value."""
    unknown = body.keys() - get_type_hints(ResponseCreateParamsNonStreaming).keys()
    assert not unknown, f"members that the SDK does not know: {unknown}"
    plain = {name: value for name, value in body.items() if name != "input"}
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python({"model": "m", **plain})
    for name, kind in _OBJECTS.items():
        if name in body:
            _check(kind, body[name])
    if (form := body.get("text", {}).get("format")) is not None:
        TypeAdapter(ResponseFormatTextConfigParam).validate_python(form)
    for tool in body.get("tools", ()):
        _check(_TOOLS[tool["type"]], tool)
    if isinstance(choice := body.get("tool_choice"), dict):
        _check(_CHOICES[choice["type"]], choice)
    for item in body["input"]:
        check_item(item)


def check_item(item: dict[str, Any]) -> None:
    """Fail unless the SDK's types have such an item."""
    _check(_ITEMS[item.get("type", "message")], item)
    parts = item.get("content") if "role" in item else item.get("output")
    for part in parts if isinstance(parts, list) else ():
        _check(_PARTS[part["type"]], part)


def _check(kind: Any, value: dict[str, Any]) -> None:
    TypeAdapter(kind).validate_python(value)
    assert value.keys() <= get_type_hints(kind).keys(), value

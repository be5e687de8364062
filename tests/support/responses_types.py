"""Bodies of requests checked by the types of OpenAI's own SDK: a second opinion on what goes to the Responses API."""

from __future__ import annotations

from typing import Any

from tests.support.sdk_types import adapter, members, sdk_type

# The types by name: what loads them is a test.
_ITEMS: dict[str, str] = {
    "message": "responses.EasyInputMessageParam",
    "function_call": "responses.ResponseFunctionToolCallParam",
    "custom_tool_call": "responses.ResponseCustomToolCallParam",
    "function_call_output": "responses.response_input_item_param:FunctionCallOutput",
    "custom_tool_call_output": "responses.ResponseCustomToolCallOutputParam",
    "reasoning": "responses.ResponseReasoningItemParam",
}
_PARTS: dict[str, str] = {
    "input_text": "responses.ResponseInputTextParam",
    "input_image": "responses.ResponseInputImageParam",
    "input_file": "responses.ResponseInputFileParam",
}
_TOOLS: dict[str, str] = {
    "function": "responses.FunctionToolParam",
    "custom": "responses.CustomToolParam",
}
_CHOICES: dict[str, str] = {
    "function": "responses.ToolChoiceFunctionParam",
    "custom": "responses.ToolChoiceCustomParam",
    "allowed_tools": "responses.ToolChoiceAllowedParam",
}
_OBJECTS: dict[str, str] = {
    "text": "responses.ResponseTextConfigParam",
    "reasoning": "shared_params.Reasoning",
}


def check_request(body: dict[str, Any]) -> None:
    """Fail unless the SDK's types have every member of a request, and take its value."""
    whole = sdk_type("openai", "responses.response_create_params:ResponseCreateParamsNonStreaming")
    unknown = body.keys() - members(whole)
    assert not unknown, f"members that the SDK does not know: {unknown}"
    plain = {name: value for name, value in body.items() if name != "input"}
    adapter(whole).validate_python({"model": "m", **plain})
    for name, kind in _OBJECTS.items():
        if name in body:
            _check(kind, body[name])
    if (form := body.get("text", {}).get("format")) is not None:
        adapter(sdk_type("openai", "responses.ResponseFormatTextConfigParam")).validate_python(form)
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


def _check(name: str, value: dict[str, Any]) -> None:
    kind = sdk_type("openai", name)
    adapter(kind).validate_python(value)
    assert value.keys() <= members(kind), value

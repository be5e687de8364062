"""Bodies of requests checked by the types of Anthropic's own SDK: a second opinion on what is sent to Claude."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from tests.support.sdk_types import adapter, members, sdk_type

# The types by name: what loads them is a test.
_BLOCKS: dict[str, str] = {
    "text": "TextBlockParam",
    "image": "ImageBlockParam",
    "document": "DocumentBlockParam",
    "tool_use": "ToolUseBlockParam",
    "tool_result": "ToolResultBlockParam",
    "thinking": "ThinkingBlockParam",
    "redacted_thinking": "RedactedThinkingBlockParam",
}
_SOURCES: dict[str, str] = {
    "base64": "Base64ImageSourceParam",
    "url": "URLImageSourceParam",
}
_OWN: dict[str, str] = {
    "metadata": "MetadataParam",
    "output_config": "OutputConfigParam",
    "tool_choice": "ToolChoiceParam",
}
_OLDER = {"temperature", "top_p", "top_k"}
"""Parameters that the SDK's version of the API has no more, and the version that we send has."""


def check_request(body: dict[str, Any]) -> None:
    """Fail unless the SDK's types have every member of a request, and take its value; nor may two turns be alike."""
    unknown = body.keys() - members(_type("message_create_params:MessageCreateParamsNonStreaming")) - _OLDER
    assert not unknown, f"members that the SDK does not know: {unknown}"
    for name, kind in _OWN.items():
        if name in body:
            adapter(_type(kind)).validate_python(body[name])
    for tool in body.get("tools", ()):
        _check("ToolParam", tool)
    for block in body.get("system", ()):
        _check("TextBlockParam", block)
    roles = [message["role"] for message in body["messages"]]
    assert all(before != after for before, after in pairwise(roles)), roles
    assert set(roles) <= {"user", "assistant"}
    for message in body["messages"]:
        assert message.keys() == {"role", "content"}
        for block in message["content"]:
            check_block(block)
    last = body["messages"][-1]
    if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
        text = last["content"][-1]["text"]
        assert text == text.rstrip(), "Claude refuses to go on after white space"


def check_block(block: dict[str, Any]) -> None:
    """Fail unless the SDK's types have such a block."""
    _check(_BLOCKS[block["type"]], block)
    if block["type"] == "image":
        _check(_SOURCES[block["source"]["type"]], block["source"])
    if block["type"] == "tool_result" and isinstance(block["content"], list):
        for part in block["content"]:
            check_block(part)
    assert block["type"] != "text" or block["text"].strip(), "Claude refuses a blank text"


def _check(name: str, value: dict[str, Any]) -> None:
    kind = _type(name)
    adapter(kind).validate_python(value)
    assert value.keys() <= members(kind), value


def _type(name: str) -> Any:
    return sdk_type("anthropic", name)

"""
Messages of chat completions as the items of the Responses API. Pure.

A tool's calls and results are items of their own. So is a model's reasoning, which a message has in `reasoning_items`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.actions.responses_tools import read_tool_calls
from shared.errors import InvalidJob

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_READ = frozenset(
    {
        *("role", "content", "tool_calls", "tool_call_id", "refusal", "phase"),
        *("reasoning_items", "reasoning_content", "output_items", "annotations"),
    }
)
"""Members of a message that are read, or that only an answer has."""
_REFUSED = {"input_audio": "sound", "video_url": "video"}
_IN_ANSWERS = {"text": "text", "output_text": "text", "refusal": "refusal"}
"""Parts of an answer, and the member of each that has its text."""
_FILE = ("file_data", "file_id", "filename")
_EMPTY: tuple[Any, ...] = (None, "", [], {})


def read_items(messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return OpenAI's messages as items, and how they were changed. Raises InvalidJob for what the API can't read."""
    items: list[dict[str, Any]] = []
    changes: dict[str, None] = {}
    for index, message in enumerate(messages):
        here, role = f"messages[{index}]", message["role"]
        if role not in _ROLES:
            raise InvalidJob(f"`{here}.role` must be system, developer, user, assistant or tool.")
        for name in sorted(message.keys() - _READ):
            if message[name] not in _EMPTY:
                changes[_left_out(name, here)] = None
        if role == "assistant":
            items += _answer(message, here)
        elif role == "tool":
            items.append(_tool_result(message, here, items))
        else:
            items.append({"role": role, "content": _content(message.get("content"), here)})
    return items, list(changes)


def _left_out(name: str, here: str) -> str:
    if name in {"function_call", "audio"}:
        raise InvalidJob(
            f"`{here}.{name}` can't be sent to the Responses API, which the model needs: use `tool_calls` for calls, "
            "and text for sound."
        )
    return f"messages[].{name[:60]} was left out"


def _answer(message: Mapping[str, Any], here: str) -> list[dict[str, Any]]:
    """Return an earlier answer: its reasoning, which the model needs again after tool calls, its text and its calls."""
    reasoning = message.get("reasoning_items")
    # Nothing is stored, so the provider has no reasoning but what comes with it, encrypted.
    items = [dict(item) for item in reasoning if _is_whole(item)] if isinstance(reasoning, list) else []
    text = _answer_text(message.get("content"), here)
    if isinstance(refusal := message.get("refusal"), str):
        text += refusal
    if text:
        phase = {"phase": message["phase"]} if message.get("phase") else {}
        items.append({"role": "assistant", "content": text, **phase})
    if message.get("tool_calls"):
        items += read_tool_calls(message["tool_calls"], f"{here}.tool_calls")
    return items


def _is_whole(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning" and bool(item.get("encrypted_content"))


def _answer_text(content: Any, here: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content or []):
        member = _IN_ANSWERS.get(part.get("type"))
        text = part.get(member) if member else None
        if not isinstance(text, str):
            raise InvalidJob(f"`{here}.content[{index}]` must be a text: an answer has no other parts.")
        texts.append(text)
    return "".join(texts)


def _tool_result(message: Mapping[str, Any], here: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    call_id = message.get("tool_call_id")
    kinds = (item["type"] for item in items if item.get("call_id") == call_id and call_id is not None)
    kind = "custom_tool_call_output" if next(kinds, "") == "custom_tool_call" else "function_call_output"
    return {"type": kind, "call_id": call_id, "output": _content(message.get("content"), here)}


def _content(content: Any, here: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [_part(part, f"{here}.content[{index}]") for index, part in enumerate(content or [])]


def _part(part: Mapping[str, Any], here: str) -> dict[str, Any]:
    kind = part["type"]
    rest = {name: value for name, value in part.items() if name not in {"type", kind}}
    if kind == "text":
        return {**rest, "type": "input_text", "text": part.get("text")}
    if kind == "refusal":
        return {**rest, "type": "input_text", "text": part.get("refusal")}
    if kind == "image_url":
        return {**rest, "type": "input_image", **_image(part.get("image_url"), here)}
    if kind == "file":
        file = part.get("file")
        file = file if isinstance(file, Mapping) else {}
        return {**rest, "type": "input_file", **{name: file[name] for name in _FILE if file.get(name) is not None}}
    what = _REFUSED.get(kind)
    raise InvalidJob(
        f"`{here}` has the type {kind[:60]}, and the Responses API, which the model needs, takes "
        + (f"no {what}." if what else "text, image_url and file in a chat.")
    )


def _image(image: Any, here: str) -> dict[str, Any]:
    members = image if isinstance(image, Mapping) else {"url": image}
    url = members.get("url")
    if not isinstance(url, str):
        raise InvalidJob(f"`{here}.image_url.url` must be an https URL or a data URL.")
    return {"image_url": url, "detail": members.get("detail") or "auto"}

"""
Messages of chat completions as Claude takes them. Pure.

Claude knows two roles, which take turns. System messages stand apart, and the results of tools are the user's. Blocks
of Claude's own types, and `cache_control` on any part or message, stay as they are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.actions.claude_tools import read_tool_calls, tool_id
from shared.errors import InvalidJob

_SYSTEM = frozenset({"system", "developer"})
_DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
_PDF = "application/pdf"
_STARTS = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
    "JVBERi0": _PDF,
}
"""
How data begins in base64, and what it is: others look at it alone, and take `image/jpg` or a JPEG that is called PNG,
which Claude refuses.
"""
_READ = frozenset(
    {
        *("role", "content", "cache_control", "tool_calls", "tool_call_id", "is_error", "refusal"),
        *("thinking_blocks", "content_blocks", "reasoning_content", "annotations"),
    }
)
"""Members of a message that are read, or that only an answer has."""
_REFUSED = {"input_audio": "sound", "video_url": "video"}
_UNCACHED = (None, "thinking", "redacted_thinking")
"""Types of blocks that can't have `cache_control`."""
_EMPTY: tuple[Any, ...] = (None, "", [], {})


@dataclass(slots=True)
class Conversation:
    """The messages of a request, and what stands apart from them."""

    system: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)

    def note(self, change: str) -> None:
        """Note once how the messages were changed."""
        if change not in self.adapted:
            self.adapted.append(change)

    def add(self, role: str, blocks: list[dict[str, Any]]) -> None:
        """Add blocks to the conversation: to its last message, if that has the same role."""
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})


def read_conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Return OpenAI's messages as Claude's. Raises InvalidJob for what Claude can't read, and names it."""
    result = Conversation()
    for index, message in enumerate(messages):
        here, role = f"messages[{index}]", message["role"]
        for name in sorted(message.keys() - _READ):
            if message[name] not in _EMPTY:
                _leave_out(name, here, result)
        if role in _SYSTEM:
            if result.messages:
                result.note(f"a later {role} message became a part of the first")
            result.system += _blocks(message, here, result)
        elif role == "user":
            result.add("user", _blocks(message, here, result))
        elif role == "assistant":
            _add_answer(message, here, result)
        elif role == "tool":
            result.add("user", [_tool_result(message, here, result)])
        else:
            raise InvalidJob(f"`{here}.role` must be system, developer, user, assistant or tool for Claude.")
    if not result.messages:
        result.add("user", result.system)
        result.system = []
        result.note("the system message became the user's")
    _trim_end(result)
    return result


def _trim_end(result: Conversation) -> None:
    """Claude goes on with an answer that comes last, but not if it ends in white space."""
    role, blocks = result.messages[-1]["role"], result.messages[-1]["content"]
    last: Any = blocks[-1] if role == "assistant" and blocks else None
    text = last.get("text") if isinstance(last, dict) and last.get("type") == "text" else None
    if isinstance(text, str) and text != text.rstrip():
        blocks[-1] = {**last, "text": text.rstrip()}
        result.note("white space at the end of the last message was left out")


def _leave_out(name: str, here: str, result: Conversation) -> None:
    if name in {"function_call", "audio"}:
        raise InvalidJob(f"`{here}.{name}` can't be sent to Claude: use `tool_calls` for calls, and text for sound.")
    result.note(f"messages[].{name} was left out")


def _add_answer(message: Mapping[str, Any], here: str, result: Conversation) -> None:
    """Add an earlier answer: its thinking, which the model needs again if it calls tools, its text and its calls."""
    whole = message.get("content_blocks")
    if isinstance(whole, list):
        result.add("assistant", _with_cache_control(_without_blanks(whole), message))
        return
    thinking = message.get("thinking_blocks")
    blocks = _blocks({"content": message.get("content")}, here, result)
    if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
        blocks.append({"type": "text", "text": refusal})
    if message.get("tool_calls"):
        blocks += read_tool_calls(message["tool_calls"], f"{here}.tool_calls")
    blocks = [*(thinking if isinstance(thinking, list) else ()), *_with_cache_control(blocks, message)]
    if blocks:  # Claude refuses a message of nothing, which OpenAI takes
        result.add("assistant", blocks)


def _tool_result(message: Mapping[str, Any], here: str, result: Conversation) -> dict[str, Any]:
    own = {name: message[name] for name in ("is_error", "cache_control") if message.get(name)}
    content = message.get("content")
    blocks = content if isinstance(content, str) else _blocks({"content": content}, here, result)
    return {"type": "tool_result", "tool_use_id": tool_id(message.get("tool_call_id")), "content": blocks, **own}


def _blocks(message: Mapping[str, Any], here: str, result: Conversation) -> list[dict[str, Any]]:
    """Return a message's content as blocks, none of them a blank text."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    blocks = [_block(part, f"{here}.content[{index}]", result) for index, part in enumerate(parts)]
    return _with_cache_control(_without_blanks(blocks), message)


def _without_blanks(blocks: list[Any]) -> list[Any]:
    """Return blocks without texts of nothing but white space, which Claude refuses."""
    return [block for block in blocks if not (isinstance(block, dict) and _is_blank(block))]


def _is_blank(block: Mapping[str, Any]) -> bool:
    text = block.get("text")
    return block.get("type") == "text" and (not text or (isinstance(text, str) and text.isspace()))


def _with_cache_control(blocks: list[Any], message: Mapping[str, Any]) -> list[Any]:
    """Return a message's blocks, the last of which has the message's `cache_control`, if it has one."""
    kind = blocks[-1].get("type") if blocks and isinstance(blocks[-1], dict) else None
    if not message.get("cache_control") or kind in _UNCACHED:
        return list(blocks)
    return [*blocks[:-1], {**blocks[-1], "cache_control": message["cache_control"]}]


def _block(part: Mapping[str, Any], here: str, result: Conversation) -> dict[str, Any]:
    kind = part.get("type")
    cached = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
    if kind == "image_url":
        return {"type": "image", "source": _source(part, here, result), **cached}
    if kind == "file":
        return {**_document(part, here), **cached}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal"), **cached}
    if kind in _REFUSED:
        raise InvalidJob(f"`{here}` has the type {kind}, and Claude takes no {_REFUSED[kind]}.")
    return dict(part)


def _source(part: Mapping[str, Any], here: str, result: Conversation) -> dict[str, Any]:
    image = part.get("image_url")
    image = image if isinstance(image, Mapping) else {"url": image}
    if image.get("detail") not in (None, "auto"):
        result.note("image_url.detail was left out")
    url = image.get("url")
    if not isinstance(url, str):
        raise InvalidJob(f"`{here}.image_url.url` must be an https URL or a data URL.")
    return _base64(url, f"{here}.image_url.url") if url[:5].lower() == "data:" else {"type": "url", "url": url}


def _document(part: Mapping[str, Any], here: str) -> dict[str, Any]:
    file = part.get("file")
    file = file if isinstance(file, Mapping) else {}
    data = file.get("file_data")
    if not isinstance(data, str):
        raise InvalidJob(f"`{here}.file` needs `file_data` with a data URL: Claude can't read files stored at OpenAI.")
    title = {"title": file["filename"]} if file.get("filename") else {}
    return {"type": "document", "source": _document_source(data, f"{here}.file.file_data"), **title}


def _document_source(url: str, here: str) -> dict[str, Any]:
    source = _base64(url, here)
    if source["media_type"] == _PDF:
        return source
    if not source["media_type"].startswith("text/"):
        raise InvalidJob(f"`{here}` must be a PDF or a text: Claude reads no other documents.")
    try:
        text = base64.b64decode(source["data"], validate=True).decode("utf-8-sig")
    except ValueError:
        raise InvalidJob(f"`{here}` must be the base64 of a text in UTF-8.") from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _base64(url: str, here: str) -> dict[str, Any]:
    match = _DATA_URL.match(url)
    if match is None:
        raise InvalidJob(f"`{here}` must be a data URL with a media type and base64, as in data:image/png;base64,….")
    data = url[match.end() :]
    kind = next((kind for start, kind in _STARTS.items() if data.startswith(start)), match["type"].lower())
    return {"type": "base64", "media_type": kind, "data": data}

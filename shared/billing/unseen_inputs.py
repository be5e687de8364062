"""
What goes into a call beside what its job says, so that nobody can estimate it: documents that are elsewhere, what is
stored at the provider, what the provider's own tools find. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.billing.media_tokens import all_parts, images_in
from shared.contract.chat import Chat
from shared.contract.respond import Respond
from shared.contract.summarize import Summarize

_OF_RESPONSES = ("previous_response_id", "conversation", "prompt")
"""Members that add an input to `responses` which the request does not hold."""
_OF_CHATS = frozenset({"web_search_options", "mcp_servers"})
"""The same of chats."""
_OWN_TOOLS = (None, "function", "custom")
"""Types of tools that the caller runs; Claude's may have none. Others find something at the provider."""
_DOCUMENTS = {"file": "file", "document": "source"}
"""Content parts with documents, as OpenAI has them and as Claude has them: the member that says where one is."""
_PLACES = ("file_id", "url")
_MARKS = (b'"file_id"', b'"file_url"', b'"web_search_options"')


def is_open_ended(chat: Chat) -> bool:
    """Return whether a chat's input has more than the job says."""
    tools = chat.parameters.get("tools")
    if (tools and not _are_own(tools)) or not _OF_CHATS.isdisjoint(chat.parameters):
        return True
    for message in chat.messages:  # most have a text alone
        if isinstance(message.get("content"), list) and any(map(_is_elsewhere, all_parts(message))):
            return True
    return False


def has_unseen_input(body: Mapping[str, Any]) -> bool:
    """Return whether `responses` adds to the input what the provider has stored, or what its own tools return."""
    return not _are_own(body.get("tools")) or any(body.get(name) is not None for name in _OF_RESPONSES)


def names_unseen(content: bytes) -> bool:
    """Return whether a request's JSON names a file that is elsewhere, or has the provider search."""
    return any(mark in content for mark in _MARKS)  # within a text, the second quote has a backslash before it


def unseen_images(request: Any, *, pages: int) -> int:
    """Return how many images a job without an estimate sends at most: `pages`, if they are those of its documents."""
    if isinstance(request, Summarize):
        return pages if request.page_images and not isinstance(request.source, str) else 0
    if isinstance(request, Respond):
        return request.images
    chats = [request] if isinstance(request, Chat) else request if isinstance(request, list) else []
    return sum(images_in(chat.messages) for chat in chats)


def _are_own(tools: Any) -> bool:
    listed = tools if isinstance(tools, list) else []
    return all(isinstance(tool, dict) and tool.get("type") in _OWN_TOOLS for tool in listed)


def _is_elsewhere(part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") not in _DOCUMENTS:
        return False
    source = part.get(_DOCUMENTS[part["type"]])
    return isinstance(source, dict) and any(source.get(name) for name in _PLACES)

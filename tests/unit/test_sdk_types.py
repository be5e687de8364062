"""Types of SDKs, loaded without the SDKs."""

from __future__ import annotations

import pytest

from tests.support.sdk_types import sdk_type


def test_a_type_is_loaded_without_its_package():
    """By its name alone, or from a module that is named; it is the SDK's, under another name of its package."""
    message = sdk_type("anthropic", "Message")
    assert "types_of_anthropic.types.message" == message.__module__
    assert "claude-x" == message.model_construct(model="claude-x").model
    assert "ChatCompletion" == sdk_type("openai", "chat.ChatCompletion").__name__
    choice = sdk_type("openai", "chat.chat_completion:Choice")
    assert choice is sdk_type("openai", "chat.chat_completion:Choice")
    with pytest.raises(ModuleNotFoundError):
        sdk_type("openai", "chat.NoSuchType")

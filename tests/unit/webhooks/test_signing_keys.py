"""Signing keys: how they are made, and read from what a person has pasted."""

from __future__ import annotations

from standardwebhooks import Webhook

from shared.webhooks.signing_keys import key_bytes, new_key, split_keys
from tests.support.rows import every_row


def test_new_keys_are_the_specifications():
    """A new key has 32 random bytes, which the specification's library reads alike; no two are the same."""
    first, second = new_key(), new_key()

    assert first != second
    assert 32 == len(key_bytes(first))
    assert Webhook(first)._whsecret == key_bytes(first)


@every_row("form", ["{0} {1}", " {0}\n{1}\n", "'{0}' \"{1}\"", '"{0} {1}"'])
def test_keys_are_read_as_they_were_pasted(form: str):
    """Several keys are separated by white space; quotes around them, or around all, are not part of them."""
    keys = [new_key(), new_key()]

    assert keys == split_keys(form.format(*keys))


@every_row("text", ["", "whsec_", "whsec_YQ==", f"whsec_{'A' * 88}", "whsec_!" + "A" * 40, "A" * 44])
def test_other_texts_are_no_keys(text: str):
    """Too few or too many bytes, characters that are not base64, and a missing prefix are refused."""
    assert b"" == key_bytes(text)

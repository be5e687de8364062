"""Messages that are not valid jobs, and words of the error of each."""

from __future__ import annotations

import json

INVALID_JOBS = {
    "not JSON": (b"hello", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "not an object": (b"[1, 2]", "The job must be an object, not a list"),
    "invalid UTF-8": (b'{"customer": "\xff"}', "not valid UTF-8"),
    "unknown member": (b'{"customer": "acme", "action": "chat", "input": {}, "tempo": 1}', "`tempo`"),
    "wrong type": (b'{"customer": "acme", "action": "chat", "input": {"prompt": 3}}', "`input.prompt`"),
    "unknown action": (b'{"customer": "acme", "action": "sing", "input": {}}', "`action`"),
    "bad customer": (b'{"customer": "Acme!", "action": "chat", "input": {"prompt": "x"}}', "`customer`"),
    "large metadata": (
        json.dumps(
            {"customer": "acme", "action": "chat", "input": {"prompt": "x"}, "metadata": {"a": "b" * 5000}}
        ).encode(),
        "`metadata`",
    ),
}

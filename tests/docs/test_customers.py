"""The samples of docs/customers.md: each request is accepted, in the page's order."""

from __future__ import annotations

import json
import shlex

from tests.support.doc_samples import blocks
from tests.support.memory_app import MemoryApp


async def test_requests_are_accepted():
    """What the page says that is written is then read."""
    app, bodies = MemoryApp(), {}
    for command in blocks("docs/customers.md", "bash"):
        words = shlex.split(command)
        url = next(word for word in words if word.startswith("$APP/api/"))
        path, _, query = url.removeprefix("$APP/api/").partition("?")
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
        pairs = dict(pair.split("=") for pair in query.split("&") if pair)
        response = await app.send(method, path, body, query=pairs)
        assert response.status in {200, 201}, response.body
        bodies[f"{method} {path}"] = (body, response.json)

    sent, profile = bodies["PUT customers/contoso/profile"]
    credit, _ = bodies["POST customers/contoso/adjustments"]
    listed = bodies["GET customers/contoso/adjustments"][1]["adjustments"]
    entries = bodies["GET customers/contoso/audit"][1]["entries"]
    assert sent == profile
    assert [credit] == [{name: each[name] for name in credit} for each in listed]
    assert [f"adjustment {credit['id']}", "state", "profile"] == [each["subject"] for each in entries]

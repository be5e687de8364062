"""Files and batches over plain HTTP, for tests of an endpoint that has them."""

from __future__ import annotations

import json

CHAT = "/v1/chat/completions"


def chat(prompt, model="gpt-6-luna", **parameters):
    """Return the body of a chat."""
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **parameters}


def line(number, body=None, url=CHAT, **more):
    """Return a line of a batch's file."""
    body = body or chat(f"prompt {number}")
    return json.dumps({"custom_id": f"{number:05}", "method": "POST", "url": url, "body": body, **more})


def jsonl(count=10):
    """Return a file of `count` lines."""
    return "\n".join(line(number) for number in range(count))


async def upload(http, content):
    """Upload a file, and return its id."""
    answer = await http.post("files", data={"purpose": "batch"}, files={"file": ("lines.jsonl", content)})
    return answer.json()["id"]


async def create(http, content=None, endpoint=CHAT):
    """Upload a file, and return a new batch of it."""
    body = {"input_file_id": await upload(http, content or jsonl()), "endpoint": endpoint, "completion_window": "24h"}
    return (await http.post("batches", json=body)).json()


async def get(http, batch):
    """Return a batch as it is now."""
    return (await http.get(f"batches/{batch['id']}")).json()


async def read(http, file_id):
    """Return the lines of a file."""
    content = (await http.get(f"files/{file_id}/content")).content
    return [json.loads(each) for each in content.splitlines()]

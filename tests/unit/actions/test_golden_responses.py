"""
Golden responses: providers' documented responses, and the output that a job has for each.

The documentation says what a provider returns; the types of the provider's own SDK check that we copied it correctly.
"""

from __future__ import annotations

import base64
import json
from array import array
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from shared.actions.base import Completed
from shared.billing.usage import total
from shared.contract.error_codec import error_body
from shared.upstream.error_mapping import read_request_id
from shared.upstream.messages import Response
from tests.support.endpoint import pixels
from tests.support.memory_context import MemoryContext, in_turn, response, run_action
from tests.support.rows import every_row
from tests.support.sdk_types import sdk_type

RESPONSES = sorted((Path(__file__).parents[2] / "data" / "responses").glob("*.json"))
TYPES = {"chat": "chat.ChatCompletion", "embed": "CreateEmbeddingResponse", "image": "ImagesResponse"}
"""The SDK's types of the actions' responses."""
IMAGE_URL = "https://images.example.com/cat.png"


def golden(path: Path) -> dict[str, Any]:
    """Return a golden response."""
    return json.loads(path.read_text(encoding="utf-8"))


def parsed_by_sdk(action: str, body: dict[str, Any]) -> BaseModel:
    """Return the body as the SDK's type, after unpacking embeddings as the SDK does. Raises ValidationError."""
    if action == "embed":
        items = [
            item | {"embedding": list(array("f", base64.b64decode(item["embedding"])))}
            if isinstance(item["embedding"], str)
            else item
            for item in body["data"]
        ]
        body = body | {"data": items}
    kind: type[BaseModel] = sdk_type("openai", TYPES[action])
    return kind.model_validate(body, strict=True)


def undocumented(model: BaseModel, path: str = "") -> set[str]:
    """Return the paths of members that the SDK's types don't have."""
    paths = {f"{path}{name}" for name in model.model_extra or {}}
    for name in type(model).model_fields:
        value = getattr(model, name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, BaseModel):
                paths |= undocumented(item, f"{path}{name}.")
    return paths


def test_golden_responses_exist():
    """All golden responses are found, each with its source."""
    assert 15 == len(RESPONSES)
    assert all(golden(path)["source"] for path in RESPONSES)


@every_row("path", RESPONSES, ids=lambda path: path.stem)
def test_golden_responses_have_the_sdks_types(path: Path):
    """
    A golden response has the types of the provider's SDK, and only the undocumented members that it lists.

    The types are strict: without a member, or with one of another type, they refuse it.
    """
    sample = golden(path)
    action, body = sample["action"], sample["body"]
    (items,) = (name for name in ("choices", "data") if name in body)
    changes = [{"created" if "created" in body else "model": []}, {"usage": {"prompt_tokens": "7"}}]
    changes += [{items: [{"message": 1, "url": 1}]}] if action != "embed" else []

    assert set(sample["undocumented"]) == undocumented(parsed_by_sdk(action, body))
    for change in changes:
        with pytest.raises(ValidationError):
            parsed_by_sdk(action, body | change)


@every_row("path", RESPONSES, ids=lambda path: path.stem)
async def test_golden_responses_become_the_expected_result(path: Path):
    """A job whose endpoint returns the golden response ends with the status, output, error and usage beside it."""
    sample = golden(path)
    body, headers = json.dumps(sample["body"]).encode(), sample["headers"]
    models = {"endpoint": "https://r.services.ai.azure.com/models"} if "models" in path.stem else {}
    ctx = MemoryContext(
        in_turn(Response(200, headers, body, read_request_id(headers))),
        pages={IMAGE_URL: response(pixels(4, 2))},
        **models,
    )

    outcome = await run_action(import_module(f"shared.actions.{sample['action']}"), sample["input"], ctx)

    assert isinstance(outcome, Completed)
    result = {
        "status": outcome.status,
        "output": outcome.output,
        "usage": json.loads(msgspec.json.encode(total([*outcome.calls, *ctx.billed]))),
    }
    assert sample["expected"] == result | (
        {"error": msgspec.to_builtins(error_body(outcome.error))} if outcome.error else {}
    )

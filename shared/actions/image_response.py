"""The JSON of generated images: responses and refusals. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import Any

from shared.actions.answer import answered_error
from shared.billing.usage import Call, call_of_answer
from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable, RequestRejected, UpstreamError, UpstreamFacts
from shared.upstream.error_body import filter_detail
from shared.upstream.messages import Response

_COMMON_MEMBERS = ("size", "quality", "output_format", "background")
_REFUSED = frozenset({400, 422})
_NAMES_N = re.compile(r"['\"`]n['\"`]|\bn ?(?:=|==|<=|≤) ?1\b|\b(?:of|for|parameter|property|field) n\b")
_NAMES_POLICY = re.compile("filter|policy|moderation", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """The images of one call, each with its `data`, `url` or `error`, and the members that they have in common."""

    images: list[dict[str, Any]]
    common: dict[str, Any]
    call: Call


def parse_images(response: Response, count: int) -> GeneratedImages:
    """Read a 2xx response to a request for `count` images. An image that is missing has an `error`."""
    body = json_object(response.body)
    items = body["data"] if isinstance(body.get("data"), list) else []
    images = [_read_image(item if isinstance(item, dict) else {}, response) for item in items[:count]]
    missing = answered_error([body], response) or ProviderUnavailable(
        f"The endpoint returned {len(items)} of {count} images.", response_facts(response)
    )
    images += [{"error": missing}] * (count - len(images))
    common = {name: body[name] for name in _COMMON_MEMBERS if isinstance(body.get(name), str)}
    generated = sum("error" not in image for image in images)
    call = call_of_answer(body, response.request_id, response.processing, response.metered_as)
    return GeneratedImages(images, common, replace(call, images=generated))


def refuses_n(error: RequestRejected) -> bool:
    """Return whether a provider refused the number of images, as models do that generate one image a call."""
    facts = error.facts
    return facts.status in _REFUSED and (facts.detail.get("param") == "n" or _NAMES_N.search(str(error)) is not None)


def response_facts(response: Response, detail: dict[str, Any] | None = None) -> UpstreamFacts:
    """Return the facts for an error about a 2xx response."""
    return UpstreamFacts(status=response.status, request_id=response.request_id, detail=detail or {})


def _read_image(item: dict[str, Any], response: Response) -> dict[str, Any]:
    revised = item.get("revised_prompt")
    extra = {"revised_prompt": revised} if isinstance(revised, str) else {}
    if data := _decoded(item.get("b64_json")):
        return {"data": data, **extra}
    if isinstance(item.get("url"), str) and item["url"]:
        return {"url": item["url"], **extra}
    return {"error": _no_image(item, response), **extra}


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _no_image(item: dict[str, Any], response: Response) -> UpstreamError:
    verdicts, error = item.get("content_filter_results"), item.get("error")
    filtered = isinstance(verdicts, dict) and any(
        isinstance(verdict, dict) and verdict.get("filtered") is True for verdict in verdicts.values()
    )
    if filtered or (isinstance(error, dict) and _NAMES_POLICY.search(str(error.get("code")))):
        facts = response_facts(response, filter_detail(verdicts))
        return ContentFiltered("The provider's content policy stopped this image.", facts)
    return answered_error([item], response) or ProviderUnavailable(
        "The endpoint's response has no data for this image.", response_facts(response)
    )

"""The JSON of image generation: what is asked, what an answer holds, what a refusal means. Pure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from shared.billing.usage import Call, read_usage
from shared.contract.decoding import json_object
from shared.contract.image import Image
from shared.errors import ContentFiltered, ProviderUnavailable, RequestRejected, UpstreamError, UpstreamFacts
from shared.upstream.messages import Reply

_SAID_OF_ALL = ("size", "quality", "output_format", "background")
_REFUSED = frozenset({400, 422})
_NAMES_N = re.compile(r"['\"`]n['\"`]|\bn ?(?:=|==|<=|≤) ?1\b|\b(?:of|for|parameter|property|field) n\b")
_NAMES_POLICY = re.compile("filter|policy|moderation", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Made:
    """What one call has made: pictures, each with its `data`, its `url` or its `error`, and what is said of all."""

    pictures: list[dict[str, Any]]
    about: dict[str, Any]
    call: Call


def image_body(asked: Image, count: int) -> dict[str, Any]:
    """The body for so many pictures, but for the model. `n` is left out where it would say what goes without saying."""
    return {"prompt": asked.prompt, **({"n": count} if count > 1 else {}), **asked.parameters}


def parse_images(reply: Reply, count: int) -> Made:
    """What a 2xx reply to a request for `count` pictures holds. A place that has none has its `error`."""
    said = json_object(reply.body)
    items = said["data"] if isinstance(said.get("data"), list) else []
    pictures = [_read_picture(item if isinstance(item, dict) else {}, reply) for item in items[:count]]
    missing = ProviderUnavailable(f"The endpoint answered with {len(items)} of {count} pictures.", reply_facts(reply))
    pictures += [{"error": missing}] * (count - len(pictures))
    about = {name: said[name] for name in _SAID_OF_ALL if isinstance(said.get(name), str)}
    made = sum("error" not in picture for picture in pictures)
    return Made(pictures, about, Call(read_usage(said.get("usage")), None, reply.request_id, made))


def refuses_n(error: RequestRejected) -> bool:
    """Whether a refusal is of the number of pictures, as by models that make one at a time."""
    facts = error.facts
    return facts.status in _REFUSED and (facts.detail.get("param") == "n" or _NAMES_N.search(str(error)) is not None)


def reply_facts(reply: Reply, detail: dict[str, Any] | None = None) -> UpstreamFacts:
    """What is known of an answer that lacks something."""
    return UpstreamFacts(status=reply.status, request_id=reply.request_id, detail=detail or {})


def _read_picture(item: dict[str, Any], reply: Reply) -> dict[str, Any]:
    revised = item.get("revised_prompt")
    about = {"revised_prompt": revised} if isinstance(revised, str) else {}
    if data := _decoded(item.get("b64_json")):
        return {"data": data, **about}
    if isinstance(item.get("url"), str) and item["url"]:
        return {"url": item["url"], **about}
    return {"error": _no_picture(item, reply), **about}


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _no_picture(item: dict[str, Any], reply: Reply) -> UpstreamError:
    verdicts, said = item.get("content_filter_results"), item.get("error")
    filtered = isinstance(verdicts, dict) and any(
        isinstance(verdict, dict) and verdict.get("filtered") is True for verdict in verdicts.values()
    )
    if filtered or (isinstance(said, dict) and _NAMES_POLICY.search(str(said.get("code")))):
        detail = {"content_filter_result": verdicts} if isinstance(verdicts, dict) else {}
        return ContentFiltered("The provider's content policy stopped this picture.", reply_facts(reply, detail))
    return ProviderUnavailable(
        "The endpoint's answer holds nothing that is a picture in this place.", reply_facts(reply)
    )

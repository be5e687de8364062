"""The routes of the API, by name, and every form of URL that leads to them."""

import re
from dataclasses import dataclass

_OPENAI_CALLS = {"chat": "chat/completions", "completions": "completions", "embeddings": "embeddings"}
CALLS = {**_OPENAI_CALLS, "messages": "messages"}
"""Routes of direct calls, and the operation of each."""

_ID = r"/(?P<id>[^/]+)"
ROUTES = {
    "files.create": ("POST", "files"),
    "files.list": ("GET", "files"),
    "files.get": ("GET", rf"files{_ID}"),
    "files.content": ("GET", rf"files{_ID}/content"),
    "files.delete": ("DELETE", rf"files{_ID}"),
    "batches.create": ("POST", "batches"),
    "batches.list": ("GET", "batches"),
    "batches.get": ("GET", rf"batches{_ID}"),
    "batches.cancel": ("POST", rf"batches{_ID}/cancel"),
    **{name: ("POST", operation) for name, operation in _OPENAI_CALLS.items()},
    "responses.create": ("POST", "responses"),
    "responses.get": ("GET", rf"responses{_ID}"),
    "responses.delete": ("DELETE", rf"responses{_ID}"),
    "responses.cancel": ("POST", rf"responses{_ID}/cancel"),
    "webhooks.create": ("POST", "(?:dashboard/)?webhook_endpoints"),
    "webhooks.delete": ("DELETE", rf"(?:dashboard/)?webhook_endpoints{_ID}"),
    "models.list": ("GET", "models"),
}
CLAUDE_ROUTES = {
    "messages": ("POST", "messages"),
    "message_batches.create": ("POST", "messages/batches"),
    "message_batches.list": ("GET", "messages/batches"),
    "message_batches.get": ("GET", rf"messages/batches{_ID}"),
    "message_batches.cancel": ("POST", rf"messages/batches{_ID}/cancel"),
    "message_batches.results": ("GET", rf"messages/batches{_ID}/results"),
    "message_batches.delete": ("DELETE", rf"messages/batches{_ID}"),
    "models.list": ("GET", "models"),
}
"""Anthropic's."""
_PATTERNS = {name: (method, re.compile(pattern)) for name, (method, pattern) in ROUTES.items()}
_CLAUDE_PATTERNS = {name: (method, re.compile(pattern)) for name, (method, pattern) in CLAUDE_ROUTES.items()}
_V1 = re.compile(r"(?:/v1|(?:/api/projects/[^/]+)?/openai/v1)/(?P<rest>.+)")
_DEPLOYMENT = re.compile(r"/openai/deployments/(?P<deployment>[^/]+)/(?P<rest>.+)")
_ROOT = re.compile(r"/openai/(?P<rest>(?:files|batches)(?:/.+)?)")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request leads: the route's name, the id in the path, and the deployment, of Azure's older form."""

    name: str
    target: str = ""
    deployment: str = ""


def find_route(method: str, path: str, style: str, *, has_api_version: bool) -> Route | None:
    """Return the route of a request in a style, None for none. Azure's older forms need `api-version`."""
    match = _V1.fullmatch(path)
    if match is None and has_api_version:
        match = _DEPLOYMENT.fullmatch(path) or _ROOT.fullmatch(path)
    if match is None:
        return None
    deployment = match.groupdict().get("deployment") or ""
    patterns = _CLAUDE_PATTERNS if style == "anthropic" else _PATTERNS
    for name, (needed, pattern) in patterns.items():
        inner = pattern.fullmatch(match["rest"]) if method == needed and (not deployment or name in CALLS) else None
        if inner:
            return Route(name, inner.groupdict().get("id") or "", deployment)
    return None

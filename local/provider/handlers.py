"""What each route does: it reads a request, and returns its answer."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from local.provider.account import Account
from local.provider.batch import batch_json, message_batch_json
from local.provider.batch_run import BatchRuns, get_batch, list_batches
from local.provider.calls import Call, execute
from local.provider.errors import ApiError, not_found
from local.provider.files import file_json, get_file, list_files, upload
from local.provider.message_batches import create_batch, delete_batch, page_of_batches, results_of
from local.provider.responses import Responses, get_response
from local.provider.routes import CALLS, Route
from local.provider.webhooks import subscribe_from

MAX_PAGE = {"batches": 100, "files": 10_000}


@dataclass(frozen=True, slots=True)
class Request:
    """A request of an account. `at` is the clock's time."""

    http: web.Request
    account: Account
    route: Route
    at: float

    async def json(self) -> Mapping[str, Any]:
        """Return the body's JSON. Raises ApiError if it is no object."""
        try:
            value = json.loads(await self.http.read())
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ApiError(400, "invalid_json", "We could not parse the JSON body of your request.")
        return value


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers, by the names of routes."""

    batches: BatchRuns
    responses: Responses

    async def handle(self, request: Request) -> web.Response:
        """Return the answer to a request. Raises ApiError."""
        if request.route.name in CALLS:
            return await _call(request)
        handler: Callable[[Request], Awaitable[web.Response]] = getattr(
            self, f"_{request.route.name.replace('.', '_')}"
        )
        return await handler(request)

    async def _files_create(self, request: Request) -> web.Response:
        if not request.http.content_type.startswith("multipart/"):
            raise ApiError(400, "invalid_request", "The body must be multipart/form-data.")
        parts: dict[str, str] = {}
        filename, content = "", b""
        async for part in await request.http.multipart():
            if not isinstance(part, aiohttp.BodyPartReader):
                continue
            if part.name == "file":
                filename, content = part.filename or "", bytes(await part.read())
            else:
                parts[part.name or ""] = await part.text()
        file = upload(request.account, parts, filename, content, request.at)
        return web.json_response(file_json(request.account, file, request.at))

    async def _files_list(self, request: Request) -> web.Response:
        files = list_files(request.account, request.at, request.http.query.get("purpose"))
        return _page("files", [file_json(request.account, each, request.at) for each in files], request.http.query)

    async def _files_get(self, request: Request) -> web.Response:
        file = get_file(request.account, request.route.target, request.at)
        return web.json_response(file_json(request.account, file, request.at))

    async def _files_content(self, request: Request) -> web.Response:
        file = get_file(request.account, request.route.target, request.at)
        return web.Response(body=file.content, content_type="application/octet-stream")

    async def _files_delete(self, request: Request) -> web.Response:
        file = get_file(request.account, request.route.target, request.at)
        del request.account.files[file.id]
        return web.json_response({"id": file.id, "object": "file", "deleted": True})

    async def _batches_create(self, request: Request) -> web.Response:
        batch = self.batches.create(request.account, await request.json(), request.at)
        return web.json_response(batch_json(request.account, batch))

    async def _batches_list(self, request: Request) -> web.Response:
        batches = list_batches(request.account, request.at)
        return _page("batches", [batch_json(request.account, each) for each in batches], request.http.query)

    async def _batches_get(self, request: Request) -> web.Response:
        return web.json_response(batch_json(request.account, get_batch(request.account, request.route.target)))

    async def _batches_cancel(self, request: Request) -> web.Response:
        batch = get_batch(request.account, request.route.target)
        self.batches.cancel(request.account, batch, request.at)
        return web.json_response(batch_json(request.account, batch))

    async def _message_batches_create(self, request: Request) -> web.Response:
        batch = create_batch(self.batches, request.account, await request.http.read(), request.at)
        return web.json_response(message_batch_json(request.account, batch))

    async def _message_batches_list(self, request: Request) -> web.Response:
        return web.json_response(page_of_batches(request.account, request.http.query, request.at))

    async def _message_batches_get(self, request: Request) -> web.Response:
        return web.json_response(message_batch_json(request.account, get_batch(request.account, request.route.target)))

    async def _message_batches_cancel(self, request: Request) -> web.Response:
        batch = get_batch(request.account, request.route.target)
        self.batches.cancel(request.account, batch, request.at)
        return web.json_response(message_batch_json(request.account, batch))

    async def _message_batches_results(self, request: Request) -> web.Response:
        content = results_of(request.account, request.route.target)
        return web.Response(body=content, content_type="application/x-jsonl")

    async def _message_batches_delete(self, request: Request) -> web.Response:
        return web.json_response(delete_batch(request.account, request.route.target))

    async def _responses_create(self, request: Request) -> web.Response:
        return web.json_response(self.responses.create(request.account, await request.json(), request.at))

    async def _responses_get(self, request: Request) -> web.Response:
        return web.json_response(get_response(request.account, request.route.target).json())

    async def _responses_delete(self, request: Request) -> web.Response:
        made = get_response(request.account, request.route.target)
        del request.account.responses[made.id]
        return web.json_response({"id": made.id, "object": "response", "deleted": True})

    async def _responses_cancel(self, request: Request) -> web.Response:
        made = get_response(request.account, request.route.target)
        self.responses.cancel(request.account, made, request.at)
        return web.json_response(made.json())

    async def _webhooks_create(self, request: Request) -> web.Response:
        made = subscribe_from(request.account, await request.json())
        body = {"id": made.id, "object": "webhook_endpoint", "created_at": int(request.at), "name": made.name}
        body |= {"url": made.url, "event_types": sorted(made.event_types), "signing_secret": made.secret}
        return web.json_response(body)

    async def _webhooks_delete(self, request: Request) -> web.Response:
        if request.account.subscriptions.pop(request.route.target, None) is None:
            raise not_found("webhook endpoint", request.route.target)
        return web.json_response({"id": request.route.target, "deleted": True})

    async def _models_list(self, request: Request) -> web.Response:
        models = [{"id": name, "object": "model", "owned_by": "local"} for name in sorted(request.account.models or ())]
        return web.json_response({"object": "list", "data": models})


async def _call(request: Request) -> web.Response:
    body = dict(await request.json())
    if request.route.deployment:
        body["model"] = request.route.deployment
    executed = execute(request.account, Call(CALLS[request.route.name], body, request.at))
    headers = {"x-request-id": executed.request_id, **executed.headers}
    return web.json_response(executed.body, status=executed.status, headers=headers)


def _page(kind: str, items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> web.Response:
    """Return a page of a list: `limit` items, after the one with the id `after`."""
    after, limit = query.get("after"), query.get("limit", "20" if kind == "batches" else "10000")
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_PAGE[kind]:
        raise ApiError(400, "invalid_value", "'limit' is out of range.", "limit")
    names = [each["id"] for each in items]
    if after and after not in names:
        raise ApiError(400, "invalid_value", "'after' is not an id of this list.", "after")
    start = names.index(after) + 1 if after else 0
    data = items[start : start + int(limit)]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return web.json_response({"object": "list", "data": data, **ends, "has_more": start + len(data) < len(items)})

"""Key Vault's REST API for secrets, on top of `secret_store`: routes in, JSON out."""

import time
from typing import Any

from aiohttp import web

from local.vault.secret_store import Secret, Secrets, Version

RECOVERABLE_DAYS = 90
PAGE_SIZE = 25
"""The most secrets in a page of a list (learn.microsoft.com/rest/api/keyvault/secrets/get-secrets)."""


def routes(secrets: Secrets) -> list[web.AbstractRouteDef]:
    """All routes. SecretClient requests the latest version of a secret with a trailing slash."""
    handlers = _Handlers(secrets)
    return [
        web.get("/secrets", handlers.list_secrets),
        web.get("/secrets/", handlers.list_secrets),
        web.get("/secrets/{name}/versions", handlers.list_versions),
        web.get("/secrets/{name}", handlers.get),
        web.get("/secrets/{name}/{version:[^/]*}", handlers.get),
        web.put("/secrets/{name}", handlers.put),
        web.patch("/secrets/{name}/{version:[^/]*}", handlers.update),
        web.delete("/secrets/{name}", handlers.delete),
        web.get("/deletedsecrets", handlers.list_deleted),
        web.get("/deletedsecrets/{name}", handlers.get_deleted),
        web.post("/deletedsecrets/{name}/recover", handlers.recover),
        web.delete("/deletedsecrets/{name}", handlers.purge),
    ]


def is_read(request: web.Request) -> bool:
    """Whether a request reads a secret's value."""
    return request.method == "GET" and getattr(request.match_info.handler, "__name__", "") == _Handlers.get.__name__


class _Handlers:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def get(self, request: web.Request) -> web.Response:
        secret, version = self._secrets.get(_name(request), request.match_info.get("version", ""))
        return web.json_response({"value": version.value, **_bundle(request, secret, version)})

    async def put(self, request: web.Request) -> web.Response:
        body = await request.json()
        secret, version = self._secrets.put(
            _name(request),
            body["value"],
            content_type=body.get("contentType"),
            tags=body.get("tags"),
            attributes=body.get("attributes"),
        )
        return web.json_response({"value": version.value, **_bundle(request, secret, version)})

    async def update(self, request: web.Request) -> web.Response:
        updated = self._secrets.update(_name(request), request.match_info["version"], await request.json())
        return web.json_response(_bundle(request, *updated))

    async def list_secrets(self, request: web.Request) -> web.Response:
        size = min(int(request.query.get("maxresults", PAGE_SIZE)), PAGE_SIZE)
        after = request.query.get("$skiptoken", "")
        names = sorted(name for name in self._secrets.live if name > after)
        page = [self._secrets.live[name] for name in names[:size]]
        bundles = [_bundle(request, secret, secret.versions[-1]) for secret in page]
        for bundle in bundles:  # in a list, Key Vault returns ids without a version
            bundle["id"] = bundle["id"].rpartition("/")[0]
        query = {**request.query, "$skiptoken": names[size - 1]} if len(names) > size else None
        next_link = None if query is None else str(request.url.with_query(query))
        return web.json_response({"value": bundles, "nextLink": next_link})

    async def list_versions(self, request: web.Request) -> web.Response:
        secret = self._secrets.live.get(_name(request).lower(), Secret(""))
        bundles = [_bundle(request, secret, version) for version in secret.versions]
        return web.json_response({"value": bundles, "nextLink": None})

    async def delete(self, request: web.Request) -> web.Response:
        return web.json_response(_deleted_bundle(request, self._secrets.delete(_name(request))))

    async def get_deleted(self, request: web.Request) -> web.Response:
        return web.json_response(_deleted_bundle(request, self._secrets.get_deleted(_name(request))))

    async def list_deleted(self, request: web.Request) -> web.Response:
        bundles = [_deleted_bundle(request, secret) for secret in self._secrets.deleted.values()]
        return web.json_response({"value": bundles, "nextLink": None})

    async def recover(self, request: web.Request) -> web.Response:
        secret = self._secrets.recover(_name(request))
        return web.json_response(_bundle(request, secret, secret.versions[-1]))

    async def purge(self, request: web.Request) -> web.Response:
        self._secrets.purge(_name(request))
        return web.Response(status=204)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _bundle(request: web.Request, secret: Secret, version: Version) -> dict[str, Any]:
    """The JSON of a version (Key Vault's `SecretBundle`), without its value."""
    return {
        "id": f"https://{request.host}/secrets/{secret.name}/{version.id}",
        "contentType": version.content_type,
        "attributes": {**version.attributes, "recoveryLevel": "Recoverable+Purgeable"},
        "tags": version.tags,
    }


def _deleted_bundle(request: web.Request, secret: Secret) -> dict[str, Any]:
    now = int(time.time())
    return {
        **_bundle(request, secret, secret.versions[-1]),
        "recoveryId": f"https://{request.host}/deletedsecrets/{secret.name}",
        "deletedDate": now,
        "scheduledPurgeDate": now + RECOVERABLE_DAYS * 24 * 3600,
    }

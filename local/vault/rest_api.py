"""Key Vault's REST interface for secrets, over what `secret_store` holds: paths in, JSON out."""

import time
from typing import Any

from aiohttp import web

from local.vault.secret_store import Secret, Secrets, Version

RECOVERABLE_DAYS = 90
PAGE = 25
"""Secrets that a page of a list has at most (learn.microsoft.com/rest/api/keyvault/secrets/get-secrets)."""


def routes(secrets: Secrets) -> list[web.AbstractRouteDef]:
    """All routes. A SecretClient asks for a latest version with a trailing slash."""
    face = _Face(secrets)
    return [
        web.get("/secrets", face.list_secrets),
        web.get("/secrets/", face.list_secrets),
        web.get("/secrets/{name}/versions", face.list_versions),
        web.get("/secrets/{name}", face.get),
        web.get("/secrets/{name}/{version:[^/]*}", face.get),
        web.put("/secrets/{name}", face.put),
        web.patch("/secrets/{name}/{version:[^/]*}", face.update),
        web.delete("/secrets/{name}", face.delete),
        web.get("/deletedsecrets", face.list_deleted),
        web.get("/deletedsecrets/{name}", face.get_deleted),
        web.post("/deletedsecrets/{name}/recover", face.recover),
        web.delete("/deletedsecrets/{name}", face.purge),
    ]


def is_read(request: web.Request) -> bool:
    """Whether a request asks for a secret's value."""
    return request.method == "GET" and getattr(request.match_info.handler, "__name__", "") == _Face.get.__name__


class _Face:
    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    async def get(self, request: web.Request) -> web.Response:
        found = self._secrets.get(_name(request), request.match_info.get("version", ""))
        return web.json_response({"value": found[1].value, **_bundle(request, *found)})

    async def put(self, request: web.Request) -> web.Response:
        body = await request.json()
        made = self._secrets.put(
            _name(request),
            body["value"],
            content_type=body.get("contentType"),
            tags=body.get("tags"),
            attributes=body.get("attributes"),
        )
        return web.json_response({"value": made[1].value, **_bundle(request, *made)})

    async def update(self, request: web.Request) -> web.Response:
        changed = self._secrets.update(_name(request), request.match_info["version"], await request.json())
        return web.json_response(_bundle(request, *changed))

    async def list_secrets(self, request: web.Request) -> web.Response:
        size = min(int(request.query.get("maxresults", PAGE)), PAGE)
        after = request.query.get("$skiptoken", "")
        names = sorted(name for name in self._secrets.live if name > after)
        found = [self._secrets.live[name] for name in names[:size]]
        bundles = [_bundle(request, secret, secret.versions[-1]) for secret in found]
        for bundle in bundles:  # of these, Key Vault gives the id without a version
            bundle["id"] = bundle["id"].rpartition("/")[0]
        query = {**request.query, "$skiptoken": names[size - 1]} if len(names) > size else None
        following = None if query is None else str(request.url.with_query(query))
        return web.json_response({"value": bundles, "nextLink": following})

    async def list_versions(self, request: web.Request) -> web.Response:
        secret = self._secrets.live.get(_name(request).lower(), Secret(""))
        bundles = [_bundle(request, secret, version) for version in secret.versions]
        return web.json_response({"value": bundles, "nextLink": None})

    async def delete(self, request: web.Request) -> web.Response:
        return web.json_response(_deleted(request, self._secrets.delete(_name(request))))

    async def get_deleted(self, request: web.Request) -> web.Response:
        return web.json_response(_deleted(request, self._secrets.find_deleted(_name(request))))

    async def list_deleted(self, request: web.Request) -> web.Response:
        deleted = [_deleted(request, secret) for secret in self._secrets.deleted.values()]
        return web.json_response({"value": deleted, "nextLink": None})

    async def recover(self, request: web.Request) -> web.Response:
        secret = self._secrets.recover(_name(request))
        return web.json_response(_bundle(request, secret, secret.versions[-1]))

    async def purge(self, request: web.Request) -> web.Response:
        self._secrets.purge(_name(request))
        return web.Response(status=204)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _bundle(request: web.Request, secret: Secret, version: Version) -> dict[str, Any]:
    return {
        "id": f"https://{request.host}/secrets/{secret.name}/{version.id}",
        "contentType": version.content_type,
        "attributes": {**version.attributes, "recoveryLevel": "Recoverable+Purgeable"},
        "tags": version.tags,
    }


def _deleted(request: web.Request, secret: Secret) -> dict[str, Any]:
    now = int(time.time())
    return {
        **_bundle(request, secret, secret.versions[-1]),
        "recoveryId": f"https://{request.host}/deletedsecrets/{secret.name}",
        "deletedDate": now,
        "scheduledPurgeDate": now + RECOVERABLE_DAYS * 24 * 3600,
    }

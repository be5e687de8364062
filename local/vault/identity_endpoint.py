"""
The managed-identity endpoint of App Service and Functions on this machine, so that the unmodified
`ManagedIdentityCredential` gets a token as it does in Azure. The tokens are valid only here.
"""

import secrets
import time

from aiohttp import web

LIFETIME_S = 24 * 3600  # as in Azure
API_VERSION = "2019-08-01"


def routes(header: str) -> list[web.AbstractRouteDef]:
    """The endpoint's one route, for clients that send `header` as X-IDENTITY-HEADER."""

    async def issue_token(request: web.Request) -> web.Response:
        if not secrets.compare_digest(request.headers.get("X-IDENTITY-HEADER", "").encode(), header.encode()):
            return web.json_response({"statusCode": 401, "message": "Unauthorized"}, status=401)
        resource = request.query.get("resource")
        if request.query.get("api-version") != API_VERSION or not resource:
            return web.json_response(
                {"statusCode": 400, "message": f"The query needs api-version={API_VERSION} and resource."},
                status=400,
            )
        return web.json_response(
            {
                "access_token": f"local-{secrets.token_urlsafe(24)}",
                "expires_on": str(int(time.time()) + LIFETIME_S),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": request.query.get("client_id", "local"),
            }
        )

    return [web.get("/msi/token", issue_token)]

"""
The console: a page on which a person looks at usage, budgets, jobs and statements. Open to everybody.

The page holds no data. It asks this app for what it shows, with the key or token that the person gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.http.auth import Caller
from shared.http.conditional import with_etag
from shared.http.messages import Request, Response
from shared.http.static_pages import static_page

# It sends requests to its own origin alone. A statement's page is shown in a frame, from memory. Texts never become
# elements or scripts: browsers that know trusted types refuse every attempt.
_SOURCES = "connect-src 'self'; frame-src blob:; require-trusted-types-for 'script'; trusted-types 'none'"


@dataclass(frozen=True, slots=True)
class ConsoleResource:
    """The route of the console."""

    async def page(self, request: Request, _: Caller) -> Response:
        """`GET /console`."""
        return with_etag(request, static_page("console.html", sources=_SOURCES))

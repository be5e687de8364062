"""
Route templates: the function that handles a request, and the values of its route parameters.

Azure's host tries its functions in the order of their **names**, and the first one whose route and method match gets
the request (azure-webjobs-sdk-extensions, pull request 842); so does this one. A literal segment does not precede a
parameter.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from local.host.errors import HostError

_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>\w+)(?::(?P<constraint>[^?}]+))?(?P<optional>\??)\}")
_CONSTRAINTS = {
    None: r"[^/]+",
    "alpha": r"[A-Za-z]+",
    "int": r"[+-]?\d+",
    "long": r"[+-]?\d+",
    "guid": r"[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}",
    "bool": r"[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]",
}


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one function. `methods` is None if it accepts all."""

    function: str
    pattern: re.Pattern[str]
    methods: frozenset[str] | None


def read_route(function: str, template: str, prefix: str, methods: Sequence[str] | None) -> Route:
    """
    The route of a function: `{name}`, `{name?}`, `{name:alpha}` and `{*rest}`, each a whole segment.

    Raises HostError for anything else that ASP.NET would accept.
    """
    pattern = ""
    for segment in filter(None, f"{prefix}/{template}".split("/")):
        if "{" not in segment and "}" not in segment:
            pattern += f"/(?i:{re.escape(segment)})"
            continue
        match = _PARAMETER.fullmatch(segment)
        if match is None or match["constraint"] not in _CONSTRAINTS:
            raise HostError(
                f"Function '{function}' has the route '{template}'. This host does not support '{segment}': it"
                f" supports {{name}}, {{name?}}, {{*rest}}, and the constraints"
                f" {', '.join(filter(None, _CONSTRAINTS))}."
            )
        if match["rest"]:
            pattern += f"(?:/(?P<{match['name']}>.*))?"
        elif match["optional"]:
            pattern += f"(?:/(?P<{match['name']}>{_CONSTRAINTS[match['constraint']]}))?"
        else:
            pattern += f"/(?P<{match['name']}>{_CONSTRAINTS[match['constraint']]})"
    upper_case = None if methods is None else frozenset(str(method).upper() for method in methods)
    return Route(function, re.compile(pattern + "/?"), upper_case)


class Routes:
    """All routes of the app."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.function.lower())

    def find(self, method: str, raw_path: str) -> tuple[str, dict[str, str]] | None:
        """
        The function for a request, and its route parameters; None if no route matches. As in Azure, a method that a
        route does not accept is the same as no route.
        """
        for route in self._routes:
            if route.methods is not None and method.upper() not in route.methods:
                continue
            if match := route.pattern.fullmatch(raw_path):
                parameters = {name: _decode(value) for name, value in match.groupdict().items() if value}
                return route.function, parameters
        return None


def _decode(segment: str) -> str:
    # ASP.NET keeps an encoded slash encoded, because a decoded one would end the segment.
    return unquote(re.sub("%2f", "%252F", segment, flags=re.IGNORECASE))

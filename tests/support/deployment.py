"""
Deployments of the templates, from the snapshots that infra/gate.py has the compiler make: what would be created.

A text in brackets, such as `[reference('…').clientId]`, is a value that only a deployment knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from infra import gate

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
NAMES = sorted(path.stem for path in INFRA.glob("snapshots/*.json"))
EXPRESSION = re.compile(r"\[\w+\(")
CLIENT_ID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass(frozen=True)
class Deployment:
    """What a deployment creates: resources by their ids."""

    name: str
    resources: dict[str, Any]

    def of_type(self, kind: str) -> dict[str, Any]:
        """The resources of a type, by id."""
        return {key: each for key, each in self.resources.items() if each.get("type") == kind}

    @cached_property
    def app(self) -> Any:
        """The properties of the Functions app."""
        (app,) = self.of_type("Microsoft.Web/sites").values()
        return app["properties"]

    @property
    def settings(self) -> dict[str, str]:
        """The app settings."""
        return dict(self.app["siteConfig"]["appSettings"])

    @property
    def readable_settings(self) -> dict[str, str]:
        """The same as the app reads them, with a value of the right form for each that only a deployment knows."""
        return {name: _deployed(name) if EXPRESSION.match(text) else text for name, text in self.settings.items()}

    def children(self, kind: str, account: str = "stjobs") -> set[str]:
        """The names of an account's queues, containers or tables."""
        kinds = {"queues": "queueServices", "containers": "blobServices", "tables": "tableServices"}
        names = self.of_type(f"Microsoft.Storage/storageAccounts/{kinds[kind]}/{kind}").values()
        return {each["name"].rpartition("/")[2] for each in names if each["name"].startswith(account)}

    def roles(self) -> set[tuple[str, str, str]]:
        """The assignments: who, as the name of an identity or an object id; the role's id; on what, without tokens."""
        assignments = self.of_type("Microsoft.Authorization/roleAssignments")
        return {
            (
                _identity(each["properties"]["principalId"]),
                each["properties"]["roleDefinitionId"].rpartition("/")[2],
                _scope(key),
            )
            for key, each in assignments.items()
        }


def read(name: str) -> Deployment:
    """A deployment: `test`, `production`, or `test` with a switch on."""
    return Deployment(name, gate.read_snapshot(name))


def text_of(query: str | list[str]) -> str:
    """A query, which a snapshot has line by line."""
    return query if isinstance(query, str) else "\n".join(query)


TEST = read("test")


def _deployed(name: str) -> str:
    if name == "APPLICATIONINSIGHTS_CONNECTION_STRING":
        return f"InstrumentationKey={CLIENT_ID};IngestionEndpoint=https://known.when.deployed/"
    is_client = name == "AZURE_CLIENT_ID" or name.endswith("__clientId")
    return CLIENT_ID if is_client else "https://known.when.deployed"


def _identity(principal: str) -> str:
    match = re.search(r"userAssignedIdentities/(id(?:-keda)?)-\w+'", principal)
    return match[1] if match else principal


def _scope(assignment: str) -> str:
    """The resource that an assignment is on, from its id: `stjobs/queues/jobs`, `kv`."""
    scope = assignment.partition("/providers/Microsoft.Authorization/")[0]
    _, _, path = scope.partition("/providers/")
    parts = path.split("/")[2:]  # without the provider and the type of the resource
    parts = [part for part in parts if part not in {"default", "queueServices", "blobServices", "tableServices"}]
    return "/".join([re.sub(r"-?[a-z0-9]{13}$", "", parts[0]), *parts[1:]]) if parts else scope

"""The roles that the templates assign: those that the app needs, and the operator's on request."""

from __future__ import annotations

import json
import re
from typing import get_args

from shared.http.routes import Role
from shared.settings import read_settings
from tests.support.bicep import read, value
from tests.support.bicep_settings import INFRA, MAIN, ROOT, readable_settings

RBAC = read(INFRA / "app/rbac.bicep")
ROLES = {  # learn.microsoft.com/azure/role-based-access-control/built-in-roles
    "StorageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "StorageBlobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "StorageBlobDataReader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "StorageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "StorageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "KeyVaultSecretsUser": "4633458b-17de-408a-b874-0445c86b69e6",
    "KeyVaultSecretsOfficer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "MonitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
NEEDED = {
    "the host stores locks and function keys, and reads the code's package": ("hostAccount", "StorageBlobDataOwner"),
    "the host writes its diagnostic events": ("hostAccount", "StorageTableDataContributor"),
    "triggers read messages; results, requeued jobs and callbacks are sent": (
        "existingQueues",
        "StorageQueueDataContributor",
    ),
    "results, steps and HTTP inputs are written; the sweep deletes": (
        "existingWrittenContainers",
        "StorageBlobDataContributor",
    ),
    "inputs and templates are read": ("existingReadContainers", "StorageBlobDataReader"),
    "rows are read, written and deleted, in transactions": ("jobAccount", "StorageTableDataContributor"),
    "connections and signing secrets are read": ("vault", "KeyVaultSecretsUser"),
    "telemetry is sent": ("insights", "MonitoringMetricsPublisher"),
}
"""What the app does: the scope and the role that it needs for it."""
ON_REQUEST = {"connections are written over HTTP": ("vault", "KeyVaultSecretsOfficer")}


def assignments(condition: str | None, principal: str) -> list[tuple[str, str]]:
    """Scope and role of a principal's assignments: those with a condition, or those without one."""
    pairs = []
    for node in RBAC.declarations("resource").values():
        text = (node.text or b"").decode()
        if "roleAssignments@" not in text or f"principalId: {principal}" not in text:
            continue
        match = re.search(r"= if \((.*?)\) \{", text)
        if (match[1] if match else None) == condition:
            (scope,) = re.findall(r"scope: (\w+)", text)
            pairs.append((scope, re.findall(r"roleDefinitions', (?:roles\.)?(\w+)\)", text)[0]))
    return sorted(pairs)


def test_roles_cover_every_queue_and_container():
    """The lists that roles are assigned on are those that are created; only results are written to."""
    names = MAIN.variables(**MAIN.defaults())
    params = next(module for module in MAIN.modules() if module.symbol == "rbac").params
    app = read_settings(readable_settings())

    assert names["queues"] == value(params["queues"], names)
    assert [app.results_container] == value(params["writtenContainers"], names)
    assert {app.templates_container, app.statements_container, *app.input_containers} == set(
        value(params["readContainers"], names)
    )


def test_app_has_the_roles_that_it_needs_and_no_other():
    """Each thing that the app does has its role; what it does on request has one under that condition only."""
    assert sorted(NEEDED.values()) == assignments(None, "appPrincipalId")
    assert sorted(ON_REQUEST.values()) == assignments("onboardOverHttp", "appPrincipalId")


def test_operator_has_no_role_by_default_and_none_on_the_hosts_account():
    """A person has roles only if the parameter names one; none of them is on the account that holds the code."""
    text = (INFRA / "app/rbac.bicep").read_text()

    assert [("vault", "KeyVaultSecretsOfficer")] == assignments("!empty(operatorObjectId)", "operatorObjectId")
    assert [("jobAccount", "role")] == assignments(None, "operatorObjectId")
    assert "var operatorRoles = empty(operatorObjectId)\n  ? []" in text


def test_one_module_assigns_all_roles():
    """No other file assigns a role; the ids behind its names are Azure's built-in roles."""
    files = sorted(INFRA.rglob("*.bicep*"))

    assert ROLES == RBAC.variables()["roles"]
    assert [] == [file.name for file in files if file.name != "rbac.bicep" and b"roleAssignments" in file.read_bytes()]


def test_security_page_has_the_roles():
    """The table of docs/security.md has every role with its holder, and no other."""
    page = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"^\| (the app|the operator)[^|]*\| ([A-Z][\w ]+) \| ([^|]+) \|", page, re.MULTILINE)
    titles = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in ROLES}

    shown = sorted((holder, role) for holder, role, _ in rows)
    app = [("the app", titles[role]) for _, role in [*NEEDED.values(), *ON_REQUEST.values()]]
    operator = [
        "StorageBlobDataContributor",
        "StorageQueueDataContributor",
        "StorageTableDataContributor",
        "KeyVaultSecretsOfficer",
    ]
    assert sorted(app + [("the operator", titles[role]) for role in operator]) == shown


def test_app_roles_are_the_codes():
    """The roles of tokens, as an app registration takes them, are those that the code knows, each with its own id."""
    roles = json.loads((INFRA / "app-roles.json").read_text())
    keys = {"allowedMemberTypes", "description", "displayName", "id", "isEnabled", "value"}
    page = (ROOT / "docs/http.md").read_text()

    assert list(get_args(Role)) == [role["value"] for role in roles]
    assert set(get_args(Role)) <= set(re.findall(r"`(\w+\.\w+)`", page))
    assert {frozenset(role) for role in roles} == {frozenset(keys)}
    assert len(roles) == len({role["id"] for role in roles})
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", role["id"]) for role in roles)

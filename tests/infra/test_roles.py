"""The roles on the page about security, and those of tokens. What a deployment assigns: test_deployments.py."""

from __future__ import annotations

import json
import re
from typing import get_args

from shared.http.routes import Role
from tests.support.deployment import INFRA, ROOT, read
from tests.support.deployment_checks import ROLES

HOLDERS = {"id": "the app", "id-keda": "KEDA"}


def test_security_page_has_the_roles():
    """The table of docs/security.md has each role that any deployment assigns, with its holder, and no other."""
    page = (ROOT / "docs/security.md").read_text()
    titles = {key: title for title, key in ROLES.items()}
    roles = read("operator").roles() | read("keda").roles()
    assigned = {(HOLDERS.get(who, "the operator"), titles[role], _kind(scope)) for who, role, scope in roles}

    rows = re.findall(r"^\| (the app|KEDA|the operator)[^|]*\| ([A-Z][\w ]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert sorted((who, title) for who, title, _ in assigned) == sorted((who, title) for who, title, _ in rows)


def _kind(scope: str) -> str:
    """What a scope is one of: the queues of an account are one row of the table."""
    return scope.rpartition("/")[0] or scope


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

"""Budgets over HTTP: they are read as they were written, and a tied caller can only tighten."""

from __future__ import annotations

from typing import Any

import pytest

from shared.billing.audit import read_entry
from shared.clock import now
from tests.support.memory_app import MemoryApp, tied

BUDGET: dict[str, Any] = {"limit": "500", "unit": "USD", "period": "month", "notify": "https://contoso.example/b"}
PATH = "customers/contoso/budgets"


@pytest.fixture
def app() -> MemoryApp:
    """An app of one test."""
    return MemoryApp()


async def test_a_budget_is_read_as_it_was_written(app: MemoryApp):
    """With what is used of it; a PUT replaces all of it, and each change is in the audit trail."""
    written = await app.send("PUT", f"{PATH}/main", BUDGET)
    read = await app.send("GET", f"{PATH}/main")
    listed = await app.send("GET", PATH)

    expected = BUDGET | {
        "name": "main",
        "enforce": "hard",
        "thresholds": [50, 80, 100],
        "owner": "operator",
        "period_start": f"{now():%Y-%m}-01T00:00:00.000Z",
        "spent": "0",
        "reserved": "0",
        "remaining": "500",
    }
    assert [(200, expected), (200, expected), (200, {"budgets": [expected]})] == [
        (each.status, each.json) for each in (written, read, listed)
    ]
    replaced = await app.send("PUT", f"{PATH}/main", {"limit": "10", "unit": "jobs", "period": "day"})
    assert ("10", None) == (replaced.json["remaining"], replaced.json.get("notify"))
    entries = [read_entry(row) for (_, key), row in app.table.rows.items() if key.startswith("a_")]
    assert ["budget main", "budget main"] == [entry.subject for entry in entries]


async def test_a_budget_is_deleted(app: MemoryApp):
    """Then it is not found."""
    await app.send("PUT", f"{PATH}/main", BUDGET)

    assert 204 == (await app.send("DELETE", f"{PATH}/main")).status
    for method in ("GET", "DELETE"):
        (await app.send(method, f"{PATH}/main")).assert_problem(404, "not_found", "budget")
    assert {"budgets": []} == (await app.send("GET", PATH)).json


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"limit": "-1"}, "`limit` must be a number, 0 or more."),
        ({"unit": "usd"}, "`unit` must be an ISO 4217 code"),
        ({"notify": "https://10.0.0.1/x"}, "`notify`"),
        ({"spent": "1"}, "`spent` is not a known member."),
    ],
)
async def test_an_invalid_budget_is_refused(app: MemoryApp, members: dict[str, Any], message: str):
    """The error names the member and what would be right; nothing is written."""
    refused = await app.send("PUT", f"{PATH}/main", BUDGET | members)

    refused.assert_problem(400, "invalid_request", message)
    assert {} == app.table.rows
    (await app.send("PUT", f"{PATH}/No_Name", BUDGET)).assert_problem(400, "invalid_request", "The budget's name")


async def test_so_many_budgets_can_apply_to_a_job(app: MemoryApp):
    """Five, however many others are for other connections and models."""
    for number in range(4):
        assert 200 == (await app.send("PUT", f"{PATH}/b{number}", BUDGET)).status
    for name, members in (("c1", {"connection": "a"}), ("c2", {"connection": "b"}), ("m", {"model": "m"})):
        response = await app.send("PUT", f"{PATH}/{name}", BUDGET | members)
        expected = 400 if name == "m" else 200
        assert expected == response.status
    response.assert_problem(400, "invalid_request", "At most 5 budgets can apply to one job, and these do: b0, b1, b2")


async def test_models_that_differ_in_case_are_one(app: MemoryApp):
    """Azure ignores the case of a deployment's name, so budgets of both count the same jobs."""
    for number in range(6):
        response = await app.send(
            "PUT", f"{PATH}/b{number}", BUDGET | {"model": "gPt"[: number % 3] + "GPT"[number % 3 :]}
        )
        assert (200 if number < 5 else 400) == response.status


async def test_a_tied_caller_can_only_tighten(app: MemoryApp):
    """The operator's budgets are read-only to it, and hide where their events go; its own are beside them."""
    await app.send("PUT", f"{PATH}/main", BUDGET)
    for method, body in (("PUT", BUDGET | {"limit": "9999"}), ("DELETE", None)):
        refused = await app.send(method, f"{PATH}/main", body, headers=tied())
        refused.assert_problem(403, "forbidden", "The operator made this budget")
    own = await app.send("PUT", f"{PATH}/own", BUDGET | {"limit": "5", "owner": "operator"}, headers=tied())
    listed = await app.send("GET", PATH, headers=tied())

    assert ("customer", "5") == (own.json["owner"], own.json["limit"])
    assert [("main", "500", None), ("own", "5", BUDGET["notify"])] == [
        (each["name"], each["limit"], each.get("notify")) for each in listed.json["budgets"]
    ]
    assert 204 == (await app.send("DELETE", f"{PATH}/own", headers=tied())).status


async def test_a_tied_caller_leaves_room_for_the_operators_caps(app: MemoryApp):
    """However many budgets it makes, for however many models and however long: the operator's are never refused."""
    statuses = []
    for number in range(12):
        own = BUDGET | {"model": f"m-{number}", "notify": f"https://contoso.example/{'x' * 1950}"}
        statuses.append((await app.send("PUT", f"{PATH}/own-{number}", own, tied())).status)
    for number in range(3):
        statuses.append((await app.send("PUT", f"{PATH}/all-{number}", BUDGET, tied())).status)
    caps = [await app.send("PUT", f"{PATH}/cap-{number}", BUDGET) for number in range(3)]

    assert {200, 400} == set(statuses)
    assert [200] * 3 == [cap.status for cap in caps]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_tied_caller_does_not_reach_others(app: MemoryApp, method: str):
    """Another customer looks as one that does not exist, whatever the caller's roles."""
    await app.send("PUT", "customers/fabrikam/budgets/main", BUDGET)
    before = dict(app.table.rows)

    refused = await app.send(
        method, "customers/fabrikam/budgets/main", BUDGET if method == "PUT" else None, headers=tied()
    )

    refused.assert_problem(404, "not_found")
    assert before == dict(app.table.rows)

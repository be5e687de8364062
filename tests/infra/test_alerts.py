"""The alerts and the workbook: their queries find what the app really logs, and the runbook knows each alert."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared import errors
from shared.jobs.admission import Limiter
from tests.support import kql
from tests.support.bicep import members, read, value
from tests.support.endpoint import error
from tests.support.harness import World, delivery

ROOT = Path(__file__).parents[2]
ALERTS = read(ROOT / "infra/app/alerts.bicep")
LOG_ALERTS: list[dict[str, Any]] = ALERTS.variables()["logAlerts"]
METRIC_ALERTS: list[dict[str, Any]] = ALERTS.variables()["metricAlerts"]
WORKBOOK = read(ROOT / "infra/app/workbook.bicep").variables()
CHARTS: list[dict[str, Any]] = WORKBOOK["charts"]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SHOWN = [
    (f"{page.name}: {(block or inline)[:40]}", block or inline)
    for page in PAGES
    for block, inline in re.findall(
        r"^```kusto\n(.*?)^```|`((?:App|AZ|Storage)\w+ \|[^`]+)`", page.read_text(), re.MULTILINE | re.DOTALL
    )
]
"""What the docs show, in blocks and in sentences."""
QUERIES = [(each["name"], each["query"]) for each in LOG_ALERTS] + [(each["title"], each["query"]) for each in CHARTS]
NAMES = [each["name"] for each in (*LOG_ALERTS, *METRIC_ALERTS)] + ["app-down", "secrets-expiring"]


def query(name: str) -> str:
    """The whole query of an alert."""
    return next(each["query"] for each in LOG_ALERTS if each["name"] == name)


def chart(title: str) -> str:
    """The query of the chart in whose title this stands."""
    return next(each["query"] for each in CHARTS if title in each["title"])


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the app has logged: what Application Insights would hold as `Message`."""
    return [record.getMessage() for record in caplog.records if record.name == "customer_ai_jobs"]


def found(text: str, lines: Iterable[str]) -> list[dict[str, str]]:
    """What a query's `parse` takes out of those lines that it looks at."""
    prefixes = tuple(kql.begins(text))
    matches = (pattern.fullmatch(line) for line in lines if line.startswith(prefixes) for pattern in kql.parses(text))
    return [match.groupdict() for match in matches if match]


def test_alerts_are_those_that_an_operator_needs():
    """Failing jobs, poison, age of the queue, throttled customers, expiring secrets, a throttled vault: all there."""
    wanted = {"jobs-failing", "poison", "queue-age", "customers-rate-limited", "secrets-expiring", "vault-throttled"}

    assert wanted | {"app-down"} <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_every_alert_has_its_heading_in_the_runbook_and_no_heading_is_without():
    """The name of an alert is a heading of the runbook, under which it says what to look at and what to do."""
    page = (ROOT / "docs/runbook.md").read_text()
    headings = re.findall(r"^## (\S+)$", page, re.MULTILINE)

    assert sorted(NAMES) == sorted(headings)
    for name in NAMES:
        under = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert "**Look**" in under, name
        assert "**Do**" in under, name


def test_every_alert_names_the_runbook():
    """What an alert says of itself ends in the address of its heading."""
    source = ALERTS.source.decode()

    assert 2 == len(re.findall(r"description: '[^']*Runbook: \$\{runbookUrl\}#\$\{alert\.name\}'", source))
    assert "Runbook: ${runbookUrl}#secrets-expiring'" in source
    assert "Runbook: ${runbookUrl}#app-down'" in source


@pytest.fixture(name="said", scope="module")
def _said() -> dict[str, kql.Said]:
    every = [*QUERIES, *SHOWN]
    return dict(zip((name for name, _ in every), kql.said_of([text for _, text in every]), strict=True))


@pytest.mark.parametrize("name", [name for name, _ in (*QUERIES, *SHOWN)])
def test_query_is_right_by_the_language_service_of_kusto(name: str, said: dict[str, kql.Said]):
    """Microsoft's own language service finds no fault: syntax, tables, columns, types, functions."""
    assert [] == said[name].faults
    assert said[name].columns


def test_docs_have_queries():
    """Those that the docs show are found, so that they are held as well."""
    assert {"runbook.md", "telemetry.md"} <= {name.partition(":")[0] for name, _ in SHOWN}


def test_language_service_finds_faults():
    """A column, an operator and a type that are wrong are told, so that none told is worth something."""
    wrong = ("AppTraces | where Mesage == ''", "AppTraces | wher true", "AppTraces | summarize sum(Message)")

    assert [] == [text for text, said in zip(wrong, kql.said_of(wrong), strict=True) if not said.faults]


@pytest.mark.parametrize("alert", LOG_ALERTS, ids=lambda alert: alert["name"])
def test_alert_measures_what_its_query_gives(alert: dict[str, Any], said: dict[str, kql.Said]):
    """The column that is measured is a number, and those that tell one alert from another are all that are none."""
    columns = said[alert["name"]].columns
    numbers = {name for name, kind in columns.items() if kind in {"int", "long", "real"}}

    assert not alert["column"] or alert["column"] in numbers
    assert not alert["column"] or alert["dimensions"] == [name for name in columns if name not in numbers]


def test_functions_that_queries_name_exist():
    """Functions that are looked for by name are functions of the app."""
    functions = set(re.findall(r"async def (\w+)", (ROOT / "function_app.py").read_text()))
    texts = " ".join(text for _, text in QUERIES)
    named = re.findall(r'(?:Name|OperationName) == "(\w+)"', texts) + re.findall(
        r'"(\w+)"', " ".join(re.findall(r"Name in \(([^)]*)\)", texts))
    )

    assert {"run_job", "dead_letter_job", "dead_letter_callback", "retention_sweep"} == set(named)
    assert set(named) <= functions


def test_codes_and_reasons_that_queries_name_exist():
    """Error codes and reasons in the queries are the code's."""
    codes = {
        each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.JobError)
    }
    reasons = {
        name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.RetryLater)
    }
    texts = " ".join(text for _, text in QUERIES)
    lists = re.findall(r"\bcode !?in \(([^)]*)\)", texts) + re.findall(r'\bcode == ("\w+")', texts)
    waits = re.findall(r"\breason in \(([^)]*)\)", texts) + re.findall(r'\breason == ("\w+")', texts)

    assert set(re.findall(r'"(\w+)"', " ".join(lists))) <= codes
    assert set(re.findall(r'"(\w+)"', " ".join(waits))) <= reasons


async def test_finished_job_is_found(world: World, caplog: pytest.LogCaptureFixture):
    """The line of a real job that ended gives the queries its customer, status, code, tokens and time."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = world.customer()
    await customer.run(job_id="a.job")

    (row,) = found(query("jobs-failing"), ours(caplog))

    assert int(row.pop("run_ms")) >= 0
    assert {
        "customer": customer.name,
        "job_id": "a.job",
        "action": "chat",
        "status": "succeeded",
        "code": "-",
        "attempt": "1",
        "calls": "1",
        "input_tokens": "11",
        "output_tokens": "7",
    } == row


async def test_refused_credential_is_found(world: World, caplog: pytest.LogCaptureFixture):
    """A job whose key is refused is found under its customer and code."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = world.customer(api_key="wrong")
    await customer.run()

    (row,) = found(query("connections-refused"), ours(caplog))

    assert (customer.name, "failed", "credential_rejected") == (row["customer"], row["status"], row["code"])
    assert '"credential_rejected"' in query("connections-refused")


async def test_throttled_customer_is_found(world: World, caplog: pytest.LogCaptureFixture):
    """A job that goes back because its endpoint limits the rate is found under its customer and reason."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = world.customer()
    customer.account.will_answer(error(429, message="Slow down: wait.", retry_after="600"))
    await customer.deliver()

    (row,) = found(query("customers-rate-limited"), ours(caplog))

    assert (customer.name, "UpstreamRetryLater") == (row["customer"], row["reason"])
    assert "(429)" in row["error"]
    assert float(row["delay_s"]) >= 600


async def test_endpoint_that_is_down_is_found(world: World, caplog: pytest.LogCaptureFixture):
    """A breaker that opened is found under its customer and connection."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = world.customer()
    customer.account.will_answer(*[error(503)] * 8)
    for _ in range(8):
        await customer.deliver(options={"max_retries": 0})

    (row,) = found(query("endpoints-down"), ours(caplog))

    assert {
        "customer": customer.name,
        "connection": "default",
        "for_s": "10",
        "failures": "8",
        "refusals": "0",
        "code": "provider_unavailable",
    } == row


async def test_customer_that_uses_its_share_is_found(caplog: pytest.LogCaptureFixture):
    """A customer that uses its share of a worker is found under customer and connection; no other line reports it."""
    lanes = Limiter()
    lanes.of("contoso", "default", 1).seconds = 60
    with lanes.admitted("contoso", "default"), pytest.raises(errors.Throttled), lanes.admitted("contoso", "default"):
        pass

    (row,) = found(chart("share of a worker"), ours(caplog))

    assert {"customer": "contoso", "connection": "default", "jobs": "1", "requeued": "1"} == row


def test_what_the_runbook_sends_to_is_there():
    """The pictures that the runbook names in italics are the workbook's, by how their titles begin."""
    page = (ROOT / "docs/runbook.md").read_text()
    pictures = [each["title"] for each in (*CHARTS, *WORKBOOK["metrics"])]
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", page)) - {"Customer AI Jobs"}

    assert {"Why jobs fail", "Breakers that opened", "Customers that use their share of a worker"} <= named
    assert [] == [name for name in named if not any(title.startswith(name) for title in pictures)]
    assert "codes" in kql.said_of([chart("Breakers that opened")])[0].columns


def test_runbook_says_what_jobs_failing_leaves_out():
    """The codes that do not count as failing are those that the runbook names."""
    under = (ROOT / "docs/runbook.md").read_text().partition("## jobs-failing\n")[2].partition("**Look**")[0]
    (left_out,) = re.findall(r"code !in \(([^)]*)\)", query("jobs-failing"))

    assert set(re.findall(r'"(\w+)"', left_out)) == set(re.findall(r"`(\w+)`", under))


def test_faults_are_shown_as_they_are_counted():
    """The chart of faults shows every line that the alert counts."""
    counted, shown = query("app-faults"), chart("Faults of the app")

    assert "code=internal" in counted
    assert counted.partition(";")[0] == shown.partition(";")[0]


async def test_job_error_is_found(world: World, caplog: pytest.LogCaptureFixture):
    """A crash is found by how its line begins."""
    customer = world.customer()
    broken = replace(world.services, connections=_Broken())
    await broken.worker.process(delivery(json.dumps(customer.job()).encode()))

    assert [True] == [line.startswith(tuple(kql.begins(query("app-faults")))) for line in ours(caplog)]


async def test_failed_callback_is_found(own_world: World, caplog: pytest.LogCaptureFixture):
    """A callback that is given up is found under its customer."""
    world = own_world
    customer = world.customer()
    await customer.run(output={"callback": "https://receiver.example.com/hook"})
    (message,) = await world.messages(world.environment["CALLBACKS_QUEUE"])
    await world.services.callbacks.deliver(message)

    (row,) = found(query("callbacks-failing"), ours(caplog))

    assert (customer.name, "1", "-") == (row["customer"], row["attempt"], row["http_status"])


@pytest.mark.parametrize("inserted", ["2026-11-20T03:01:39.000+00:00", "11/20/2026 3:01:39 AM +00:00"])
def test_age_of_a_message_is_found(inserted: str):
    """The host's own line of a message that it took gives the time at which it was put into the queue."""
    line = f"Trigger Details: MessageId: b00a86dc-298d, DequeueCount: 2, InsertionTime: {inserted}"

    (row,) = found(query("queue-age"), [line])

    assert {"message_id": "b00a86dc-298d", "dequeue_count": "2", "inserted": inserted} == row


def test_app_that_does_not_answer_is_noticed_from_outside():
    """The health check, which is open to everybody, is asked from several places; one alone wakes nobody."""
    made = {kind.partition("@")[0]: value(members(body)["properties"], {}) for kind, body in ALERTS.resources()}
    (alert,) = [
        value(members(body)["properties"], {})
        for _, body in ALERTS.resources()
        if b"WebtestLocationAvailabilityCriteria" in (body.text or b"")
    ]
    test = made["Microsoft.Insights/webtests"]

    assert "${app.outputs.uri}/api/health'" in (ROOT / "infra/main.bicep").read_text()
    assert 'route="health"' in (ROOT / "function_app.py").read_text()
    assert 1 < alert["criteria"]["failedLocationCount"] < len(test["Locations"])
    assert f"PT{test['Frequency'] // 60}M" == alert["windowSize"]  # each place has asked once in it
    assert (1, 200) == (alert["severity"], test["ValidationRules"]["ExpectedHttpStatusCode"])


def test_metrics_are_azures():
    """Metrics and their dimensions are those that Azure names (learn.microsoft.com, "supported-metrics")."""
    known = {
        ("Microsoft.KeyVault/vaults", "ServiceApiResult"): {"StatusCode"},
        ("Microsoft.Storage/storageAccounts", "Transactions"): {"ResponseType"},
        ("Microsoft.Storage/storageAccounts/queueServices", "QueueMessageCount"): set(),
    }

    assert known == {
        (each["namespace"], each["metric"]): {dimension["name"] for dimension in each["dimensions"]}
        for each in METRIC_ALERTS
    }


def test_expiring_secrets_are_told_by_the_vault():
    """Key Vault's own events of a secret that is about to expire, or has, become alerts."""
    bodies = [body for kind, body in ALERTS.resources() if kind.startswith("Microsoft.EventGrid/systemTopics/eventS")]
    (told,) = [value(members(body)["properties"], {}) for body in bodies]

    expected = {"Microsoft.KeyVault.SecretNearExpiry", "Microsoft.KeyVault.SecretExpired"}
    assert expected == set(told["filter"]["includedEventTypes"])
    assert ("CloudEventSchemaV1_0", "MonitorAlert") == (
        told["eventDeliverySchema"],
        told["destination"]["endpointType"],
    )


class _Broken:
    async def resolve(self, customer: str, name: str) -> None:
        raise ValueError(customer + name)

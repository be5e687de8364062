"""The alerts: which ones exist, that the runbook has each of them, and those made from Azure's own metrics."""

from __future__ import annotations

import re

from tests.support.deployment import ROOT, TEST
from tests.support.infra_queries import CHARTS, LOG_ALERTS, METRIC_ALERTS, METRIC_CHARTS, alert_query

(HEALTH_TEST,) = TEST.of_type("Microsoft.Insights/webtests").values()
(APP_DOWN,) = (
    each
    for each in TEST.of_type("Microsoft.Insights/metricAlerts").values()
    if each["properties"]["criteria"]["odata.type"].endswith("WebtestLocationAvailabilityCriteria")
)
(SECRETS_EXPIRING,) = TEST.of_type("Microsoft.EventGrid/systemTopics/eventSubscriptions").values()
DESCRIPTIONS = {
    **{each["name"]: each["runbook"] for each in (*LOG_ALERTS, *METRIC_ALERTS)},
    "app-down": APP_DOWN["properties"]["description"],
    "secrets-expiring": SECRETS_EXPIRING["properties"]["destination"]["properties"]["description"],
}
NAMES = list(DESCRIPTIONS)
RUNBOOK = (ROOT / "docs/runbook.md").read_text()


def test_runbook_has_a_heading_for_every_alert_and_no_other():
    """
    The name of an alert is a heading of the runbook, whose section says what to look at and what to do, and in whose
    address the alert's description ends. Failing jobs, dead letters, the age of the queue, rate limits, expiring
    secrets, a throttled vault and an app that is down have one.
    """
    needed = {"jobs-failing", "poison", "queue-age", "customers-rate-limited", "secrets-expiring", "vault-throttled"}
    headings = re.findall(r"^## (\S+)$", RUNBOOK, re.MULTILINE)

    assert needed | {"app-down"} <= set(NAMES)
    assert sorted(set(NAMES)) == sorted(headings) == sorted(NAMES)
    for name in NAMES:
        section = RUNBOOK.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert {"**Look**", "**Do**"} <= set(re.findall(r"\*\*\w+\*\*", section)), name
        assert DESCRIPTIONS[name].endswith(f"Runbook: docs/runbook.md#{name}")


def test_charts_that_the_runbook_names_exist():
    """A title in italics in the runbook is how the title of a chart of the workbook begins."""
    titles = [each["title"] for each in (*CHARTS, *METRIC_CHARTS)]
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", RUNBOOK)) - {"Customer AI Jobs"}

    assert {"Why jobs fail", "Breakers that opened", "Customers that use their share of a worker"} <= named
    assert [] == [name for name in named if not any(title.startswith(name) for title in titles)]


def test_runbook_names_the_codes_that_jobs_failing_leaves_out():
    """The codes that don't count as failing are those that the runbook names."""
    section = RUNBOOK.partition("## jobs-failing\n")[2].partition("**Look**")[0]
    (excluded,) = re.findall(r"code !in \(([^)]*)\)", alert_query("jobs-failing"))

    assert set(re.findall(r'"(\w+)"', excluded)) == set(re.findall(r"`(\w+)`", section))


def test_cost_page_counts_the_alerts():
    """Each rule costs something: the page on cost has the number of those that query logs, and of those on metrics."""
    (numbers,) = re.findall(
        r"\| (\d+) rules that query logs .*?, (\d+) on metrics;", (ROOT / "docs/cost.md").read_text()
    )

    assert (str(len(LOG_ALERTS)), str(len(METRIC_ALERTS) + 1)) == numbers  # app-down goes by a metric, too


def test_app_down_is_tested_from_several_locations():
    """The anonymous health check is requested from several locations; if only one fails, no alert fires."""
    alert, test = APP_DOWN["properties"], HEALTH_TEST["properties"]

    assert re.fullmatch(
        r"\[format\('https://\{0\}/api/health', .*defaultHostName\)\]|.*/api/health.*defaultHostName.*",
        test["Request"]["RequestUrl"],
    )
    assert 'route="health"' in (ROOT / "function_app.py").read_text()
    assert 1 < alert["criteria"]["failedLocationCount"] < len(test["Locations"])
    assert f"PT{test['Frequency'] // 60}M" == alert["windowSize"]  # each location requests it once in a window
    assert (1, 200) == (alert["severity"], test["ValidationRules"]["ExpectedHttpStatusCode"])


def test_metrics_are_azures():
    """Metrics and their dimensions are those that Azure names (learn.microsoft.com, "supported-metrics")."""
    supported = {
        ("Microsoft.KeyVault/vaults", "ServiceApiResult"): {"StatusCode"},
        ("Microsoft.Storage/storageAccounts", "Transactions"): {"ResponseType"},
        ("Microsoft.Storage/storageAccounts/queueServices", "QueueMessageCount"): set(),
    }

    assert supported == {
        (each["namespace"], each["metric"]): {dimension["name"] for dimension in each["dimensions"]}
        for each in METRIC_ALERTS
    }


def test_vault_reports_expiring_secrets():
    """Key Vault's own events of a secret that is about to expire, or has expired, become alerts."""
    subscription = SECRETS_EXPIRING["properties"]

    expected = {"Microsoft.KeyVault.SecretNearExpiry", "Microsoft.KeyVault.SecretExpired"}
    assert expected == set(subscription["filter"]["includedEventTypes"])
    assert ("CloudEventSchemaV1_0", "MonitorAlert") == (
        subscription["eventDeliverySchema"],
        subscription["destination"]["endpointType"],
    )

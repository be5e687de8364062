"""The alerts and charts of the templates, as a deployment would create them, and the queries of the docs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.support.deployment import ROOT, TEST, Deployment, text_of


def log_alerts(deployment: Deployment) -> list[dict[str, Any]]:
    """The alerts that query logs: name, query, the measured column and those that distinguish alerts."""
    return [
        {
            "name": _name(rule),
            "query": text_of(criterion["query"]),
            "column": criterion["metricMeasureColumn"],
            "dimensions": [each["name"] for each in criterion["dimensions"]],
            "runbook": rule["properties"]["description"],
        }
        for rule in deployment.of_type("Microsoft.Insights/scheduledQueryRules").values()
        for criterion in rule["properties"]["criteria"]["allOf"]
    ]


def metric_alerts(deployment: Deployment) -> list[dict[str, Any]]:
    """The alerts on Azure's own metrics."""
    return [
        {
            "name": _name(rule),
            "namespace": criterion["metricNamespace"],
            "metric": criterion["metricName"],
            "dimensions": criterion["dimensions"],
            "runbook": rule["properties"]["description"],
        }
        for rule in deployment.of_type("Microsoft.Insights/metricAlerts").values()
        for criterion in rule["properties"]["criteria"].get("allOf", [])
    ]


def charts(deployment: Deployment) -> list[dict[str, Any]]:
    """The contents of the workbook's charts: title, and a query if logs are shown."""
    (workbook,) = deployment.of_type("Microsoft.Insights/workbooks").values()
    contents = [item["content"] for item in workbook["properties"]["serializedData"]["items"]]
    return [
        {**each, "query": text_of(each["query"])} if "query" in each else each for each in contents if "title" in each
    ]


def queries(deployment: Deployment) -> list[tuple[str, str]]:
    """The name of each log alert, or the title of each chart, with its query."""
    shown = [(each["title"], each["query"]) for each in charts(deployment) if "query" in each]
    return [(each["name"], each["query"]) for each in log_alerts(deployment)] + shown


def _name(rule: Mapping[str, Any]) -> str:
    return str(rule["name"]).removesuffix(f"-{rule['tags']['azd-env-name']}")


LOG_ALERTS = log_alerts(TEST)
METRIC_ALERTS = metric_alerts(TEST)
CHARTS = [each for each in charts(TEST) if "query" in each]
METRIC_CHARTS = [each for each in charts(TEST) if "query" not in each]
QUERIES = queries(TEST)


def alert_query(name: str) -> str:
    """The query of a log alert."""
    return next(str(each["query"]) for each in LOG_ALERTS if each["name"] == name)


def chart_query(title: str) -> str:
    """The query of the chart whose title contains this."""
    return next(str(each["query"]) for each in CHARTS if title in each["title"])


def doc_queries() -> list[tuple[str, str]]:
    """The queries in the docs, in blocks and in sentences, each named by its page and how it begins."""
    pattern = re.compile(r"^```kusto\n(.*?)^```|`((?:App|AZ|Storage)\w+ \|[^`]+)`", re.MULTILINE | re.DOTALL)
    return [
        (f"{page.name}: {(block or inline)[:40]}", block or inline)
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block, inline in pattern.findall(page.read_text())
    ]

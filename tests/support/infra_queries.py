"""The alerts and charts of the templates, and the queries of the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.support.bicep import read

ROOT = Path(__file__).parents[2]
ALERTS = read(ROOT / "infra/app/alerts.bicep")
LOG_ALERTS: list[dict[str, Any]] = ALERTS.variables()["logAlerts"]
METRIC_ALERTS: list[dict[str, Any]] = ALERTS.variables()["metricAlerts"]
WORKBOOK = read(ROOT / "infra/app/workbook.bicep").variables()
CHARTS: list[dict[str, Any]] = WORKBOOK["charts"]
QUERIES = [(each["name"], each["query"]) for each in LOG_ALERTS] + [(each["title"], each["query"]) for each in CHARTS]
"""The name of each log alert, or the title of each chart, with its query."""


def alert_query(name: str) -> str:
    """The query of a log alert."""
    return next(each["query"] for each in LOG_ALERTS if each["name"] == name)


def chart_query(title: str) -> str:
    """The query of the chart whose title contains this."""
    return next(each["query"] for each in CHARTS if title in each["title"])


def doc_queries() -> list[tuple[str, str]]:
    """The queries in the docs, in blocks and in sentences, each named by its page and how it begins."""
    pattern = re.compile(r"^```kusto\n(.*?)^```|`((?:App|AZ|Storage)\w+ \|[^`]+)`", re.MULTILINE | re.DOTALL)
    return [
        (f"{page.name}: {(block or inline)[:40]}", block or inline)
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block, inline in pattern.findall(page.read_text())
    ]

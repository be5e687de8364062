"""The queries of alerts, workbook and docs: valid KQL, with names that the code uses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared import errors
from tests.support import kql
from tests.support.infra_queries import LOG_ALERTS, QUERIES, ROOT, alert_query, chart_query, doc_queries
from tests.support.rows import every_row

EVERY = [*QUERIES, *doc_queries()]
WRONG = ("AppTraces | where Mesage == ''", "AppTraces | wher true", "AppTraces | summarize sum(Message)")
TEXTS = " ".join(text for _, text in QUERIES)


@pytest.fixture(name="analyses", scope="module")
def _analyses() -> dict[str, kql.Analysis]:
    """The analysis of each query, by its name, and of each wrong one, by its text."""
    queries = EVERY + [(text, text) for text in WRONG]
    return dict(zip((name for name, _ in queries), kql.analyze([text for _, text in queries]), strict=True))


@pytest.mark.long  # the language service takes four seconds to start
@every_row("name", [name for name, _ in EVERY])
def test_query_is_valid(name: str, analyses: dict[str, kql.Analysis]):
    """Microsoft's own language service reports no error: syntax, tables, columns, types, functions."""
    assert [] == analyses[name].errors
    assert analyses[name].columns


@pytest.mark.long  # the language service takes four seconds to start
def test_language_service_reports_errors(analyses: dict[str, kql.Analysis]):
    """A wrong column, operator or type is reported, so its silence means something; queries of the docs are tested."""
    assert [] == [text for text in WRONG if not analyses[text].errors]
    assert {"runbook.md", "telemetry.md"} <= {name.partition(":")[0] for name, _ in doc_queries()}


@pytest.mark.long  # the language service takes four seconds to start
@every_row("alert", LOG_ALERTS, ids=lambda alert: alert["name"])
def test_alert_measures_a_column_of_its_query(alert: dict[str, Any], analyses: dict[str, kql.Analysis]):
    """The measured column is a number; the columns that distinguish alerts are all those that aren't numbers."""
    columns = analyses[alert["name"]].columns
    numbers = {name for name, kind in columns.items() if kind in {"int", "long", "real"}}

    assert not alert["column"] or alert["column"] in numbers
    assert not alert["column"] or alert["dimensions"] == [name for name in columns if name not in numbers]


@pytest.mark.long  # the language service takes four seconds to start
def test_chart_of_breakers_has_the_codes_that_opened_them(analyses: dict[str, kql.Analysis]):
    """The runbook sends its reader to them."""
    assert "codes" in analyses[next(title for title, _ in QUERIES if "Breakers that opened" in title)].columns


def test_functions_in_queries_exist():
    """Functions that queries name are functions of the app."""
    functions = set(re.findall(r"async def (\w+)", (ROOT / "function_app.py").read_text()))
    named = re.findall(r'(?:Name|OperationName) == "(\w+)"', TEXTS) + re.findall(
        r'"(\w+)"', " ".join(re.findall(r"Name in \(([^)]*)\)", TEXTS))
    )

    assert {
        "run_job",
        "dead_letter_job",
        "dead_letter_callback",
        "dead_letter_batch",
        "retention_sweep",
        "wake_jobs",
        "close_months",
    } == set(named)
    assert set(named) <= functions


def test_codes_and_reasons_in_queries_exist():
    """Error codes and reasons in the queries are the code's."""
    classes = {name: each for name, each in vars(errors).items() if isinstance(each, type)}
    codes = {each.code for each in classes.values() if issubclass(each, errors.JobError)}
    reasons = {name for name, each in classes.items() if issubclass(each, errors.RetryLater)}
    code_lists = re.findall(r"\bcode !?in \(([^)]*)\)", TEXTS) + re.findall(r'\bcode == ("\w+")', TEXTS)
    reason_lists = re.findall(r"\breason in \(([^)]*)\)", TEXTS) + re.findall(r'\breason == ("\w+")', TEXTS)

    assert set(re.findall(r'"(\w+)"', " ".join(code_lists))) <= codes
    assert set(re.findall(r'"(\w+)"', " ".join(reason_lists))) <= reasons


def test_chart_of_faults_shows_what_the_alert_counts():
    """The chart of faults shows every line that the alert counts."""
    counted, shown = alert_query("app-faults"), chart_query("Faults of the app")

    assert "code=internal" in counted
    assert counted.partition(";")[0] == shown.partition(";")[0]

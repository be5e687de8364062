"""The names of log events, metrics and attributes: one module has them; code, queries and docs use no others."""

from __future__ import annotations

import ast
import inspect
import re
from itertools import pairwise

from shared import event_names
from shared.batches.file_batches import BATCH_ID
from shared.errors import BudgetExceeded, CustomerSuspended
from tests.support import deployment_checks, doc_samples, infra_queries, kql

ROOT = doc_samples.ROOT


NAMES = {name: text for name, text in vars(event_names).items() if name.isupper() and name != "NAMESPACE"}
METRICS = {text for name, text in NAMES.items() if name.startswith("METRIC_")}
ATTRIBUTES = {text for name, text in NAMES.items() if name.startswith("ATTR_")}
EVENTS = sorted({*NAMES.values()} - METRICS - ATTRIBUTES)


def meanings() -> dict[str, str]:
    """What the docstring under each constant of `event_names` says of its value."""
    body = ast.parse(inspect.getsource(event_names)).body
    return {
        constant.value.value: " ".join(text.value.value.split())
        for constant, text in pairwise(body)
        if isinstance(constant, ast.AnnAssign)
        and isinstance(constant.value, ast.Constant)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


MEANINGS = meanings()
ALERTS = {each["name"]: each["query"] for each in infra_queries.LOG_ALERTS}
CHARTS = {each["title"]: each["query"] for each in infra_queries.CHARTS}


def events_of(query: str) -> set[str]:
    """The events that a query looks for."""
    return {begin.strip() for begin in kql.prefixes(query)}


def test_queries_find_events_by_the_names_of_the_code():
    """Each query finds messages by the name of an event, which is a constant, or by the host's own words."""
    begins = {begin for text in (*ALERTS.values(), *CHARTS.values()) for begin in kql.prefixes(text)}
    wanted = begins - {"Trigger Details: MessageId: "}

    assert len(wanted) > 5
    assert set() == wanted - {f"{name} " for name in EVENTS}


def test_queries_of_the_docs_name_what_exists():
    """A query on a page looks for no event that the code does not write."""
    assert [] == [fault for each in infra_queries.doc_queries() for fault in deployment_checks.unknown_words(*each)]


def test_infra_has_no_name_of_ours_that_is_not_a_constant():
    """No word in the queries, the alerts and the workbook looks like an event or a metric and is none."""
    texts = [path.read_text() for path in sorted((ROOT / "infra").rglob("*.*")) if path.suffix in {".kql", ".bicep"}]
    written = {word for text in texts for word in re.findall(r'"(\w+_\w+) ', text)}
    metrics = {word for text in texts for word in re.findall(r"\b(?:customer_ai_jobs|gen_ai)\.[a-z_.]+", text)}

    assert len(written) > 5
    assert set() == written - set(EVENTS)
    assert set() == metrics - METRICS - ATTRIBUTES


def test_the_code_uses_every_name_and_only_by_its_constant():
    """Each event, metric and attribute is used somewhere, and no log call spells its event out."""
    sources = [path.read_text() for path in (ROOT / "shared").rglob("*.py") if path.name != "event_names.py"]
    code = "\n".join(sources)

    assert set() == set(NAMES) - set(re.findall(r"\w+", code))
    assert set() == set(EVENTS) & set(re.findall(r"""["'](\w+)""", code))
    assert [] == re.findall(r"""\blog\.(?:info|warning|error)\(\s*f?"(?!%s )[^"]*""", code)


def test_events_that_alerts_are_promised_for_are_in_queries():
    """An event that the runbook says an alert is made from is found by that alert's query."""
    promised = {
        "app-faults": {"job_error", "usage_record_exists", "usage_not_recorded", "request_failed", "job_finished"},
        "budgets-exhausted": {"budget_exhausted"},
        "batches-late": {"batch_late", "batch_unattended", "batch_given_up", "batch_doubled"},
        "callbacks-failing": {"callback_failed"},
        "endpoints-down": {"breaker_open"},
        "jobs-failing": {"job_finished"},
        "connections-refused": {"job_finished"},
        "customers-rate-limited": {"job_requeued", "job_finished"},
        "storage-or-vault-down": {"job_requeued"},
        "statements-failing": {"job_finished"},
    }

    assert promised == {name: events_of(ALERTS[name]) for name in promised}
    assert [{"customer_throttled"}] == [events_of(CHARTS[title]) for title in CHARTS if "share of a worker" in title]


def test_docs_name_events_that_exist():
    """A word in the runbook and on the page about telemetry that looks like an event is one."""
    families = "|".join(sorted({event.partition("_")[0] for event in EVENTS} - {"callback", "connection", "request"}))
    others = {"job_id", "batch_model", BATCH_ID, CustomerSuspended.code, BudgetExceeded.code}
    for page in ("runbook.md", "telemetry.md"):
        text = (ROOT / "docs" / page).read_text()
        written = set(re.findall(rf"`((?:{families})_[a-z_]+)`", text))

        assert set() == written - set(EVENTS) - others, page
    logs = doc_samples.section("docs/operate.md", "Logs")
    assert set() == set(re.findall(r"^([a-z]+(?:_[a-z]+)+) ", logs, re.MULTILINE)) - set(EVENTS)


def test_docs_name_metrics_and_attributes_that_exist():
    """A metric or attribute of the app that a page names is a constant."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    written = {name for page in pages for name in re.findall(r"\bcustomer_ai_jobs\.[a-z_]+", page.read_text())}

    assert len(written) > 5
    assert set() == written - METRICS - ATTRIBUTES


def test_docs_list_every_event_with_its_meaning():
    """The table of log events on the page about telemetry has each event, in the words of the module."""
    section = doc_samples.section("docs/telemetry.md", "Log events")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)

    assert {event: MEANINGS[event] for event in EVENTS} == dict(rows)


def test_docs_list_every_metric_with_its_meaning():
    """The table of metrics has each metric, in the words of the module, and only attributes that exist."""
    section = doc_samples.section("docs/telemetry.md", "Metrics")
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*) \|$", section, re.MULTILINE)
    attributes = {f"customer_ai_jobs{name}" for _, _, by in rows for name in re.findall(r"`(\.\w+)`", by)}

    assert {metric: MEANINGS[metric] for metric in METRICS} == {name: text for name, text, _ in rows}
    assert 4 == len(attributes)
    assert set() == attributes - ATTRIBUTES

"""Models that are retired or soon will be: the list, and what `doctor` says about the models that connections name."""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime, timedelta

import pytest

from aijobs import model_retirements
from aijobs.model_retirements import NOTICE, REVIEWED, check_models, retirements
from aijobs.static_check import check_static_connection
from aijobs.table import lines_of, make_table
from aijobs.vault_checks import check_vault
from local.stack.customers import demo_customers
from shared.settings import read_settings
from tests.support.cli_runner import CliRunner
from tests.support.doc_samples import ROOT
from tests.support.harness import Customer
from tests.support.rows import every_row
from tests.support.wrong_settings import ACCOUNT

AZURE, OPENAI = ("learn.microsoft.com", "developers.openai.com")


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day on which the list was reviewed."""
    on(monkeypatch, REVIEWED)


def on(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    """Let it be that day."""
    monkeypatch.setattr(model_retirements, "now", lambda: datetime(day.year, day.month, day.day, 23, tzinfo=UTC))


def test_the_list_has_each_model_once_with_its_source():
    """Every row has a date, and the page of its provider that names it; a successor is retired later."""
    with (ROOT / "aijobs" / "model_retirements.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == len(retirements())
    assert {"openai", "azure"} == {row["provider"] for row in rows}
    for row in rows:
        assert (AZURE if row["provider"] == "azure" else OPENAI) in row["source"]
        successor = retirements().get((row["provider"], row["successor"]))
        assert successor is None or date.fromisoformat(row["retires"]) < successor.retires


@every_row(
    ("provider", "model", "verdict", "words"),
    [
        ("openai", "gpt-image-1", "error", "gpt-image-1 was retired on 2026-10-23. Use gpt-image-2 instead."),
        ("openai", "whisper-1", "warning", "whisper-1 will be retired on 2027-02-26. Use gpt-transcribe instead."),
        ("openai", "tts-1", "warning", "will be retired on 2027-01-06."),
        ("openai", "gpt-5-mini-2025-08-07", "warning", "gpt-5-mini-2025-08-07 will be retired on 2026-12-11."),
        ("openai", "gpt-4o-2024-05-13", "error", "was retired on 2026-10-23."),
        ("openai", "gpt-4o-2024-08-06", "warning", "will be retired on 2027-01-14."),
        (
            "azure_openai",
            "gpt-image-1",
            "warning",
            "whose name the deployment gpt-image-1 has, was retired on 2026-10-23.",
        ),
        (
            "foundry",
            "gpt-4.1",
            "warning",
            "was retired on 2026-10-14. Choose another model. See learn.microsoft.com/",
        ),
        ("openai", "gpt-4-0613", "error", "gpt-4-0613 was retired on 2026-10-23. Use gpt-5.6-sol instead."),
        ("azure_openai", "GPT-4o", "warning", "The model gpt-4o, whose name the deployment GPT-4o has, was retired"),
        ("azure_openai", "gpt-4", "warning", "was retired on 2025-06-06. Use gpt-5.1 instead."),
        ("azure_openai", "gpt-4o-mini", "warning", "was retired on 2026-10-01. Choose another model."),
        ("openai", "gpt-image-2", "", ""),
        ("azure_openai", "gpt-image-2", "", ""),
        ("azure_openai", "contoso-chat", "", ""),
        ("openai", "gpt-image-1x", "", ""),
    ],
)
def test_models_are_named_with_date_successor_and_source(provider: str, model: str, verdict: str, words: str):
    """A retired model of OpenAI's is an error; a deployment may only have the name of one, so that is a warning."""
    findings = check_models("model: x", provider, [model])

    assert ([verdict] if verdict else []) == [finding.verdict for finding in findings]
    assert all(words in finding.message and re.search(r" See [\w.]+/\S+\w$", finding.message) for finding in findings)


@every_row(("days", "verdict"), [(NOTICE.days + 1, None), (NOTICE.days, "warning"), (1, "warning"), (0, "error")])
def test_notice_is_given_in_time(monkeypatch: pytest.MonkeyPatch, days: int, verdict: str | None):
    """A model is named from so many days before its last one."""
    on(monkeypatch, date(2027, 2, 26) - timedelta(days=days))

    assert ([verdict] if verdict else []) == [each.verdict for each in check_models("", "openai", ["whisper-1"])]


@pytest.mark.parametrize("days", [0, NOTICE.days, 365])
def test_no_advice_is_a_model_that_is_retired_too(monkeypatch: pytest.MonkeyPatch, days: int):
    """In place of a successor that is retired itself, or soon will be, its own successor is named, if there is one."""
    on(monkeypatch, REVIEWED + timedelta(days=days))

    for provider, model in retirements():
        for finding in check_models("", provider, [model]):
            advised = re.search(r" Use (\S+) instead\.", finding.message)
            assert advised is None or [] == check_models("", provider, [advised[1]])


def test_findings_fit_a_terminal():
    """No line of a finding is longer than 80 columns, whatever the model."""
    check = "model: contoso/default"
    findings = [finding for provider, name in retirements() for finding in check_models(check, provider, [name])]
    rows = [(each.check, each.verdict, each.message) for each in findings]

    assert len(findings) > 50
    assert max(map(len, lines_of(make_table(("check", "", "finding"), rows, prose="finding"), 80))) <= 80


async def test_models_of_customers_are_looked_at(cli: CliRunner, newcomer: Customer):
    """The default model and the deployment of each connection are; those that can't be read are counted."""
    harness, other = cli.harness, cli.harness.customer(connection=None)
    harness.connect(newcomer, provider="openai", default_model="dall-e-3")
    harness.connect(newcomer, "current", default_model="contoso-chat")
    harness.put_secret(f"ai--{other.name}--default", "{")
    endpoint = "https://r.openai.azure.com/openai/deployments/gpt-4o"
    harness.put_secret(f"ai--{other.name}--azure", other.account.key, tags={"endpoint": endpoint})

    findings = await check_vault(harness.services)
    rows = [f"{each.check} {each.verdict} {each.message}" for each in findings if each.check.startswith("model")]

    own = [row for row in rows if newcomer.name in row or other.name in row]
    assert 2 == len(own)
    assert any(f"model: {newcomer.name}/default error dall-e-3 was retired on 2026-05-12." in row for row in own)
    assert any(f"model: {other.name}/azure warning The model gpt-4o, whose" in row for row in own)
    assert re.search(r"models ok \d+ connections? looked at .* others? can't be read", rows[-1])


@every_row(
    ("settings", "words"),
    [
        ({"STATIC_MODELS": "gpt-image-1,gpt-image-2"}, "error gpt-image-1 was retired on 2026-10-23."),
        (
            {"STATIC_CONNECTION": '{"api_key": "sk-1", "default_model": "whisper-1"}'},
            "warning whisper-1 will be retired",
        ),
        (
            {"STATIC_CONNECTION": '{"api_key": "sk-1", "batch_model": "whisper-1"}', "STATIC_MODELS": "b"},
            "warning whisper-1 will be retired",
        ),
        (
            {"STATIC_CONNECTION": '{"api_key": "sk-1", "default_model": "a"}', "STATIC_MODELS": "b"},
            "warning STATIC_MODELS doesn't allow a, which jobs without a model use",
        ),
    ],
)
async def test_models_of_the_static_connection_are_looked_at(settings: dict[str, str], words: str):
    """So are its default model, that of its batches, and the models that it may be used for."""
    own = {"STATIC_CONNECTION": '{"api_key": "sk-1"}', "ALLOW_STATIC_CONNECTION": "contoso"} | settings

    _, *findings = await check_static_connection(read_settings({"JobStorage": ACCOUNT, **own}))

    (row,) = [f"{each.verdict} {each.message}" for each in findings]
    assert row.startswith(words)


def test_the_local_stacks_customers_name_current_models():
    """`doctor` has nothing to say about a local stack that has just been started."""
    models = [
        (customer.settings["provider"], name)
        for customer in demo_customers()
        if (name := customer.settings.get("default_model"))
    ]

    assert 2 == len(models)
    assert [] == [finding for provider, name in models for finding in check_models("", provider, [name])]


RETIRED = sorted({model for (_, model), row in retirements().items() if row.retires <= REVIEWED + NOTICE})
PAST = {"bill.md", "prices.md"}
"""Pages about what was used in the past."""


def test_no_page_shows_a_retired_model():
    """What a reader copies from the README, a page of docs/, what runs locally or the OpenAPI document still works."""
    files = [ROOT / "README.md", ROOT / "test.http", *(ROOT / "docs").rglob("*.md")]
    files += [file for part in ("demo", "soak", "stack") for file in (ROOT / "local" / part).rglob("*.py")]
    files += [*(ROOT / "openapi").rglob("*.py"), *(ROOT / "shared" / "http" / "static").iterdir()]
    texts = {file: file.read_text(encoding="utf-8") for file in files if file.name not in PAST}

    assert [] == [(str(file), model) for file, text in texts.items() for model in RETIRED if shows(text, model)]


def shows(text: str, model: str) -> bool:
    """Whether a text has a model's name as a word."""
    word = rf"[\"`' ]{re.escape(model)}(?=[\"`' ,]|\.(?!\d)|$)"
    return model in text and re.search(word, text, re.MULTILINE) is not None


def test_a_model_is_found_by_its_whole_name():
    """In quotes or in a sentence, and not as a part of another one's."""
    for text in ('"gpt-4o"', "Use gpt-4o.", "a gpt-4o, b", "`gpt-4o`", "the gpt-4o"):
        assert shows(text, "gpt-4o")
    for text in ('"gpt-4o-mini"', "gpt-4o", " gpt-4o.1", "xgpt-4o "):
        assert not shows(text, "gpt-4o")

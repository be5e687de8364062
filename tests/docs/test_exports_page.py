"""The page about exports: its setting is valid, and its tables are what the code has."""

from __future__ import annotations

import json
import re
import typing

from shared.connections import key_vault
from shared.export_settings import _KINDS, KINDS, MEASURES, read_exports
from shared.exports.outbox_rows import EventState
from tests.support.doc_samples import ROOT, blocks

PAGE = (ROOT / "docs/exports.md").read_text(encoding="utf-8")


def test_the_setting_on_the_page_is_valid():
    """It names a kind each, and the profile on the page has an external id for one of them."""
    (text,) = blocks("docs/exports.md", "json")
    exports = read_exports("USAGE_EXPORTS", text)
    (ids,) = re.findall(r'`"external_ids": (\{.*?\})`', PAGE)

    assert ["stripe", "lago", "cloudevents"] == [export.kind for export in exports]
    assert json.loads(ids).keys() <= {export.name for export in exports}


def test_members_kinds_and_measures_are_those_of_the_code():
    """The table has each kind with its own member and its cloud, and each measure."""
    row = next(line for line in PAGE.splitlines() if line.startswith("| `event_name`"))

    for name, kind in _KINDS.items():
        assert re.search(rf"`{kind.event}` \([^)]*`{name}`", row), name
        assert not kind.url or f"`{kind.url}`" in PAGE
        assert not kind.default_event or f"`{kind.default_event}`" in PAGE
    assert [f"`{name}`" for name in KINDS] == re.findall(r"`\w+`", _cell("kind"))
    assert set(MEASURES) == set(re.findall(r"`(\w+)`", _cell("value")))


def test_states_are_those_that_are_listed():
    """Each state that a person meets has a row; what is sent or left out is not listed."""
    states = set(typing.get_args(typing.get_type_hints(EventState)["state"]))

    rows = re.findall(r"^\| `(\w+)` \|", PAGE.partition("| state |")[2].partition("\n\n")[0], re.MULTILINE)
    assert states - {"sent", "left_out"} == set(rows)


def test_commands_on_the_page_are_run():
    """Each is a sample on the page about the command line, where all of them are run; the secret is the app's own."""
    commands = re.findall(r"^python -m aijobs (.*)$", PAGE, re.MULTILINE)
    samples = re.findall(r"^python -m aijobs (.*)$", (ROOT / "docs/cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    (secret,) = re.findall(r"az keyvault secret set .*--name (\S+)", PAGE)

    assert len(commands) >= 5
    assert [] == [command for command in commands if command not in samples]
    assert key_vault._export_name("stripe") == secret


def _cell(name: str) -> str:
    """The text beside a member."""
    return next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")).split("|")[2]

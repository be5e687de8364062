"""What docs/claude.md says is so: its connections are understood, and its tables are the code's."""

from __future__ import annotations

import re

from shared.actions.claude_request import claude_request
from shared.actions.claude_response import _FINISH_REASONS
from shared.connections.connection import _CLAUDE_ACTIONS
from shared.connections.endpoint import parse_endpoint
from shared.contract.connection import decode_connection
from tests.support.doc_samples import ROOT, blocks, section

PAGE = "docs/claude.md"
USER = [{"role": "user", "content": "Hello?"}]


def test_its_connections_lead_to_claude():
    """The one that is shown, and each endpoint of the table, without a provider."""
    (block,) = blocks(PAGE, "json")
    pasted = re.findall(r"^\|[^|]*\| `(https://[^`]+)`", section(PAGE, "Connect"), re.MULTILINE)

    record = decode_connection(block.replace("…", "KEY"))

    assert 2 == len(pasted)
    for endpoint in (record.endpoint, *pasted):
        assert "anthropic" == parse_endpoint(endpoint).provider


def test_its_actions_are_those_that_a_connection_takes():
    """Here, and on the page on submitting."""
    for page in (PAGE, "docs/submit.md"):
        (line,) = re.findall(r"^A connection .*Claude.*$", (ROOT / page).read_text(), re.MULTILINE)
        assert set(_CLAUDE_ACTIONS) == set(re.findall(r"`(\w+)`", line))


def test_its_parameters_become_what_it_says():
    """Those with a word of Claude's own; what only tunes an answer is in `adapted`."""
    sent = {
        "stop": ("END", "stop_sequences"),
        "reasoning_effort": ("high", "output_config"),
        "user": ("u", "metadata"),
        "service_tier": ("auto", "service_tier"),
    }
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", section(PAGE, "What a job becomes"), re.MULTILINE))
    for name, (value, member) in sent.items():
        (meaning,) = (text for left, text in rows.items() if f"`{name}`" in left)
        assert member in claude_request(USER, {name: value}).body
        assert member in meaning or member.replace("_", " ") in meaning or meaning.startswith("auto")
    left_out = re.search(r"`adapted` says so: (.*?)\. So is", section(PAGE, "What a job becomes"))
    assert left_out
    for name in re.findall(r"`(\w+)`", left_out[1].partition("a `temperature`")[0]):
        assert [f"{name} was left out"] == claude_request(USER, {name: 1}).adapted


def test_its_reasons_are_the_codes():
    """Each reason of Claude's that has another word here."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section(PAGE, "What comes back"), re.MULTILINE)
    reasons = {
        reason: re.findall(r"`(\w+)`", here.replace("`finish_reason` ", ""))[0]
        for there, here in rows
        for reason in re.findall(r"`(\w+)`", there.replace("`stop_reason` ", ""))
        if reason in _FINISH_REASONS
    }

    assert dict(_FINISH_REASONS) == reasons

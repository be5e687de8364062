"""Templates: how placeholders are filled, and that an event can't change the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import InvalidJob
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.webhooks.templates import check, fill
from tests.support.rows import every_row


def filled(template: Any, event: Any, headers: Mapping[str, str] | None = None, limit: int = MAX_BODY_BYTES) -> Any:
    """The filled template."""
    return json.loads(fill(json.dumps(template).encode(), json.dumps(event).encode(), headers or {}, limit=limit))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


hostile = st.sampled_from(
    ['"}', '", "action": "raw', "{{b}}", "{{{{", "}}", '{"a": 1}', "\\", "\u2028", "${x}", "{{$headers.webhook-id}}"]
)


@every_row("value", ["text", 7, 1.5, True, None, [1, "2"], {"a": {"b": []}}])
def test_a_placeholder_alone_keeps_the_type(value: Any):
    """A string that is one placeholder becomes the member's value; within a text, a string or JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    assert {"alone": value, "within": f"<{text}>"} == filled(
        {"alone": "{{ a.b }}", "within": "<{{a.b}}>"}, {"a": {"b": value}}
    )


@pytest.mark.parametrize(("template", "expected"), [("{{{{", "{{"), ("{{{{a}}", "{{a}}"), ("a}} {b}", "a}} {b}")])
def test_braces_can_be_escaped(template: str, expected: str):
    """Four opening braces are two; closing ones need no escape."""
    assert {"x": expected} == filled({"x": template}, {"a": 1})


def test_only_the_webhooks_headers_can_be_used():
    """Header names are not case-sensitive; a template can use no others."""
    headers = {"webhook-id": "msg_1", "authorization": "Bearer x"}

    assert {"x": "msg_1"} == filled({"x": "{{$headers.Webhook-Id}}"}, {}, headers)
    with pytest.raises(InvalidJob, match=r"no `\$headers\.authorization`"):
        filled({"x": "{{$headers.authorization}}"}, {}, headers)


def test_the_size_of_a_filled_template_is_limited():
    """What is filled in has a limit, however often a template names it."""
    with pytest.raises(InvalidJob, match="larger than a job may be"):
        filled({"x": ["{{a}}"] * 11}, {"a": "x" * 100}, limit=1000)


def test_the_depth_is_limited():
    """A template or an event that is nested too deeply is refused."""
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000  # how deep is too deep differs between versions of Python
    half = b'{"a":' * 30_000 + b'"{{a}}"' + b"}" * 30_000
    for template, event in ((deep, b"{}"), (b"{}", deep), (half, half)):
        with pytest.raises(InvalidJob, match="nested too deeply"):
            fill(template, event, {}, limit=MAX_BODY_BYTES)


@settings(max_examples=200, database=None)
@given(hostile | st.text(), json_values)
@example('", "customer": "other', {"input": "{{a}}"})
def test_an_event_never_changes_the_template(text: str, value: Any):
    """Whatever an event contains replaces its placeholder as a value; everything else is the template."""
    template = {
        "action": "chat",
        "input": {"prompt": "<{{a}}|{{a}}>", "system": "{{a}}", "extra": ["{{b}}", {"c": "{{b}}"}]},
        "metadata": {"fixed": "}} {b}", "braces": "{{{{a}}"},
    }

    assert {
        "action": "chat",
        "input": {"prompt": f"<{text}|{text}>", "system": text, "extra": [value, {"c": value}]},
        "metadata": {"fixed": "}} {b}", "braces": "{{a}}"},
    } == filled(template, {"a": text, "b": value, "action": "raw", "input": {}})


TEXTS = st.text(st.sampled_from("ab.{} "), max_size=12)
INPUTS = st.dictionaries(st.just("a"), TEXTS | st.lists(TEXTS))
TEMPLATES = st.fixed_dictionaries({}, optional={"model": TEXTS, "input": INPUTS})


def refusal(work: Callable[[], object]) -> str:
    """Why the work was refused; empty if it was not."""
    try:
        work()
    except InvalidJob as exc:
        return str(exc)
    return ""


@given(TEMPLATES)
def test_only_templates_that_fit_no_event_are_refused(template: dict[str, Any]):
    """A template passes the check before it is stored if, and only if, some event can fill it."""
    data = json.dumps(template).encode()

    checked = refusal(lambda: check(data))
    tried = refusal(lambda: fill(data, b"{}", {}, limit=MAX_BODY_BYTES))

    if checked:
        assert "invalid placeholder" in checked
        assert tried
    else:
        assert not tried or "The event has no" in tried


@pytest.mark.parametrize(
    ("template", "message"),
    [("[]", "must be an object"), ('{"customr": 1}', "`customr` of the template is not a member of a job")],
)
def test_template_that_is_no_job_is_refused(template: str, message: str):
    """A template is an object with a job's members."""
    with pytest.raises(InvalidJob, match=message):
        check(template.encode())

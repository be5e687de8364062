"""What a refusal asks to change in a request, and how long it is remembered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ProviderUnavailable, RequestRejected, UpstreamFacts
from shared.upstream.capabilities import (
    RENAMED,
    SAMPLING,
    Adaptation,
    Capabilities,
    read_adaptation,
)
from shared.upstream.error_mapping import map_error
from tests.support.rows import every_row


def test_the_least_recently_used_keys_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    """Beyond MAX_ENTRIES, the least recently used keys are forgotten."""
    monkeypatch.setattr("shared.upstream.capabilities.MAX_ENTRIES", 200)
    capabilities = Capabilities()
    for number in range(202):
        capabilities.learn(Adaptation("temperature"), f"c{number}", "default", "m", "chat/completions")

    remembered = [bool(capabilities.adaptations(f"c{n}", "default", "m", "chat/completions")) for n in range(4)]

    assert [False, False, True, True] == remembered


@every_row("status", [401, 404, 429, 500, None])
def test_only_a_refused_request_is_read(status: int | None):
    """Another error that quotes a parameter, or one without a status, asks for no adaptation."""
    message = "Unsupported parameter: 'temperature'"
    body = {"error": {"code": "unsupported_parameter", "param": "temperature", "message": message}}
    error = map_error(status, {}, json.dumps(body).encode()) if status else ProviderUnavailable(message)

    assert read_adaptation(error, {"temperature": 1}, droppable=SAMPLING) is None


def claude_refusal(message: str) -> dict[str, Any]:
    """Return the body of a refusal as Anthropic writes it."""
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


@every_row(
    ("status", "body", "left_out"),
    [
        (
            403,
            {"error": {"message": "You are not allowed to request logprobs from this model.", "code": None}},
            "logprobs",
        ),
        (403, {"error": {"message": "You are not allowed to sample from this model."}}, None),
        (403, {"error": {"message": "You have no access to `temperature`."}}, None),
        (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_p"], "msg": "Extra inputs …"}]}, "top_p"),
        (400, claude_refusal("`top_p` is deprecated for this model."), "top_p"),
        (400, claude_refusal("`temperature` and `top_p` cannot both be specified for this model."), "top_p"),
        (400, claude_refusal("`top_p` must be greater than or equal to 0.95 or unset when …"), "top_p"),
        (400, claude_refusal("`temperature` may only be set to 1 when thinking is enabled."), "temperature"),
        (400, claude_refusal("temperature: Extra inputs are not permitted"), "temperature"),
        (400, claude_refusal("`sample` is deprecated for this model."), None),
        (400, claude_refusal("`temperature` must be a number."), None),
        (422, {"detail": [{"type": "missing", "loc": ["body", "top_p"], "msg": "Field required"}]}, None),
    ],
)
def test_a_refused_parameter_is_read_whatever_the_refusals_shape(status: int, body: Any, left_out: str | None):
    """OpenAI refuses `logprobs` with a 403, and FastAPI names a parameter by its location."""
    request = {"temperature": 1, "top_p": 1, "logprobs": True, "top_logprobs": 2, "sample": 1}

    error = map_error(status, {}, json.dumps(body).encode())
    adaptation = read_adaptation(error, request, droppable=SAMPLING) if isinstance(error, RequestRejected) else None

    assert left_out == (adaptation.parameter if adaptation else None)


BODIES = st.dictionaries(
    st.sampled_from([*sorted(SAMPLING), *RENAMED, *RENAMED.values(), "n", "messages"]), st.integers()
)
DETAILS = st.fixed_dictionaries(
    {}, optional={"code": st.sampled_from(["unsupported_parameter", "unsupported_value", "x"]), "param": st.text()}
)


@given(BODIES, DETAILS, st.text() | st.sampled_from([f"Unsupported: '{name}'" for name in ("n", *sorted(SAMPLING))]))
def test_an_adaptation_removes_what_was_refused(body: dict[str, int], detail: dict[str, str], text: str):
    """
    Whatever a refusal says, an adaptation removes one parameter of the body, with what can't be sent without it, and
    changes no other value.
    """
    error = RequestRejected(text, UpstreamFacts(400, detail=detail))

    adaptation = read_adaptation(error, body, droppable=SAMPLING)

    if adaptation is not None:
        adapted = adaptation.apply(body)
        removed = {adaptation.parameter} | ({"top_logprobs"} if adaptation.parameter == "logprobs" else set())
        assert len(removed & set(body)) == len(adaptation.changes(body))
        assert adaptation.parameter in body
        assert adaptation.parameter not in adapted
        assert {name: value for name, value in body.items() if name not in removed} == {
            name: value for name, value in adapted.items() if name in body
        }
        assert set(adapted) - set(body) <= {adaptation.new_name}

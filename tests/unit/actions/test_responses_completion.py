"""Responses of the Responses API as chat completions, each checked by the types of OpenAI's own SDK."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.actions.chat import parse_chat
from shared.actions.responses_completion import as_completion, join_choices
from shared.actions.responses_items import read_items
from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable
from shared.upstream.messages import Response
from tests.support.memory_context import response
from tests.support.rows import every_row
from tests.support.sdk_types import sdk_type

USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 123,
}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
CUSTOM = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "c", "input": "x"}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
SECRET = THOUGHT | {"encrypted_content": "gAAA"}
VERDICTS = {"hate": {"filtered": True, "severity": "high"}}


def text(*texts: str, **more: Any) -> dict[str, Any]:
    """Return an output item with these texts."""
    content = [{"type": "output_text", "text": each, "annotations": []} for each in texts]
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content} | more


def refused(words: str) -> dict[str, Any]:
    """Return an output item with a refusal."""
    return text() | {"content": [{"type": "refusal", "refusal": words}]}


def responded(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a response, which must be one of the SDK's."""
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1763640000,
        "status": "completed",
        "model": "gpt-6-luna",
        "error": None,
        "incomplete_details": None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "output": list(items),
        "service_tier": "default",
        "usage": USAGE,
    } | more
    sdk_type("openai", "responses.Response").model_validate(body)
    return body


def completed(*items: dict[str, Any], stops: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """Return the chat completion that a response becomes, which must be one of the SDK's, but for its usage."""
    body = json_object(as_completion(response(responded(*items, **more)), stops).body)
    sdk_type("openai", "chat.ChatCompletion").model_validate(body | {"usage": None})
    return body


def incomplete(reason: str) -> dict[str, Any]:
    """Return the members of a response that was cut short."""
    return {"status": "incomplete", "incomplete_details": {"reason": reason}}


def test_an_answer_has_the_shape_of_a_chat_completion():
    """Text, calls and the summary of what the model thought stand apart."""
    body = completed(THOUGHT, text("Hello, ", "world."), CALL, CUSTOM)

    choice = body["choices"][0]
    assert {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {
            "role": "assistant",
            "content": "Hello, world.",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
                {"id": "call_2", "type": "custom", "custom": {"name": "c", "input": "x"}},
            ],
            "reasoning_content": "Hm.",
        },
    } == choice
    assert ("resp_1", 1763640000, "gpt-6-luna") == (body["id"], body["created"], body["model"])


def test_usage_is_on_record_as_the_provider_reports_it():
    """Cached and reasoning tokens, the model and the tier."""
    received = response(responded(text("Hello.")))

    (call,) = parse_chat(as_completion(received)).calls

    usage = call.consumed()
    assert (36, 5, 87, 64, 123) == (
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )
    assert ("default", "gpt-6-luna", USAGE) == (call.service_tier, call.model, json.loads(call.provider_usage or b""))
    assert ("", "req-1") == (call.metered_as, call.request_id)


@every_row(
    ("items", "members", "finish_reason"),
    [
        ([text("A.")], {}, "stop"),
        ([], {}, "stop"),
        ([CALL], {}, "tool_calls"),
        ([text("A")], incomplete("max_output_tokens"), "length"),
        ([CALL], incomplete("max_output_tokens"), "length"),
        ([text("A")], incomplete("content_filter"), "content_filter"),
        ([text("A")], {"status": "incomplete"}, "length"),
        ([refused("No.")], {}, "stop"),
    ],
)
def test_reasons(items: list[dict[str, Any]], members: dict[str, Any], finish_reason: str):
    """Each way to end has the word of chat completions."""
    assert finish_reason == completed(*items, **members)["choices"][0]["finish_reason"]


def test_other_reasons_stay_as_they_are():
    """Nothing is made of what nobody here knows."""
    body = responded(text("A"), **incomplete("steered"))

    assert "steered" == json_object(as_completion(response(body)).body)["choices"][0]["finish_reason"]


def test_a_refusal_stands_apart():
    """As in a chat completion."""
    message = completed(refused("No."))["choices"][0]["message"]

    assert (None, "No.") == (message["content"], message["refusal"])


def test_what_the_filter_stopped_is_billed_and_keeps_its_verdicts():
    """Azure's, of the prompt and of the answer."""
    filters = [
        {"blocked": False, "source_type": "prompt", "content_filter_results": {"hate": {"filtered": False}}},
        {"blocked": False, "source_type": "completion", "content_filter_results": {"hate": {"filtered": False}}},
        {"blocked": True, "source_type": "completion", "content_filter_results": VERDICTS},
    ]
    body = responded(text("Well"), **incomplete("content_filter"), content_filters=filters)

    outcome = parse_chat(as_completion(response(body)))

    assert ("failed", 1) == (outcome.status, len(outcome.calls))
    assert isinstance(outcome.error, ContentFiltered)
    assert {"content_filter_result": VERDICTS} == outcome.error.facts.detail
    assert outcome.output is not None
    assert ("Well", [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}]) == (
        outcome.output["text"],
        outcome.output["prompt_filter_results"],
    )


@every_row(
    ("stops", "expected"),
    [
        (("5",), ("1 2 3 4 ", "stop")),
        (("END", "3"), ("1 2 ", "stop")),
        (("1",), ("", "stop")),
        (("9",), ("1 2 3 4 5 6", "length")),
    ],
)
def test_stops_end_the_text(stops: tuple[str, ...], expected: tuple[str, str]):
    """Before the first of them, as if the model had ended there."""
    choice = completed(text("1 2 3 ", "4 5 6"), stops=stops, **incomplete("max_output_tokens"))["choices"][0]

    assert expected == (choice["message"]["content"], choice["finish_reason"])


def test_nothing_is_called_after_a_stop():
    """What came before it was called."""
    message = completed(CALL, text("1 2"), text(" END 3"), CUSTOM, stops=("END",))["choices"][0]
    assert ("1 2 ", "tool_calls") == (message["message"]["content"], message["finish_reason"])
    assert ["call_1"] == [call["id"] for call in message["message"]["tool_calls"]]
    message = completed(text("1 END"), text("2"), CALL, CUSTOM, stops=("END",))["choices"][0]
    assert "stop" == message["finish_reason"]
    assert "tool_calls" not in message["message"]


def test_what_is_said_before_the_answer_stands_apart():
    """A schema holds for the answer alone. Without an answer, it is all that was said."""
    message = completed(text("Let me see.", phase="commentary"), text("{}", phase="final_answer"))["choices"][0][
        "message"
    ]
    before = completed(text("Let me see.", phase="commentary"), CALL)["choices"][0]["message"]

    assert ("{}", "final_answer", "Let me see.") == (message["content"], message["phase"], message["commentary"])
    assert ("Let me see.", "commentary") == (before["content"], before["phase"])
    assert "commentary" not in before


def test_items_of_other_tools_and_sources_are_kept_whole():
    """A chat completion has no place for them."""
    searched = {
        "id": "ws_1",
        "type": "web_search_call",
        "status": "completed",
        "action": {"type": "search", "query": "x"},
    }
    cited = text("A.")
    cited["content"][0]["annotations"] = [
        {"type": "url_citation", "url": "https://e.com", "title": "E", "start_index": 0, "end_index": 1}
    ]

    assert [searched, text("A.")] == completed(searched, text("A."))["choices"][0]["message"]["output_items"]
    assert [cited] == completed(cited)["choices"][0]["message"]["output_items"]
    assert "output_items" not in completed(text("A."))["choices"][0]["message"]


@every_row(
    "body",
    [
        {"error": {"code": "server_error", "message": "Oops"}},
        {"object": "response", "output": "text"},
        {"output": [1]},
        {"choices": []},
        b"<html>",
    ],
)
def test_what_is_no_answer_stays_as_it_is(body: Any):
    """It fails the job as it would at any other endpoint, and the call is on record."""
    check_is_no_answer(body)


def test_a_response_that_did_not_complete_stays_as_it_is():
    """As above."""
    check_is_no_answer(responded(text("A"), status="failed", error={"code": "server_error", "message": "Oops"}))
    check_is_no_answer(responded(status="cancelled"))
    check_is_no_answer(responded(status="queued"))
    check_is_no_answer(responded(status="in_progress"))


def check_is_no_answer(body: Any) -> None:
    """Fail unless a response is left as it is, and fails its job with one call on record."""
    received = response(body)

    assert received is as_completion(received)
    outcome = parse_chat(as_completion(received))
    assert ("failed", 1) == (outcome.status, len(outcome.calls))
    assert isinstance(outcome.error, ProviderUnavailable)


def test_answers_to_equal_calls_are_choices_and_calls():
    """Each that is on no record yet has one, in this process or another."""
    completions = [as_completion(response(responded(text(each)))) for each in ("A.", "B.", "C.")]
    joined = replace(join_choices(completions), parts=completions[1:])

    outcome = parse_chat(pickle.loads(pickle.dumps(joined)))

    assert outcome.output is not None
    assert [(0, "A."), (1, "B."), (2, "C.")] == [
        (choice["index"], choice["message"]["content"]) for choice in outcome.output["choices"]
    ]
    assert [87, 87] == [call.consumed().output_tokens for call in outcome.calls]
    assert [] == parse_chat(replace(joined, parts=[])).calls


def test_one_call_that_is_no_answer_stands_for_all():
    """The job fails with it."""
    completions = [as_completion(response(each)) for each in (responded(text("A.")), b"<html>", responded())]

    assert completions[1] is join_choices(completions)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
calls = st.builds(
    lambda n, value: {"type": "function_call", "call_id": f"c{n}", "name": "f", "arguments": json.dumps(value)},
    st.integers(0, 9),
    st.dictionaries(st.text(max_size=3), st.none() | st.integers() | texts, max_size=2),
)
custom_calls = st.builds(
    lambda n, value: {"type": "custom_tool_call", "call_id": f"c{n}", "name": "c", "input": value},
    st.integers(0, 9),
    texts,
)


@given(
    st.lists(st.just({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "g"}), max_size=2),
    st.lists(texts, max_size=1),
    st.lists(calls | custom_calls, max_size=3),
)
def test_an_answer_that_is_sent_back_is_the_same_answer(
    thoughts: list[dict[str, Any]], written: list[str], called: list[dict[str, Any]]
):
    """A job's output, as the next job's message, becomes the same items: nothing is lost either way."""
    output = [*thoughts, *map(text, written), *called]
    body = json_object(as_completion(Response(200, {}, json.dumps({"output": output}).encode(), None)).body)

    returned, changes = read_items([body["choices"][0]["message"]])

    assert [] == changes
    assert [*thoughts, *({"role": "assistant", "content": each} for each in written), *called] == returned

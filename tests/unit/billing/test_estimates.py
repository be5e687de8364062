"""Estimates are upper bounds: no call can use more than what is reserved for it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.summary_prompts import summary_messages
from shared.billing.estimates import OUTPUT_TOKENS, Estimate, estimate
from shared.billing.unseen_inputs import unseen_images
from shared.contract.chat import decode_chat
from shared.contract.edit_image import decode_edit_image
from shared.contract.embed import decode_embed
from shared.contract.image import decode_image
from shared.contract.job import ACTIONS
from shared.contract.multi_chat import decode_multi_chat
from shared.contract.raw import decode_raw
from shared.contract.respond import decode_respond
from shared.contract.speak import decode_speak
from shared.contract.summarize import Summarize, decode_summarize
from shared.contract.transcribe import decode_transcribe
from tests.support.rows import every_row

DECODERS: dict[str, Any] = {
    "chat": decode_chat,
    "multi_chat": decode_multi_chat,
    "summarize": decode_summarize,
    "embed": decode_embed,
    "image": decode_image,
    "edit_image": decode_edit_image,
    "transcribe": decode_transcribe,
    "speak": decode_speak,
    "respond": decode_respond,
    "raw": decode_raw,
}


def test_every_action_is_known_here():
    """So that nobody forgets what a budget is to reserve for a new one."""
    assert set(ACTIONS) == set(DECODERS)


def of(action: str, *, strict: bool = False, **members: Any) -> Estimate | None:
    """Return the estimate of a job with this input."""
    return estimate(DECODERS[action](json.dumps(members).encode()), strict=strict)


def estimated(action: str, **members: Any) -> Estimate:
    """As `of`, of a job that has one."""
    result = of(action, **members)
    assert result is not None
    return result


@given(texts=st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=4), limit=st.integers(1, 500))
def test_a_chat_has_at_most_a_token_a_byte(texts: list[str], limit: int):
    """However the text is encoded. Roles and separators have room, too."""
    messages = [{"role": "user", "content": text} for text in texts]
    (record,) = estimated("chat", messages=messages, parameters={"max_tokens": limit}).records(OUTPUT_TOKENS)

    size = sum(len(text.encode(errors="replace")) for text in texts)
    assert size + 10 * len(texts) <= record["input_tokens"]
    assert limit == record["output_tokens"]


@every_row(
    ("parameters", "output"),
    [
        ({}, 1000),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 5, "n": 3}, 15),
        ({"n": 2}, 2000),
        ({"max_tokens": 5, "n": "3"}, 15),
        ({"max_tokens": "7", "max_completion_tokens": None}, 7),
        ({"max_tokens": 6.5}, 7),
        *[({"max_tokens": value}, 1000) for value in ("many", None, -1, 0, [])],
        ({"max_tokens": -1, "max_completion_tokens": 5}, 1000),
        ({"max_output_tokens": 5}, 1000),
        ({"max_tokens": 10**60}, 10_000_000),
    ],
)
def test_output_is_limited_by_each_answer(parameters: dict[str, Any], output: int):
    """By the job's own limit, or by the one that is sent; for each of `n` answers."""
    result = estimated("chat", prompt="x", parameters=parameters)

    assert output == result.records(1000)[0]["output_tokens"]
    assert result.takes_limit == (output in {1000, 2000})


def test_what_a_message_holds_beside_text_is_no_text():
    """An image or a sound counts as the largest has, however many bytes it is."""
    url = "data:image/png;base64," + base64.b64encode(bytes(1_000_000)).decode()
    content = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
    (record,) = estimated("chat", messages=[{"role": "user", "content": content}]).records(1)

    assert 5_000 < record["input_tokens"] < 20_000


@pytest.mark.parametrize("action", ["chat", "raw"])
def test_sounds_count_by_their_length_and_apart(action: str):
    """They may have prices of their own, in and out: an hour of the least bits has 36,000 tokens."""
    sound = {"data": base64.b64encode(bytes(3600 * 1000)).decode(), "format": "mp3"}
    content = [{"type": "input_audio", "input_audio": sound}, {"type": "image_url", "image_url": {"url": "https://x"}}]
    body = {"messages": [{"role": "user", "content": content}]}
    parameters = {"max_tokens": 9, "modalities": ["text", "audio"]}
    members: dict[str, Any] = {**body, "parameters": parameters}
    if action == "raw":
        members = {"path": "chat/completions", "json": body | parameters}
    (record,) = estimated(action, **members).records(1)

    assert 36_000 <= record["audio_input_tokens"] < record["input_tokens"]
    assert 10_000 <= record["image_input_tokens"]
    assert 9 == record["output_tokens"] == record["audio_output_tokens"]


def test_jobs_of_many_calls_have_an_estimate_for_each():
    """Each prompt is a call, with its own limit or the one that is sent."""
    records = estimated("multi_chat", prompts=["x", "y" * 1000], parameters={"max_tokens": 3}).records(1)

    assert 2 == len(records)
    assert records[0]["input_tokens"] + 999 == records[1]["input_tokens"]


def test_steps_that_are_stored_need_nothing():
    """A job that continues reserves for the prompts that have no answer yet."""
    prompts = decode_multi_chat(json.dumps({"prompts": ["x", "y" * 1000]}).encode())
    rest = estimate(prompts, strict=False, done={"0001"})

    assert rest is not None
    assert rest.inputs == estimated("chat", prompt="x").inputs


@pytest.mark.parametrize("size", [10, 17_000, 200_000])
def test_a_summary_has_room_for_its_prompts_and_levels(size: int):
    """All parts of the text, each with the app's own instructions, and the summaries of summaries."""
    records = estimated("summarize", text="x" * size, max_words=5).records(100)

    prompt = sum(len(message["content"]) for message in summary_messages("x", Summarize("x", max_words=5)))
    assert sum(record["input_tokens"] for record in records) >= size + prompt * len(records)
    assert (1 if size < 18_000 else 4 * (2 * (size // 18_000) + 1)) == len(records)


def test_other_actions():
    """Vectors have no output; images count as the largest, and each as a call, as some models make them."""
    (embedding,) = estimated("embed", texts=["ab", "c"]).records(1)
    (image,) = estimated("image", prompt="A cat.", n=2).records(1)

    assert (True, 0) == (3 <= embedding["input_tokens"], embedding["output_tokens"])
    assert (2, 13_000, 2) == (image["images"], image["output_tokens"], image["calls"])
    assert 2 * estimated("image", prompt="A cat.").inputs[0] == image["input_tokens"]


def test_edits_count_what_goes_in():
    """Each image and the mask count as the largest, in each of the calls that some models need."""
    images = ["inputs/a/1.png", "inputs/a/2.png"]
    (record,) = estimated("edit_image", images=images, mask="inputs/a/m.png", prompt="A cat.", n=2).records(1)

    assert (60_000, 13_000, 2) == (record["image_input_tokens"], record["output_tokens"], record["images"])
    assert 60_000 < record["input_tokens"] < 61_000


def test_speech_counts_characters_and_nothing_else():
    """They are what its record will have. How long a recording is, nobody knows yet."""
    (record,) = estimated("speak", text="Grüße 😀", voice="alloy").records(1)

    assert {"calls": 1, "input_tokens": 0, "output_tokens": 0, "characters": 7} == record
    assert of("transcribe", blob="inputs/a/1.mp3") is None


@pytest.mark.parametrize(
    ("members", "is_known"),
    [
        ({"input": "x"}, True),
        ({"input": [{"role": "user", "content": "x"}], "instructions": "y"}, True),
        ({"input": "x", "parameters": {"tools": [{"type": "function"}]}}, True),
        ({"input": "x", "parameters": {"tools": [{"type": "web_search"}]}}, False),
        ({"input": "x", "previous_response_id": "resp_1"}, False),
        ({"input": "x", "parameters": {"conversation": "conv_1"}}, False),
        ({"input": [{"content": [{"type": "input_file", "file_id": "f"}]}]}, False),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_file", "file_id": "f"}]}]}, False),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, True),
        ({"input": [{"content": [{"type": "input_image", "blob": "inputs/a/1.png"}]}]}, False),
        ({"input": [{"content": [{"type": "input_image", "image_url": "https://x"}]}]}, True),
    ],
)
def test_a_response_has_one_if_its_input_is_all_that_goes_in(members: dict[str, Any], is_known: bool):
    """Neither an earlier response, nor a file, nor what the provider's own tools find."""
    assert is_known == (of("respond", **members) is not None)


def test_a_response_counts_all_of_its_input():
    """A token a byte, instructions and parameters included; its output by its own limit, or the one that is sent."""
    text = "Grüße 😀" * 10
    (record,) = estimated("respond", input=text, instructions=text, parameters={"max_output_tokens": 7}).records(100)
    (unlimited,) = estimated("respond", input=text).records(100)

    assert 2 * len(text.encode()) < record["input_tokens"]
    assert (7, 100) == (record["output_tokens"], unlimited["output_tokens"])
    image = [{"content": [{"type": "input_image", "image_url": "https://x"}]}]
    assert 5_000 < estimated("respond", input=image).records(1)[0]["image_input_tokens"] < 20_001


@every_row(
    ("members", "is_known"),
    [
        ({"path": "chat/completions", "json": {"messages": [], "max_tokens": 5}}, True),
        ({"path": "chat/completions", "json": {"messages": []}}, False),
        ({"path": "responses", "json": {"input": "x", "max_output_tokens": 5}}, True),
        ({"path": "responses", "json": {"input": "x", "max_tokens": 5}}, False),
        ({"path": "responses", "json": {"input": "x", "max_output_tokens": 5, "previous_response_id": "r"}}, False),
        ({"path": "responses", "json": {"max_output_tokens": 5, "tools": [{"type": "web_search"}]}}, False),
        ({"path": "responses", "json": {"max_output_tokens": 5, "tools": [{"type": "function"}]}}, True),
        ({"path": "responses", "json": {"input": [{"file_url": "https://x"}], "max_output_tokens": 5}}, False),
        ({"path": "chat/completions", "json": {"messages": [{"file_id": "f"}], "max_tokens": 5}}, False),
        ({"path": "chat/completions", "json": {"messages": ['Is "file_id" a name?'], "max_tokens": 5}}, True),
        ({"path": "chat/completions", "json": {"messages": [], "web_search_options": {}, "max_tokens": 5}}, False),
        ({"path": "chat/completions", "json": {"messages": [], "max_output_tokens": 5}}, False),
        ({"path": "chat/completions", "json": {"messages": [], "max_tokens": -5}}, False),
        ({"path": "embeddings", "json": {"input": "x"}}, True),
        ({"path": "audio/speech", "json": {"input": "x"}}, False),
        ({"path": "models"}, True),
        ({"path": "files/f", "method": "DELETE"}, True),
        ({"path": "responses/r"}, False),
        ({"path": "openai/v1/Batches/b"}, False),
        ({"path": "files", "method": "POST"}, False),
    ],
)
def test_a_raw_request_has_one_if_its_path_says_enough(members: dict[str, Any], is_known: bool):
    """The request is sent as it is, so a limit that it lacks can't be added."""
    assert is_known == (of("raw", **members) is not None)


def test_thinking_is_beyond_a_limit_that_is_sent():
    """Claude counts it toward the limit, so that one is sent with room for it; a job's own limit has that already."""
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    limited = estimated("chat", prompt="x", parameters={**thinking, "max_tokens": 3000})
    others = [
        estimated(action, **{name: "x"}, parameters=thinking)
        for action, name in (("chat", "prompt"), ("summarize", "text"))
    ]

    assert [3000, 2100, 2100] == [each.records(100)[0]["output_tokens"] for each in (limited, *others)]


def of_part(part: dict[str, Any], action: str = "chat") -> Estimate | None:
    """Return the estimate of a chat with this content part."""
    messages = [{"role": "user", "content": [part]}]
    members: dict[str, Any] = {"messages": messages} if action == "chat" else {"prompts": ["x", messages]}
    return of(action, **members)


@pytest.mark.parametrize("action", ["chat", "multi_chat"])
@pytest.mark.parametrize(
    ("part", "is_known"),
    [
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}, True),
        ({"type": "file", "file": {"file_id": "file-1"}}, False),
        ({"type": "document", "source": {"type": "base64", "data": "JVBERi0="}}, True),
        ({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}, False),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, False),
        ({"type": "document", "source": "odd"}, True),
        ({"type": "file"}, True),
    ],
)
def test_a_document_that_is_elsewhere_is_not_known(action: str, part: dict[str, Any], is_known: bool):
    """Nobody has counted its pages: its name is a few bytes, and it may be a book."""
    assert is_known == (of_part(part, action) is not None)


@pytest.mark.parametrize("is_result", [False, True])
def test_images_of_claudes_own_type_count_as_any(is_result: bool):
    """Also in the result of a tool. One is named by a few bytes."""
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    result = of_part({"type": "tool_result", "tool_use_id": "1", "content": [image]} if is_result else image)

    assert result is not None
    (record,) = result.records(1)
    assert 10_000 == record["image_input_tokens"] < record["input_tokens"]


@pytest.mark.parametrize(
    ("action", "members", "images"),
    [
        ("summarize", {"blob": "inputs/a/1.pdf", "page_images": True}, 50),
        ("summarize", {"blob": "inputs/a/1.pdf"}, 0),
        ("summarize", {"text": "x", "page_images": True}, 0),
        ("transcribe", {"blob": "inputs/a/1.mp3"}, 0),
        ("respond", {"input": [{"content": [{"type": "input_image", "blob": "inputs/a/1.png"}]}]}, 1),
        ("respond", {"input": [{"output": [{"type": "input_image", "image_url": "https://x"}] * 2}]}, 2),
        ("multi_chat", {"prompts": ["x", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]]}, 1),
    ],
)
def test_images_of_what_has_no_estimate(action: str, members: dict[str, Any], images: int):
    """As many as its input has; of documents, as many as may be sent of their pages."""
    assert images == unseen_images(DECODERS[action](json.dumps(members).encode()), pages=50)


@pytest.mark.parametrize(
    ("parameters", "is_known"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a"}}, {"name": "b", "input_schema": {}}]}, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, False),
        ({"tools": "odd"}, True),
        ({"tools": [1]}, False),
        ({"web_search_options": {}}, False),
        ({"mcp_servers": [{"url": "https://example.com"}]}, False),
    ],
)
def test_a_chat_has_one_if_its_input_is_all_that_goes_in(parameters: dict[str, Any], is_known: bool):
    """Not what the provider's own tools find: a search may read books."""
    assert is_known == (of("chat", prompt="x", parameters=parameters) is not None)


def test_tools_have_instructions_of_the_providers():
    """Claude gets some hundred tokens, however short the tools are that it may call."""
    plain = estimated("chat", prompt="x").inputs[0]
    with_tools = estimated("chat", prompt="x", parameters={"tools": [{"type": "function"}]}).inputs[0]

    assert plain + 600 < with_tools


def test_what_has_none():
    """A blob, whose size is not known, and a strict job without a limit of its own."""
    assert of("summarize", blob="inputs/contoso/a.txt") is None
    assert of("chat", strict=True, prompt="x") is None
    assert of("chat", strict=True, prompt="x", parameters={"max_tokens": 1}) is not None


def test_many_calls_have_few_different_estimates():
    """So that their prices are looked up quickly; each is rounded up, by an eighth at most."""
    prompts = ["x" * number for number in range(1, 1000)]
    exact = [estimated("multi_chat", prompts=[prompt]).records(1)[0]["input_tokens"] for prompt in prompts]
    rounded = [record["input_tokens"] for record in estimated("multi_chat", prompts=prompts).records(1)]

    assert all(tokens <= other <= tokens * 9 / 8 for tokens, other in zip(exact, rounded, strict=True))
    assert len(set(rounded)) < 40

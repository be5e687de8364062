"""Messages of chat completions as Claude takes them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.claude_messages import read_conversation
from shared.actions.claude_request import claude_request
from shared.errors import InvalidJob
from tests.support.claude_types import check_request
from tests.support.rows import every_row

USER = {"role": "user", "content": "Hello?"}
PICTURE = "iVBORw0KGgo="
CACHE = {"type": "ephemeral", "ttl": "1h"}


def text(content: str, **more: Any) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": content, **more}


def call(identifier: str, arguments: Any = '{"city":"Rome"}') -> dict[str, Any]:
    """Return a tool call."""
    return {"id": identifier, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


@every_row(
    ("message", "last"),
    [
        ({"content": "Well.", "tool_calls": [call("1")]}, "tool_use"),
        ({"content": None, "tool_calls": [call("1")]}, "tool_use"),
        ({"content": "Well.", "refusal": "No."}, "text"),
        ({"content": "Well.", "content_blocks": [text("Well."), {"type": "server_tool_use"}]}, "server_tool_use"),
    ],
)
def test_what_is_cached_goes_to_the_end_of_its_message(message: dict[str, Any], last: str):
    """Not only to the end of its content: what follows that would be written anew."""
    (answer,) = read_conversation([{"role": "assistant", "cache_control": CACHE, **message}]).messages

    assert (last, CACHE) == (answer["content"][-1]["type"], answer["content"][-1]["cache_control"])
    assert not any("cache_control" in block for block in answer["content"][:-1])


def test_thinking_is_not_what_is_cached():
    """Claude refuses that."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    message = {"role": "assistant", "content": None, "thinking_blocks": [thought], "cache_control": CACHE}

    assert [{"role": "assistant", "content": [thought]}] == read_conversation([message]).messages


def test_roles_take_turns_and_the_system_stands_apart():
    """Consecutive messages of a role are one, the results of tools are the user's, and none of them is lost."""
    result = read_conversation(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [text("Be kind.")]},
            USER,
            {"role": "user", "content": [text("Anyone?")]},
            {"role": "assistant", "content": "", "tool_calls": [call("1"), call("2", "")]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
            {"role": "tool", "tool_call_id": "2", "content": [text("sun")], "is_error": True},
            {"role": "user", "content": "And?"},
            {"role": "assistant", "content": "Well."},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Never."}]},
        ]
    )

    assert [text("Be brief."), text("Be kind.")] == result.system
    assert [] == result.adapted
    use = {"type": "tool_use", "name": "get_weather"}
    assert [
        {"role": "user", "content": [text("Hello?"), text("Anyone?")]},
        {
            "role": "assistant",
            "content": [use | {"id": "1", "input": {"city": "Rome"}}, use | {"id": "2", "input": {}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "2", "content": [text("sun")], "is_error": True},
                text("And?"),
            ],
        },
        {"role": "assistant", "content": [text("Well."), text("No."), text("Never.")]},
    ] == result.messages


def test_content_parts_become_blocks():
    """Pictures by URL and as data, PDFs, and Claude's own blocks; cache_control stays where it is."""
    own = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    parts = [
        text("See:", cache_control=CACHE),
        text(""),
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "auto"}},
        {"type": "image_url", "image_url": {"url": f"data:image/PNG;name=a;base64,{PICTURE}"}, "cache_control": CACHE},
        {"type": "image_url", "image_url": "https://example.com/b.png"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        own,
    ]

    result = read_conversation([{"role": "user", "content": parts, "cache_control": {"type": "ephemeral"}}])

    data = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert [
        text("See:", cache_control=CACHE),
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": data, "cache_control": CACHE},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/b.png"}},
        {"type": "document", "source": pdf, "title": "a.pdf"},
        own | {"cache_control": {"type": "ephemeral"}},
    ] == result.messages[0]["content"]
    assert [] == result.adapted


def test_an_earlier_answer_keeps_its_thinking_and_its_blocks():
    """What an answer of Claude's has beside its text is sent back as it came: the model needs it to go on."""
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    blocks = [{"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}, text("Found.")]

    result = read_conversation(
        [
            USER,
            {"role": "assistant", "content": "A.", "reasoning_content": "Hm.", "thinking_blocks": [thinking]},
            USER,
            {"role": "assistant", "content": "Found.", "content_blocks": blocks, "tool_calls": []},
        ]
    )

    assert [thinking, text("A.")] == result.messages[1]["content"]
    assert blocks == result.messages[3]["content"]


@every_row(
    ("media_type", "data", "sent"),
    [
        ("image/jpg", "/9j/4AAQ", "image/jpeg"),
        ("image/png", "/9j/4AAQ", "image/jpeg"),
        ("application/octet-stream", "iVBORw0KGgo=", "image/png"),
        ("image/png", "R0lGODlh", "image/gif"),
        ("image/jpeg", "UklGRg==", "image/webp"),
        ("image/HEIC", "AAAA", "image/heic"),
    ],
)
def test_a_picture_is_what_its_data_is(media_type: str, data: str, sent: str):
    """OpenAI takes it whatever its URL says; Claude refuses what is called something else."""
    content = [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}]

    (message,) = read_conversation([{"role": "user", "content": content}]).messages

    assert {"type": "base64", "media_type": sent, "data": data} == message["content"][0]["source"]


def test_a_pdf_is_one_whatever_it_is_called():
    """Of a file without a type, the data says it."""
    content = [{"type": "file", "file": {"file_data": "data:application/octet-stream;base64,JVBERi0="}}]

    (message,) = read_conversation([{"role": "user", "content": content}]).messages

    assert "application/pdf" == message["content"][0]["source"]["media_type"]


@pytest.mark.parametrize("media_type", ["text/plain;charset=utf-8", "text/Markdown"])
def test_a_text_is_a_document_of_its_own_kind(media_type: str):
    """Claude takes PDFs alone as base64."""
    data = base64.b64encode("\ufeffGrüße".encode()).decode()
    file = {"file_data": f"data:{media_type};base64,{data}", "filename": "a.txt"}

    (message,) = read_conversation([{"role": "user", "content": [{"type": "file", "file": file}]}]).messages

    source = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    assert [{"type": "document", "source": source, "title": "a.txt"}] == message["content"]


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:text/plain;base64,/w==", "a text in UTF-8"),
        ("data:text/plain;base64,*", "a text in UTF-8"),
        ("data:application/msword;base64,eA==", "a PDF or a text"),
    ],
)
def test_other_documents_are_refused_by_name(url: str, part: str):
    """With our sentence, before anything is sent."""
    content = [{"type": "file", "file": {"file_data": url}}]

    with pytest.raises(InvalidJob, match=rf"`messages\[0\]\.content\[0\]\.file\.file_data` .*{part}"):
        read_conversation([{"role": "user", "content": content}])


def test_ids_of_other_models_calls_are_taken():
    """Claude's have letters, digits, hyphens and underscores alone. A call and its result keep one id."""
    calls = {"role": "assistant", "content": None, "tool_calls": [call("functions.get_weather:0")]}
    result = {"role": "tool", "tool_call_id": "functions.get_weather:0", "content": "Rain."}

    _, use, answer = read_conversation([USER, calls, result]).messages

    assert "functions_get_weather_0" == use["content"][0]["id"] == answer["content"][0]["tool_use_id"]


def test_blank_texts_are_not_sent():
    """Claude refuses them, wherever they stand; OpenAI takes them, and some models write one before a call."""
    search = {"type": "server_tool_use", "id": "1", "name": "web_search", "input": {}}
    result = read_conversation(
        [
            {"role": "system", "content": " \n"},
            USER | {"content": [text("\t"), text("Hello?")]},
            {"role": "assistant", "content": "\n\n", "tool_calls": [call("1")]},
            {"role": "tool", "tool_call_id": "1", "content": [text(" "), text("Rain.")]},
            {"role": "assistant", "content": "\u00a0"},
            USER,
            {"role": "assistant", "content": None, "content_blocks": [text("\n"), search]},
        ]
    )

    assert [] == result.system
    assert [text("Hello?")] == result.messages[0]["content"]
    assert ["tool_use"] == [block["type"] for block in result.messages[1]["content"]]
    assert ([text("Rain.")], text("Hello?")) == (
        result.messages[2]["content"][0]["content"],
        result.messages[2]["content"][1],
    )
    assert [search] == result.messages[3]["content"]


def test_an_answer_to_go_on_with_ends_without_white_space():
    """Claude refuses it otherwise. It is said, and the job's own message, and earlier answers, stay as they are."""
    earlier, last = {"role": "assistant", "content": "Yes. "}, {"role": "assistant", "content": "It is \n"}

    result = read_conversation([USER, earlier, USER, last])

    assert [[text("Yes. ")], [text("It is")]] == [result.messages[index]["content"] for index in (1, 3)]
    assert ["white space at the end of the last message was left out"] == result.adapted
    assert "It is \n" == last["content"]


def test_what_is_changed_is_noted_once():
    """A system message among the others, names and the detail of pictures."""
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    later = {"role": "system", "content": "Now in French."}
    messages = [USER | {"name": "ann"}, later, USER | {"content": [picture], "name": "bob"}, later]

    result = read_conversation(messages)

    assert [
        "messages[].name was left out",
        "a later system message became a part of the first",
        "image_url.detail was left out",
    ] == result.adapted
    assert [text("Now in French.")] * 2 == result.system


def test_a_system_message_alone_is_the_users():
    """Claude answers nobody else."""
    result = read_conversation([{"role": "system", "content": "Say hello."}])

    assert ([], [{"role": "user", "content": [text("Say hello.")]}]) == (result.system, result.messages)
    assert ["the system message became the user's"] == result.adapted


@every_row(
    ("message", "part"),
    [
        (USER | {"content": [{"type": "input_audio", "input_audio": {}}]}, "`messages[0].content[0]` has the type"),
        (USER | {"content": [{"type": "file", "file": {"file_id": "f"}}]}, "stored at OpenAI"),
        (USER | {"content": [{"type": "image_url", "image_url": {"url": "data:image/png,x"}}]}, "base64"),
        (USER | {"content": [{"type": "image_url", "image_url": {}}]}, "`messages[0].content[0].image_url.url`"),
        ({"role": "function", "name": "f", "content": "x"}, "`messages[0].role` must be"),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, "`messages[0].function_call`"),
        ({"role": "assistant", "content": None, "tool_calls": {"a": 1}}, "`messages[0].tool_calls` must be a list"),
        ({"role": "assistant", "content": None, "tool_calls": [{"type": "custom", "custom": {}}]}, "tool_calls[0]`"),
        ({"role": "assistant", "tool_calls": [call("1", "[]")]}, "`messages[0].tool_calls[0].function.arguments`"),
        ({"role": "assistant", "tool_calls": [call("1", "{")]}, "must be an object in JSON"),
    ],
)
def test_what_claude_cannot_read_is_refused_by_name(message: dict[str, Any], part: str):
    """The sentence names the member of the message."""
    with pytest.raises(InvalidJob) as refused:
        read_conversation([message])

    assert part in str(refused.value)


contents = st.one_of(
    st.text(max_size=5),
    st.lists(
        st.one_of(
            st.builds(text, st.text(max_size=5)),
            st.just({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
            st.just({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}),
        ),
        max_size=3,
    ),
)
calls = st.lists(st.builds(call, st.sampled_from("abc"), st.sampled_from(["{}", '{"a":[1,null]}', ""])), max_size=2)
messages = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content}, st.sampled_from(["user", "assistant"]), contents
    ),
    st.builds(lambda content: {"role": "system", "content": content}, st.text(max_size=5)),
    st.builds(lambda uses: {"role": "assistant", "content": None, "tool_calls": uses}, calls),
    st.builds(lambda content: {"role": "tool", "tool_call_id": "a", "content": content}, contents),
)


@given(st.lists(messages, min_size=1, max_size=8))
def test_every_conversation_is_one_that_the_sdk_takes(conversation: list[dict[str, Any]]):
    """Roles take turns, no text is blank, every block is of the SDK's types, and no text is lost."""
    body = claude_request(conversation, {}).body

    check_request(body)
    sent = [*body.get("system", ()), *(block for message in body["messages"] for block in message["content"])]
    results = [block["content"] for block in sent if block["type"] == "tool_result"]
    sent += [block for content in results if isinstance(content, list) for block in content]
    texts = [block["text"] for block in sent if block["type"] == "text"] + [each for each in results if each]
    assert all(each in texts or each.rstrip() in texts for each in written(conversation))


def written(conversation: list[dict[str, Any]]) -> list[str]:
    """Return the texts in messages that are not blank; a tool's result may be."""
    texts: list[str] = []
    for message in conversation:
        content = message["content"] or []
        parts = [text(content)] if isinstance(content, str) else content
        texts += [part["text"] for part in parts if part.get("text", "").strip()]
    return texts

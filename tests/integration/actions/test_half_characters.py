"""JSON of providers whose texts were cut within a character: half a surrogate pair costs no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from shared.contract.decoding import json_object
from tests.support.endpoint import reply
from tests.support.harness import World

CUT = '{"choices": [{"index": 0, "message": {"content": "a%s"}, "finish_reason": "length"}], "usage": %s}'
USAGE = '{"prompt_tokens": 1, "completion_tokens": 9}'


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"a\ud83d", "a\ufffd"),
        (r"a\uD83D b", "a\ufffd b"),
        (r"\ude00", "\ufffd"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\ud83d\u0041", "\ufffdA"),
        (r"\\ud83d \ud83d", r"\ud83d " + "\ufffd"),
        (r"\\\ud83d\\", "\\\ufffd\\"),
        (r"\ud83d\"\ude00", '\ufffd"\ufffd'),
        (r"\ud83d\ude00\u00e9\n", "😀é\n"),
    ],
)
def test_half_a_pair_is_the_replacement_character(written: str, read: str):
    """What is whole stays as it is; each half becomes U+FFFD, in names as in texts."""
    assert {"a": read, read: 1} == json_object(f'{{"a": "{written}", "{written}": 1}}'.encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[1]", b'"a"', b"{", b'{"a": "\xff"}', b"[" * 100_000, b'{"\\ud8'])
def test_what_holds_no_object_is_an_empty_one(data: bytes):
    """Anything else is no object of JSON's."""
    assert {} == json_object(data)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"action": "multi_chat", "input": {"prompts": ["x"]}},
        {"action": "summarize", "input": {"text": "x"}},
        {"action": "raw", "input": {"path": "chat/completions", "json": {}}},
    ],
    ids=["chat", "multi_chat", "summarize", "raw"],
)
async def test_an_answer_that_was_cut_within_a_character_is_kept(world: World, members: dict[str, Any]):
    """The answer is given with what it cost."""
    customer = world.customer()
    customer.account.will_answer(reply((CUT % (r"\ud83d", USAGE)).encode()))

    told = await customer.run(**members)

    assert "succeeded" == told["status"]
    assert "a\ufffd" in json.dumps(told["output"], ensure_ascii=False)
    assert (1, 1, 9) == tuple(told["usage"][name] for name in ("calls", "input_tokens", "output_tokens"))


async def test_events_that_were_cut_within_a_character_are_read(world: World):
    """A piece of a stream that ends in half a character is an event like the others."""
    customer = world.customer()

    async def stream(_: web.Request) -> web.StreamResponse:
        data = CUT % (r"\ud83d", USAGE)
        return web.Response(text=f"data: {data}\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    customer.account.will_answer(stream)

    told = await customer.run(action="raw", input={"path": "chat/completions", "json": {"stream": True}})

    assert 9 == told["usage"]["output_tokens"]


async def test_a_refusal_that_was_cut_within_a_character_is_told(world: World):
    """The provider's own words are in the error."""
    customer = world.customer()
    customer.account.will_answer(reply(rb'{"error": {"code": "x", "message": "No \ud83d"}}', status=400))

    told = await customer.run()

    assert "No \ufffd" in told["error"]["message"]

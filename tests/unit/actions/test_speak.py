"""`speak` by itself: what is sent, kept and counted."""

from __future__ import annotations

import pytest

from shared.actions import speak
from shared.actions.base import Completed
from shared.errors import ConnectionInvalid
from tests.support.audio_samples import MP3
from tests.support.memory_context import MemoryContext, in_turn, response, run_action

INPUT = {"text": "Grüße 😀", "voice": "alloy", "format": "mp3", "parameters": {"speed": 2}}


async def test_audio_is_a_blob_and_its_text_is_counted():
    """The output says nothing else; a later attempt of the job makes no call."""
    ctx = MemoryContext(in_turn(response(MP3, content_type="audio/mpeg")))

    outcomes = [await run_action(speak, INPUT, ctx) for _ in range(2)]

    assert [{"model": "m", "input": "Grüße 😀", "voice": "alloy", "response_format": "mp3", "speed": 2}] == ctx.bodies
    assert ctx.called[0].request.url.endswith("/openai/v1/audio/speech")
    assert {"speech.mp3": MP3} == ctx.blobs
    for outcome in outcomes:
        assert isinstance(outcome, Completed)
        output = outcome.output or {}
        assert ("succeeded", {"blob", "characters"}, 7) == (outcome.status, set(output), output["characters"])
        assert ("contoso/job-1/speech.mp3", "audio/mpeg") == (output["blob"]["name"], output["blob"]["content_type"])
    (call,) = ctx.billed
    usage = call.consumed()
    assert ("req-1", 7, None) == (call.request_id, usage.characters, usage.input_tokens)


async def test_a_connection_without_speech_is_refused():
    """Before anything is sent."""
    ctx = MemoryContext(in_turn(), endpoint="https://r.services.ai.azure.com/models")

    with pytest.raises(ConnectionInvalid, match="has no speech:"):
        await run_action(speak, INPUT, ctx)

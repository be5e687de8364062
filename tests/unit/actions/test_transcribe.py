"""`transcribe` by itself: what each format's output has, what later attempts need, and where recordings are cut."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from shared.actions import transcribe
from shared.actions.base import Completed, Deferred
from shared.errors import InvalidJob, ProviderUnavailable, RequestRejected
from tests.support.audio_samples import MP3, OPUS, spoken, wav
from tests.support.forms import sent_form
from tests.support.memory_context import MemoryContext, in_turn, response, run_action
from tests.support.rows import every_row

TALK = wav(spoken([(2.0, True), (0.6, False), (2.0, True), (0.5, False), (1.0, True)]))


def heard(text: str, **members: Any) -> dict[str, Any]:
    """Return an answer with times."""
    body = {"task": "transcribe", "language": "english", "duration": 1.5, "text": text, **members}
    return {"segments": [{"start": 0.0, "end": 1.5, "text": f" {text}"}], "words": [], **body}


async def run(ctx: MemoryContext, **members: Any) -> Completed:
    """Run a job on the context's recording."""
    outcome = await run_action(transcribe, {"blob": "inputs/c/talk", **members}, ctx)
    assert isinstance(outcome, Completed)
    return outcome


@every_row(
    ("kind", "members"),
    [
        (None, {"task", "language", "duration", "text", "segments", "words"}),
        ("text", {"text"}),
        ("json", {"task", "language", "duration", "text", "segments", "words"}),
        ("verbose_json", {"task", "language", "duration", "text", "segments", "words"}),
        ("srt", {"text", "srt", "language", "duration"}),
        ("vtt", {"text", "vtt", "language", "duration"}),
    ],
)
async def test_output_has_the_members_of_its_format(kind: str | None, members: set[str]):
    """And no others. A later attempt needs neither the endpoint nor the blob."""
    ctx = MemoryContext(in_turn(response(heard("Hello."))), blobs={"c/talk": OPUS})
    format_of = {} if kind is None else {"response_format": kind}

    first = await run(ctx, **format_of)
    del ctx.blobs["c/talk"]
    second = await run(ctx, **format_of)

    assert ("succeeded", members) == (first.status, set(first.output or {}))
    assert (first.output, 1, 1) == (second.output, len(ctx.called), len(ctx.billed))
    assert ctx.called[0].request.url.endswith("/openai/v1/audio/transcriptions")
    *fields, file = await sent_form(ctx.called[0])
    assert ("file", "audio.ogg", "audio/ogg", OPUS) == file
    formats = [part.data for part in fields if part.name == "response_format"]
    assert ([b"verbose_json"] if kind in {"verbose_json", "srt", "vtt"} else []) == formats


@pytest.fixture
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that take few bytes."""
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    monkeypatch.setattr(transcribe, "_SEARCHED_BYTES", 24_000)


@pytest.mark.usefixtures("small_calls")
async def test_pieces_are_joined_and_bought_once():
    """Each in its own step, beside the plan; their number is in the output."""
    answers = [response(heard(text)) for text in ("One.", "Two.", "Three.")]
    ctx = MemoryContext(in_turn(*answers), blobs={"c/talk": TALK})

    outcomes = [await run(ctx, response_format="verbose_json") for _ in range(2)]

    for outcome in outcomes:
        output = outcome.output or {}
        assert ("succeeded", "One. Two. Three.", 3, 4.5) == (
            outcome.status,
            *[output[name] for name in ("text", "parts", "duration")],
        )
        starts = [segment["start"] for segment in output["segments"]]
        assert all(before + 1.5 < after for before, after in pairwise(starts))
    assert ({"plan", "000", "001", "002"}, 3) == (set(ctx.steps), len(ctx.called))
    pieces = ctx.steps["plan"].value["pieces"]
    assert len(TALK) - 44 == sum(piece["size"] for piece in pieces)
    assert [44, *[each["start"] + each["size"] for each in pieces[:-1]]] == [each["start"] for each in pieces]
    assert all(piece["size"] + 44 <= 50_000 for piece in pieces)
    assert [(each["start"] - 44) / 16_000 for each in pieces] == [each["start_s"] for each in pieces]
    sent = [(await sent_form(operation))[-1] for operation in ctx.called]
    assert {("file", "audio.wav", "audio/wav")} == {part[:3] for part in sent}
    assert TALK[44:] == b"".join(part.data[44:] for part in sent)


@pytest.mark.usefixtures("small_calls")
@pytest.mark.parametrize("error", [RequestRejected("No."), ProviderUnavailable("Gone.")])
async def test_a_piece_that_fails_fails_the_job(error: Exception):
    """With its error; what was bought stays on record."""
    ctx = MemoryContext(in_turn(response(heard("One.")), error, response(heard("Three."))), blobs={"c/talk": TALK})

    outcome = await run(ctx)

    assert ("failed", error, None) == (outcome.status, outcome.error, outcome.output)
    assert 2 == len(ctx.billed)


@pytest.mark.usefixtures("small_calls")
async def test_pieces_of_another_recording_are_not_joined():
    """The blob was written anew between two attempts."""
    ctx = MemoryContext(in_turn(response(heard("One."))), blobs={"c/talk": TALK}, calls_left=1)
    first = await run_action(transcribe, {"blob": "inputs/c/talk"}, ctx)
    ctx.calls_left, ctx.version = 9, "2"

    outcome = await run(ctx)

    assert isinstance(first, Deferred)
    assert ("failed", "`input.blob` names a blob that was changed while the job ran.") == (
        outcome.status,
        str(outcome.error),
    )
    assert 1 == len(ctx.called)


@pytest.mark.usefixtures("small_calls")
async def test_long_recordings_are_cut_by_time_as_well(monkeypatch: pytest.MonkeyPatch):
    """Some models take no more than so many minutes."""
    monkeypatch.setattr(transcribe, "_MAX_PIECE_S", 1)
    ctx = MemoryContext(in_turn(*[response(heard("x"))] * 20), blobs={"c/talk": TALK})

    await run(ctx)

    assert all(piece["size"] <= 16_000 for piece in ctx.steps["plan"].value["pieces"])


@pytest.mark.parametrize("bits", [8, pytest.param(16, marks=pytest.mark.long)])
@pytest.mark.parametrize(("seconds", "number"), [(1400, 2), (1380, 1)])
async def test_long_recordings_of_few_bytes_are_cut(bits: int, seconds: int, number: int):
    """Those of telephones have less than 25 MB, and are longer than GPT models take."""
    talk = wav(bytes([128] if bits == 8 else [0, 0]) * 8000 * seconds, sample_bytes=bits // 8)
    ctx = MemoryContext(in_turn(*[response(heard("x"))] * number), blobs={"c/talk": talk})

    output = (await run(ctx)).output or {}

    assert (number, number) == (output.get("parts", 1), len(ctx.called))
    assert len(talk) < transcribe.MAX_CALL_BYTES


@pytest.mark.usefixtures("small_calls")
async def test_other_audio_is_not_cut():
    """Nothing is sent."""
    ctx = MemoryContext(in_turn(), blobs={"c/talk": MP3 * 200})

    with pytest.raises(InvalidJob, match=r"names audio of more than 0 MB, the most that providers take\. Only WAV"):
        await run(ctx)

    assert ([], {}) == (ctx.called, ctx.steps)


async def test_what_is_no_audio_is_refused():
    """Nothing is sent."""
    ctx = MemoryContext(in_turn(), blobs={"c/talk": b"A text."})

    with pytest.raises(InvalidJob, match="names a blob that is no audio: mp3, mp4, m4a, ogg, opus, flac, wav or webm"):
        await run(ctx)

    assert [] == ctx.called

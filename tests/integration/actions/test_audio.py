"""`transcribe` and `speak` from the message to the result: blobs in, blobs out, and what is on record."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from shared.actions import transcribe
from shared.actions.wav import read_wav
from tests.support import audio_samples
from tests.support.audio_samples import AAC, FLAC, MP3, OPUS, described, spoken, wav
from tests.support.endpoint import error, reply, speech, transcription
from tests.support.forms import FormPart, read_form
from tests.support.harness import Customer, Harness
from tests.support.input_blobs import with_blobs


async def transcribed(customer: Customer, audio: bytes, job_id: str = "heard", **members: Any) -> dict[str, Any]:
    """Transcribe a recording."""
    request = {"blob": "INPUTS/talk.bin", **members}
    members = await with_blobs(customer, {"input": request, "options": {"retry_delay_ms": 1}}, talk_bin=audio)
    return await customer.run(job_id=job_id, action="transcribe", **members)


async def spoken_by(customer: Customer, **members: Any) -> dict[str, Any]:
    """Run a job that speaks."""
    return await customer.run(
        job_id="said", action="speak", input={"text": "Grüße, déjà vu.", "voice": "alloy"} | members
    )


async def test_recording_is_sent_as_a_file(harness: Harness):
    """The blob's bytes are a file with the extension of what they are, and parameters are fields."""
    customer = harness.customer()
    customer.account.will_answer(reply({"text": "Grüße.", "usage": {"type": "duration", "seconds": 27}}))

    result = await transcribed(
        customer, MP3, language="de", prompt="Grüße", parameters={"temperature": 0, "include": ["logprobs"]}
    )

    assert ({"text": "Grüße."}, "succeeded") == (result["output"], result["status"])
    (received,) = customer.account.received
    assert "/openai/v1/audio/transcriptions" == received.path
    assert [
        FormPart("model", None, None, b"gpt-4o"),
        FormPart("language", None, None, b"de"),
        FormPart("prompt", None, None, "Grüße".encode()),
        FormPart("temperature", None, None, b"0"),
        FormPart("include[]", None, None, b"logprobs"),
        FormPart("file", "audio.mp3", "audio/mpeg", MP3),
    ] == read_form(received)
    assert (27, 1) == (result["usage"]["seconds"], result["usage"]["calls"])
    (record,) = await customer.usage()
    assert (27, True, "transcribe") == (record["seconds"], record["reported"], record["action"])


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("text", {"text": "Hello there."}),
        ("srt", {"srt": "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n", "language": "english", "duration": 1.5}),
        ("vtt", {"vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n"}),
        ("verbose_json", {"task": "transcribe", "language": "english", "duration": 1.5}),
    ],
)
async def test_output_has_what_the_format_adds(harness: Harness, kind: str, output: dict[str, Any]):
    """Subtitles are made of segments, so that the answer still reports what it consumed."""
    customer = harness.customer()

    result = await transcribed(customer, OPUS, response_format=kind)

    assert {"text": "Hello there.", **output}.items() <= result["output"].items()
    assert ("segments" in result["output"], 2) == (kind == "verbose_json", result["usage"]["seconds"])
    fields = {part.name: part.data for part in read_form(customer.account.received[0])}
    assert (None if kind == "text" else b"verbose_json") == fields.get("response_format")
    assert ["audio.ogg"] == [part.filename for part in read_form(customer.account.received[0]) if part.filename]


async def test_long_wav_is_cut_at_silences(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """
    A recording that is too large is sent in pieces that are cut where it is quiet, each a file of its own; together
    they are the recording, and the times of the segments go on.
    """
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    monkeypatch.setattr(transcribe, "_SEARCHED_BYTES", 24_000)
    frames = spoken([(2.0, True), (0.6, False), (2.0, True), (0.5, False), (1.0, True)])
    customer = harness.customer()
    customer.account.will_answer(error(500), *[transcription(text) for text in ("One.", "Two.", "Three.")])

    result = await transcribed(customer, described(wav(frames)), response_format="srt")

    sent = [part.data for each in customer.account.received[1:] for part in read_form(each) if part.filename]
    layouts = [read_wav(data, len(data)) for data in sent]
    assert all(
        layout and 44 == layout.start and len(data) <= 50_000 for layout, data in zip(layouts, sent, strict=True)
    )
    pieces = {data[44:] for data in sent}
    starts_s = sorted(frames.index(piece) / 16_000 for piece in pieces)
    assert frames == b"".join(sorted(pieces, key=frames.index))
    assert (0.0, True, True) == (starts_s[0], 2.0 < starts_s[1] < 2.6, 4.6 < starts_s[2] < 5.1)
    assert ("succeeded", 3, 6) == (result["status"], result["output"]["parts"], result["usage"]["seconds"])
    shown = [line.partition(" --> ")[0] for line in result["output"]["srt"].splitlines() if " --> " in line]
    assert [f"00:00:0{start_s:.3f}".replace(".", ",") for start_s in starts_s] == shown
    assert 3 == len([row for row in await customer.usage() if row["outcome"] == "answered"])


async def test_pieces_that_were_paid_for_are_not_bought_again(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """A job that has to wait for a piece continues with that one, of the same recording; another one ends it."""
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    audio = wav(spoken([(2.0, True), (0.6, False), (2.0, True)]))
    customer = harness.customer(max_concurrency=1)
    wait = error(429, message="Slow down.", retry_after="60")
    customer.account.will_answer(transcription("One."), wait)
    request = await with_blobs(customer, {"input": {"blob": "INPUTS/talk.bin"}}, talk_bin=audio)
    job = {"job_id": "heard", "action": "transcribe", **request}

    assert await customer.deliver(**job) is None
    customer.account.will_answer(transcription("Two."))
    result = await customer.run(**job)

    assert ("succeeded", "One. Two.", 2) == (result["status"], result["output"]["text"], result["usage"]["calls"])
    assert 3 == len(customer.account.received)


async def test_recording_that_changed_ends_the_job(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """Pieces of two recordings would be joined."""
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    audio = wav(spoken([(2.0, True), (0.6, False), (2.0, True)]))
    customer = harness.customer(max_concurrency=1)
    customer.account.will_answer(transcription("One."), error(429, message="Slow down.", retry_after="60"))
    request = {"input": {"blob": "INPUTS/talk.bin"}}
    job = {"job_id": "heard", "action": "transcribe", **await with_blobs(customer, request, talk_bin=audio)}
    assert await customer.deliver(**job) is None
    await with_blobs(customer, request, talk_bin=audio[:-2] + b"\1\1")

    result = await customer.run(**job)

    message = "`input.blob` names a blob that was changed while the job ran."
    assert ("invalid_job", message) == (result["error"]["code"], result["error"]["message"])
    assert 1 == result["usage"]["calls"]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (MP3 * 200, "`input.blob` names audio of more than 0 MB, the most that providers take. Only WAV"),
        (b"A text.", "`input.blob` names a blob that is no audio"),
        (b"", "`input.blob` names a blob of no bytes."),
        (MP3 * 500, "`input.blob` names a blob of more than 0 MB."),
    ],
    ids=["compressed", "no audio", "empty", "too large"],
)
async def test_unusable_recording_is_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, audio: bytes, message: str
):
    """What can't be cut, is no audio or too large is refused, and nothing is sent."""
    monkeypatch.setattr(transcribe, "MAX_CALL_BYTES", 50_000)
    monkeypatch.setattr(transcribe, "MAX_AUDIO_BYTES", 100_000)
    customer = harness.customer()

    result = await transcribed(customer, audio)

    assert "invalid_job" == result["error"]["code"]
    assert result["error"]["message"].startswith(message)
    assert [] == customer.account.received


async def test_answer_without_segments_has_no_subtitles(harness: Harness):
    """The job fails with a sentence. The call is on record."""
    customer = harness.customer()
    customer.account.will_answer(reply({"text": "Hello.", "usage": {"type": "duration", "seconds": 3}}))

    result = await transcribed(customer, FLAC, response_format="vtt")

    assert ("provider_unavailable", 3) == (result["error"]["code"], result["usage"]["seconds"])
    assert "no `segments` with times" in result["error"]["message"]


async def test_deployment_is_called_with_the_preview_version(harness: Harness):
    """The newer models for audio need it, and the deployment is in the path."""
    customer = harness.customer(endpoint=f"{harness.endpoint.url}/openai/deployments/my-whisper")

    assert "succeeded" == (await transcribed(customer, MP3))["status"]
    assert "succeeded" == (await spoken_by(customer))["status"]
    requests = [(received.path, received.query["api-version"]) for received in customer.account.received]
    assert [
        (f"/openai/deployments/my-whisper/audio/{operation}", "2025-04-01-preview")
        for operation in ("transcriptions", "speech")
    ] == requests


@pytest.mark.parametrize(
    ("kind", "audio", "extension", "content_type"),
    [
        ("mp3", MP3, "mp3", "audio/mpeg"),
        ("wav", wav(), "wav", "audio/wav"),
        ("opus", OPUS, "opus", "audio/ogg"),
        ("flac", FLAC, "flac", "audio/flac"),
        ("aac", AAC, "aac", "audio/aac"),
        (None, audio_samples.MP3_TAGGED, "mp3", "audio/mpeg"),
    ],
)
async def test_speech_becomes_a_blob(
    harness: Harness, kind: str | None, audio: bytes, extension: str, content_type: str
):
    """The blob has the audio's own bytes, and the type that they are. Characters are counted in what was sent."""
    customer = harness.customer()
    customer.account.will_answer(speech(audio, "application/octet-stream"))

    result = await spoken_by(customer, **({"format": kind} if kind else {}), parameters={"speed": 1.2})

    blob = result["output"]["blob"]
    assert {
        "container": harness.environment["RESULTS_CONTAINER"],
        "name": f"{customer.name}/said/speech.{extension}",
        "size": len(audio),
        "sha256": hashlib.sha256(audio).hexdigest(),
        "content_type": content_type,
    } == blob
    assert audio == await harness.services.blobs.read(blob["container"], blob["name"], 10**6)
    own = {"model": "gpt-4o", "input": "Grüße, déjà vu.", "voice": "alloy", "speed": 1.2}
    assert own | ({"response_format": kind} if kind else {}) == customer.account.received[0].json
    assert {"calls": 1, "characters": 15}.items() <= result["usage"].items()
    (record,) = await customer.usage()
    assert (15, False, "answered") == (record["characters"], record["reported"], record["outcome"])


@pytest.mark.parametrize(
    ("answer", "outcome", "message"),
    [
        (reply({"error": {"message": "No voice today.", "code": "x"}}), "answered", "No voice today."),
        (reply(b"<html>"), "unanswered", "no audio of a known format"),
        (speech(b""), "unanswered", "no audio of a known format"),
    ],
)
async def test_what_is_no_audio_fails(harness: Harness, answer: Any, outcome: str, message: str):
    """An error that comes as a success, or a page, is no blob; the call is on record."""
    customer = harness.customer()
    customer.account.will_answer(answer)

    result = await spoken_by(customer)

    assert "failed" == result["status"]
    assert message in result["error"]["message"]
    assert [outcome] == [row["outcome"] for row in await customer.usage()]


async def test_models_route_has_no_audio(harness: Harness):
    """Foundry's older route is refused with a sentence."""
    customer = harness.customer(endpoint=f"{harness.endpoint.url}/models", provider="foundry")

    transcript, audio = await transcribed(customer, MP3), await spoken_by(customer)

    assert ["connection_invalid"] * 2 == [transcript["error"]["code"], audio["error"]["code"]]
    assert "which has no transcriptions" in transcript["error"]["message"]
    assert "which has no speech" in audio["error"]["message"]

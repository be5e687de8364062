"""Transcriptions: read, joined, and written as subtitles."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.transcript import join_transcriptions, read_transcription, subtitles
from tests.support.memory_context import response
from tests.support.rows import every_row

SEGMENT = {"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": " Hello.", "tokens": [1], "avg_logprob": -0.2}
WORD = {"word": "Hello", "start": 0.2, "end": 0.9}
SRT_CUES = "1\n00:00:00,000 --> 00:00:01,500\nHello\nthere -> <you> & me.\n\n2\n01:01:01,235 --> 27:46:40,000\nBye.\n\n"
VTT_CUES = (
    "00:00:00.000 --> 00:00:01.500\nHello\nthere -&gt; &lt;you&gt; &amp; me.\n\n01:01:01.235 --> 27:46:40.000\nBye.\n\n"
)
TIMES = st.floats(0, 90_000, allow_nan=False).map(lambda value: round(value, 3))
SEGMENTS = st.lists(
    st.builds(lambda start, end, text: {"start": start, "end": end, "text": text}, TIMES, TIMES, st.text())
)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"type": "duration", "seconds": 9}, {"seconds": 9.0}),
        (
            {
                "type": "tokens",
                "input_tokens": 14,
                "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
                "output_tokens": 45,
                "total_tokens": 59,
            },
            {"input_tokens": 14, "audio_input_tokens": 10, "output_tokens": 45, "total_tokens": 59},
        ),
    ],
)
def test_usage_is_the_providers(usage: dict[str, Any], counts: dict[str, float]):
    """Seconds or tokens, as the model reports them; the duration is then no count."""
    read = read_transcription(response({"text": "Hello.", "duration": 8.47, "usage": usage}), kind="json")

    assert read.call.usage is not None
    assert (counts, ()) == (
        {name: getattr(read.call.usage, name) for name in counts},
        read.call.usage.derived,
    )
    assert ({"text": "Hello.", "duration": 8.47}, None) == (read.members, read.error)


def test_duration_without_usage_is_derived():
    """Older API versions report the duration alone: the seconds follow from it. Without it there are none."""
    read = read_transcription(response({"text": "Hello.", "duration": 8.47149}), kind="json")
    without = read_transcription(response({"text": "Hello."}), kind="json")

    assert read.call.usage is not None
    assert (8.471, ("seconds",), 1) == (read.call.usage.seconds, read.call.usage.derived, read.call.usage.calls)
    assert without.call.usage is None


@every_row(
    ("body", "kind", "message"),
    [
        ({"words": []}, "json", "has no `text`"),
        (b"1\n00:00", "text", "has no `text`"),
        ({"text": "x"}, "verbose_json", "no `segments` and no `words`"),
        ({"text": "x", "words": [{"word": "x", "start": 0}]}, "verbose_json", "no `segments` and no `words`"),
        ({"text": "x", "words": [WORD]}, "vtt", "no `segments` with"),
        ({"text": "x", "segments": [{"start": "0", "end": 1, "text": ""}]}, "srt", "no `segments`"),
        ({"text": "x", "segments": [{"start": 0, "end": True, "text": ""}]}, "srt", "no `segments`"),
        ({"text": "x", "segments": [{"start": -1, "end": 1, "text": ""}]}, "srt", "no `segments`"),
        ({"text": "x", "segments": [{"start": 0, "end": 1e7, "text": ""}]}, "srt", "no `segments`"),
        ({"text": "x", "segments": [{"start": 0, "end": 1, "text": None}]}, "srt", "no `segments`"),
        ({"text": "x", "words": ["x"]}, "verbose_json", "no `segments` and no `words`"),
        ({"error": {"message": "No luck.", "code": "x"}}, "json", "No luck."),
    ],
)
def test_what_is_no_transcription_is_an_error(body: Any, kind: str, message: str):
    """It says what is missing. Its call may have been billed."""
    read = read_transcription(response(body), kind=kind)

    assert message in str(read.error)
    assert read.error is not None
    assert (200, "req-1") == (read.error.facts.status, read.error.facts.request_id)
    assert ("unanswered" if isinstance(body, bytes) else "answered") == read.call.outcome


@pytest.mark.parametrize("lists", [{"words": [WORD]}, {"segments": [SEGMENT]}, {"words": [WORD], "segments": []}])
def test_times_of_words_are_times(lists: dict[str, Any]):
    """A job that asks for those of words alone gets no segments."""
    assert read_transcription(response({"text": "Hello."} | lists), kind="verbose_json").error is None


def test_pieces_are_joined_with_their_times():
    """Texts, segments and words follow each other; times, seeks and ids go on; the rest is the first's."""
    piece = {"text": " Hello. ", "language": "english", "duration": 600.5, "segments": [SEGMENT], "words": [WORD]}
    second = {**piece, "text": "Bye.", "language": "dutch", "duration": 3}

    joined = join_transcriptions(
        [piece, second, {"text": "", "duration": 0.1012, "segments": [], "words": []}], [0, 600.5, 603.5]
    )

    assert ("Hello. Bye.", "english", 603.601) == (joined["text"], joined["language"], joined["duration"])
    assert [(0, 0, 0.0, 1.5), (1, 60_050, 600.5, 602.0)] == [
        (each["id"], each["seek"], each["start"], each["end"]) for each in joined["segments"]
    ]
    assert [(0.2, 0.9), (600.7, 601.4)] == [(each["start"], each["end"]) for each in joined["words"]]
    assert [" Hello."] * 2 == [each["text"] for each in joined["segments"]]


def test_nothing_is_heard_after_the_end_of_its_piece():
    """Models round up to 30 seconds. What follows is the next piece's, so that subtitles don't overlap."""
    first = {"text": "A.", "segments": [SEGMENT | {"start": 9.5, "end": 30.0}, SEGMENT | {"start": 12, "end": 13}]}
    second = {"text": "B.", "segments": [SEGMENT], "words": [{"word": "B.", "start": 0, "end": 30}]}

    joined = join_transcriptions([first, second], [0, 10])

    assert [(9.5, 10), (10, 10), (10, 11.5)] == [(each["start"], each["end"]) for each in joined["segments"]]
    assert [(10, 40)] == [(each["start"], each["end"]) for each in joined["words"]]
    shown = [line for line in subtitles(joined["segments"], "srt").splitlines() if " --> " in line]
    assert "00:00:10,000 --> 00:00:10,001" == shown[1]


def test_a_duration_is_that_of_all_pieces_or_none():
    """Not that of the first one."""
    joined = join_transcriptions([{"text": "A.", "duration": 10.0}, {"text": "B."}], [0, 10])

    assert {"text": "A. B."} == joined


def test_pieces_need_not_have_the_same_lists():
    """Words that only a later piece has are kept with their times; what is no list in any piece stays what it is."""
    word = {"word": "Hi", "start": 1, "end": 2.0004}
    first, second = {"text": "A.", "logprobs": None}, {"text": "B.", "words": [word], "logprobs": None}

    joined = join_transcriptions([first, second], [0, 10])

    assert {"text": "A. B.", "logprobs": None, "words": [{"word": "Hi", "start": 11, "end": 12.0}]} == joined


def test_one_piece_is_as_it_was():
    """What was not cut is not changed."""
    members = {"text": " Hello. ", "segments": [SEGMENT | {"id": 7}], "logprobs": None}

    assert members == join_transcriptions([members], [0])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "srt",
            SRT_CUES,
        ),
        ("vtt", f"WEBVTT\n\n{VTT_CUES}"),
    ],
)
def test_subtitles_are_written(kind: str, expected: str):
    """As each format wants its times; a text neither ends its cue nor begins another, and markup is text."""
    segments = [
        {"start": 0, "end": 1.5, "text": " Hello\n\n there --> <you> & me. "},
        {"start": 5, "end": 6, "text": " \n"},
        {"start": 3661.2346, "end": 100_000, "text": "Bye."},
    ]

    assert expected == subtitles(segments, kind)


@given(SEGMENTS, st.sampled_from(["srt", "vtt"]))
def test_subtitles_can_be_read_again(segments: list[dict[str, Any]], kind: str):
    """A reader that splits at blank lines gets as many cues, with the same times in milliseconds."""
    text = subtitles(segments, kind)

    cues = [block for block in re.split(r"\n\n", text) if block and block != "WEBVTT"]
    shown = [each for each in segments if any(line.strip() for line in each["text"].splitlines())]
    assert len(shown) == len(cues)
    for cue, segment in zip(cues, shown, strict=True):
        lines = cue.split("\n")
        (times,) = [line for line in lines if " --> " in line]
        read = [re.split(r"[:.,]", each) for each in times.split(" --> ")]
        seconds = [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in read]
        assert [segment["start"], max(segment["end"], segment["start"] + 0.001)] == pytest.approx(seconds)
        assert seconds[0] < seconds[1]


def test_what_is_no_item_of_a_list_keeps_its_place():
    """A gateway may send anything; the others are shifted all the same."""
    parts = [
        {"text": "a", "logprobs": ["odd", {"token": "a"}]},
        {"text": "b", "words": [{"word": "b", "start": 1, "end": 2}]},
    ]

    joined = join_transcriptions(parts, [0.0, 10.0])

    assert [{}, {"token": "a"}] == joined["logprobs"]
    assert [{"word": "b", "start": 11.0, "end": 12.0}] == joined["words"]

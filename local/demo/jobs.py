"""The demo's jobs, what each of them shows, and its result in one line."""

import io
import wave
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from local.paths import PROJECT
from local.stack.stack import CLAUDE, PATIENT

TEXT = PROJECT / "docs" / "scale.md"
"""The text of two jobs: the beginning of a page of this project's docs, with as many tokens when the page grows."""
PICTURE, RECORDING = "northwind/sofa.png", "northwind/call.wav"
"""Blobs that two jobs read."""
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FAILING = frozenset({"unknown member", "no connection"})
"""The titles of the jobs that fail on purpose: one is invalid, one is of a customer without a connection."""


@dataclass(frozen=True, slots=True)
class DemoJob:
    """A job of the demo: its title, and its JSON."""

    title: str
    job: dict[str, Any]

    @property
    def job_id(self) -> str:
        """The job's id."""
        return str(self.job["job_id"])


def demo_blobs() -> dict[str, bytes]:
    """The blobs that jobs read, by their names in the container of inputs: a pixel, and a tenth of a second."""
    audio = io.BytesIO()
    with wave.open(audio, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    return {PICTURE: b64decode(_PIXEL), RECORDING: audio.getvalue()}


def demo_jobs(*, real: bool) -> list[DemoJob]:
    """The jobs. On a `real` endpoint only those that a chat model can run, and none with an injected failure."""
    text = TEXT.read_text(encoding="utf-8")
    chats = [
        DemoJob(
            "chat with context",
            _chat("contoso", prompt="Summarise this text in one sentence.", context=text[:4000]),
        ),
        DemoJob(
            "chat with history",
            _chat(
                "fabrikam",
                system="You answer in one short sentence.",
                history=[
                    {"role": "user", "content": "What is the capital of France?"},
                    {"role": "assistant", "content": "Paris."},
                ],
                prompt="And what is the capital of Japan?",
            ),
        ),
        DemoJob(
            "chat with template",
            _chat(
                "fabrikam",
                template="Read the mail.\n@@context\nNow @@userPrompt",
                context="Order 4711 arrived damaged; I ask for a refund.",
                prompt="write a friendly answer about the refund.",
            ),
        ),
        DemoJob(
            "three prompts",
            _job(
                "northwind",
                "multi_chat",
                prompts=[f"What is the capital of {country}?" for country in ("France", "Japan", "Peru")],
            ),
        ),
        DemoJob("summary", _job("contoso", "summarize", text=text[:8000], style="bullets", max_words=80)),
    ]
    stand_in_only = [
        DemoJob("chat, after a 429", _chat("northwind", prompt="[fault: 429] A haiku, please.")),
        DemoJob("image", _job("northwind", "image", prompt="A lighthouse at dusk") | {"model": "gpt-image-2"}),
        DemoJob(
            "edited image",
            _job("northwind", "edit_image", images=[f"inputs/{PICTURE}"], prompt="At dusk") | {"model": "gpt-image-2"},
        ),
        DemoJob(
            "recording",
            _job("northwind", "transcribe", blob=f"inputs/{RECORDING}", response_format="srt")
            | {"model": "gpt-transcribe"},
        ),
        DemoJob(
            "speech",
            _job("northwind", "speak", text="Your parcel has arrived.", voice="alloy") | {"model": "gpt-speech"},
        ),
        DemoJob(
            "embedding",
            _job("northwind", "embed", texts=["a queue of jobs"]) | {"model": "text-embedding-3-small"},
        ),
        DemoJob(
            "chat with Claude",
            _chat("northwind", system="Be brief.", prompt="What is the capital of Italy?") | {"connection": CLAUDE},
        ),
        DemoJob(
            "response",
            _job("northwind", "respond", input="Name the cheapest of three offers.") | {"connection": PATIENT},
        ),
        DemoJob(
            "next connection",
            _chat("northwind", prompt="A tagline, please.") | {"connection": ["europe", "default"]},
        ),
        DemoJob("raw request", _job("northwind", "raw", method="GET", path="models")),
    ]
    failing = [
        DemoJob("unknown member", _chat("northwind", prompt="Hello") | {"urgency": "high"}),
        DemoJob("no connection", _chat("tailspin", prompt="Hello")),
    ]
    jobs = [*chats, *([] if real else stand_in_only), *failing]
    return [DemoJob(each.title, {"job_id": f"demo-{number}"} | each.job) for number, each in enumerate(jobs, 1)]


def describe(result: dict[str, Any]) -> str:  # noqa: PLR0911 -- a table
    """The result of a job in one line: the answer, or what the output is, or the error's code."""
    if "error" in result:
        return str(result["error"]["code"])
    if "output" not in result:  # too large for a message
        return "{size:,} bytes in the blob {name}".format(**result["output_blob"])
    output = result["output"]
    if result["action"] == "multi_chat":
        return " ".join(answer["text"] for answer in output["answers"])
    if result["action"] in {"image", "edit_image"}:
        (image,) = output["images"]
        return "{width} x {height} {blob[content_type]}, {blob[size]} bytes".format(**image)
    if result["action"] == "speak":
        return "{content_type}, {size} bytes".format(**output["blob"])
    if result["action"] == "embed":
        return f"{output['vectors']} x {output['dimensions']} numbers"
    if result["action"] == "raw":
        return f"HTTP {output['status']}, {len(output['json']['data'])} models"
    return " ".join(output["text"].split())


def _chat(customer: str, **members: Any) -> dict[str, Any]:
    return _job(customer, "chat", **members)


def _job(customer: str, action: str, **members: Any) -> dict[str, Any]:
    return {"customer": customer, "action": action, "input": members}

"""The demo's jobs, what each is there to show, and its result in a line."""

from dataclasses import dataclass
from typing import Any

from local.paths import PROJECT

TEXT = PROJECT / "docs" / "scale.md"
"""What two of the jobs are about: one of the project's own texts, and one that seldom changes."""
REFUSED = frozenset({"unknown member", "no connection"})
"""What jobs show that are meant to fail."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A job of the demo, and what it is there to show."""

    shows: str
    job: dict[str, Any]


def demo_jobs(*, real: bool) -> list[Sent]:
    """The jobs; on a `real` endpoint only those that one chat model can answer, and that nobody makes fail."""
    text = TEXT.read_text(encoding="utf-8")
    chat = [
        Sent(
            "a text as context",
            _chat("contoso", prompt="Summarise this text in one sentence.", context=text[:4000]),
        ),
        Sent(
            "with history",
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
        Sent(
            "prompt template",
            _chat(
                "fabrikam",
                template="Read the mail.\n@@context\nNow @@userPrompt",
                context="Order 4711 arrived damaged; I ask for a refund.",
                prompt="write a friendly answer about the refund.",
            ),
        ),
        Sent(
            "three prompts",
            _job(
                "northwind",
                "multi_chat",
                prompts=[f"What is the capital of {country}?" for country in ("France", "Japan", "Peru")],
            ),
        ),
        Sent("a long text", _job("contoso", "summarize", text=text, style="bullets", max_words=80)),
    ]
    only_here = [
        Sent("rate-limited once", _chat("northwind", prompt="[fault: 429] A haiku, please.")),
        Sent("a picture", _job("northwind", "image", prompt="A lighthouse at dusk") | {"model": "gpt-image-1"}),
        Sent(
            "a vector",
            _job("northwind", "embed", texts=["a queue of jobs"]) | {"model": "text-embedding-3-small"},
        ),
        Sent("any other request", _job("northwind", "raw", method="GET", path="models")),
    ]
    refused = [
        Sent("unknown member", _chat("northwind", prompt="Hello") | {"urgency": "high"}),
        Sent("no connection", _chat("tailspin", prompt="Hello")),
    ]
    jobs = [*chat, *([] if real else only_here), *refused]
    return [Sent(sent.shows, {"job_id": f"demo-{number}"} | sent.job) for number, sent in enumerate(jobs, 1)]


def describe(result: dict[str, Any]) -> str:  # noqa: PLR0911  # a table
    """What came of a job, in a line: the answer, or what it is, or why there is none."""
    if "error" in result:
        return "{code}: {message}".format(**result["error"])
    if "output" not in result:  # too large for a message
        return "{size:,} bytes in the blob {name}".format(**result["output_blob"])
    output = result["output"]
    if result["action"] == "multi_chat":
        return " ".join(answer["text"] for answer in output["answers"])
    if result["action"] == "image":
        (picture,) = output["images"]
        return "{width} x {height} {blob[content_type]}, {blob[size]} bytes".format(**picture)
    if result["action"] == "embed":
        return f"{output['vectors']} x {output['dimensions']} numbers"
    if result["action"] == "raw":
        return f"HTTP {output['status']}, {len(output['json']['data'])} models"
    return " ".join(output["text"].split())


def _chat(customer: str, **given: Any) -> dict[str, Any]:
    return _job(customer, "chat", **given)


def _job(customer: str, action: str, **given: Any) -> dict[str, Any]:
    return {"customer": customer, "action": action, "input": given}

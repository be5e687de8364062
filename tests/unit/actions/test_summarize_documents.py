"""`summarize` with documents: what is sent of them, what the result says, and what a later attempt does."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections import Counter
from typing import Any, BinaryIO, cast

import pytest
from msgspec import defstruct

from shared.actions.text_splitter import split
from shared.contract.names import BlobName, NamedBlob, blobs_of, named_blob
from shared.contract.summarize import Summarize
from shared.documents import child, process
from shared.documents.extract import reader_for
from shared.documents.extracted import Extracted
from shared.documents.kinds import Problem
from shared.documents.pictures import PNG, anchor
from tests.support.crashing_storage import WorkerDied
from tests.support.customers import Customer
from tests.support.document_files import NARROW, PICTURE, docx, lines, paragraph, pdf
from tests.support.endpoint import completion, error, reply
from tests.support.long_texts import TOO_LONG, summarized_text
from tests.support.sampled import Sampled
from tests.support.worker_crashes import Part, Process
from tests.support.workers import Memory, Worker, open_worker


@pytest.fixture
def reads_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are read in this process, for tests that are not about another one: starting it takes longest."""

    async def extract_here(file: BinaryIO, name: str, draws: bool = False) -> Extracted | Problem:
        file.seek(0)
        return child.extract(reader_for(file, name, draws), file)

    monkeypatch.setattr(process, "extract", extract_here)


async def store(worker: Worker, customer: Customer, **files: bytes) -> list[str]:
    """Write the customer's files, and return their blobs; `a_txt` is `a.txt`."""
    names = [f"{customer.name}/{name.replace('_', '.')}" for name in files]
    for name, data in zip(names, files.values(), strict=True):
        await worker.memory.blobs.write("inputs", name, data, "application/octet-stream")
    return [f"inputs/{name}" for name in names]


def sent(customer: Customer) -> list[str]:
    """Return the texts of all calls."""
    return [summarized_text(received.json) for received in customer.account.received]


async def test_several_documents_are_one_text(worker: Worker):
    """They are sent in their order, each under its name, and the result says what each is and which pages it lacks."""
    customer = worker.customer()
    blobs = await store(
        worker, customer, a_pdf=pdf([lines("Rent."), PICTURE]), b_docx=docx(paragraph("Term.")), c_txt=b"Note."
    )

    result = await worker.run(customer, action="summarize", input={"blobs": blobs})

    assert [
        "# Document 1: a.pdf\n\n[Page 1]\n\nRent.\n\n# Document 2: b.docx\n\nTerm.\n\n# Document 3: c.txt\n\nNote."
    ] == sent(customer)
    word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert [
        {"blob": blobs[0], "content_type": "application/pdf", "pages": 2, "pages_without_text": "2"},
        {"blob": blobs[1], "content_type": word},
        {"blob": blobs[2], "content_type": "text/plain"},
    ] == result["output"]["documents"]


@pytest.mark.usefixtures("reads_here")
async def test_a_later_attempt_has_the_same_text(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A document is read once for the job, so that a later version's other text does not change what was paid for."""
    customer = worker.customer()
    (blob,) = await store(worker, customer, a_docx=docx(paragraph("word " * 9_000)))
    customer.account.will_answer(error(429, message="Slow down.", retry_after="3600"))
    job: dict[str, Any] = {"action": "summarize", "job_id": "s", "input": {"blob": blob}}
    assert await worker.deliver(customer, **job) is None
    first = sent(customer)

    monkeypatch.setattr(process, "extract", None)  # to call it would fail
    result = await worker.run(customer, worker.wakeup(customer, "s"))

    assert "succeeded" == result["status"]
    assert set(first) <= set(sent(customer))
    assert blob == result["output"]["documents"][0]["blob"]


async def test_an_attempt_that_ends_between_documents_has_read_none_in_vain(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Each document is stored when it is read, so that a job of many gets on however short its attempts are."""
    monkeypatch.setattr("shared.jobs.time_budget.ATTEMPT_S", 1)
    read: list[bytes] = []

    async def slowly(file: BinaryIO, *_: object) -> Extracted:
        file.seek(0)
        read.append(file.read())
        await asyncio.sleep(0.2)
        return Extracted("pdf", f"Text of {read[-1]!r}.", 1)

    monkeypatch.setattr(process, "extract", slowly)
    customer = worker.customer()
    blobs = await store(worker, customer, a_pdf=b"%PDF-1", b_pdf=b"%PDF-2", c_pdf=b"%PDF-3")
    result = await worker.deliver(customer, action="summarize", job_id="s", input={"blobs": blobs})
    while result is None:
        ((body, _),) = worker.requeued()
        result = await worker.deliver(customer, body)

    assert ("succeeded", 3) == (result["status"], len(result["output"]["documents"]))
    assert [b"%PDF-1", b"%PDF-2", b"%PDF-3"] == read
    assert result["attempts"] >= 3


def _hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process that reads a document never end."""
    monkeypatch.setattr(process, "_COMMAND", "import time; time.sleep(60)")


async def test_reading_ends_with_the_deadline(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """And the error says so, not that the document is at fault."""
    _hang(monkeypatch)
    customer = worker.customer()
    (blob,) = await store(worker, customer, a_pdf=b"%PDF-1")
    started = asyncio.get_running_loop().time()

    result = await worker.run(customer, action="summarize", input={"blob": blob}, options={"deadline_s": 1})

    assert ("timeout", True) == (result["error"]["code"], "deadline of 1 s passed" in result["error"]["message"])
    assert asyncio.get_running_loop().time() - started < 5


async def test_reading_ends_with_the_worker(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A worker that stops hands the job over at once, and the next one reads the document."""
    customer = worker.customer()
    (blob,) = await store(worker, customer, a_pdf=pdf([lines("Rent.")]))
    job: dict[str, Any] = {"action": "summarize", "job_id": "s", "input": {"blob": blob}}
    with monkeypatch.context() as patched:
        _hang(patched)
        reading = asyncio.create_task(worker.deliver(customer, **job))
        while not worker.services.inputs.documents._documents._turns:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

        await worker.services.drain.stop()
        assert await reading is None

    ((body, _),) = worker.requeued()
    assert "waiting" == worker.row(customer, "s")["state"]
    assert "succeeded" == (await worker.another().run(customer, body))["status"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_that_dies_at_any_write_changes_no_text(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, sampled: Sampled, after: bool
):
    """
    Whichever write is its last, the next worker sends no other text than the first, though it
    would read another one; and it makes no call again but one whose answer was not stored.
    """
    count = itertools.count()

    async def otherwise_each_time(*_: object) -> Extracted:
        return Extracted("pdf", f"Text {next(count)}. " + "word " * 9_000, 1)

    monkeypatch.setattr(process, "extract", otherwise_each_time)
    for operation in sampled(itertools.count(1)):
        customer, dying = worker.customer(), Process(operation, after)
        blobs = await store(worker, customer, a_pdf=b"%PDF-1", b_pdf=b"%PDF-2", c_txt=b"Text.")
        body = customer.body(action="summarize", job_id="s", input={"blobs": blobs})
        seen = [cast(Any, Part(name, getattr(worker.memory, name), dying)) for name in ("table", "blobs", "queues")]
        memory = Memory(*seen, worker.memory.credentials)
        with contextlib.suppress(WorkerDied):
            await open_worker(worker.endpoint, worker.services.client, memory=memory).deliver(customer, body)
        if len(dying.operations) < operation:
            break
        if (customer.name, "j_s") in worker.table.rows and worker.row(customer, "s")["state"] == "running":
            await worker.expire_lease(customer, "s")

        result = await worker.another().run(customer, body)

        assert "succeeded" == result["status"], operation
        texts = Counter(sent(customer))
        assert result["output"]["parts"] + 1 == len(texts)
        assert sum(texts.values()) <= len(texts) + result["output"]["parts"]
        assert 1 == len({text.partition("Text ")[2].partition(".")[0] for text in texts if "Document 1" in text})
    assert operation > 8


async def test_text_in_a_blob_is_no_step(worker: Worker):
    """A text needs no other format's reader: it is read again by a later attempt, which costs one request."""
    customer = worker.customer()
    (blob,) = await store(worker, customer, a_txt=b"Text.")

    await worker.run(customer, action="summarize", job_id="s", input={"blob": blob})

    steps = [key for _, key in worker.table.rows if key.startswith("s_s~")]
    assert ["s_s~p"] == steps


def pictures_of(content: Any) -> int:
    """Check a call's parts, and return the number of the images among them."""
    images = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    for url in images:
        assert base64.b64decode(url.removeprefix("data:image/png;base64,")).startswith(PNG)
    return len(images)


async def test_pages_without_text_are_sent_as_images(worker: Worker):
    """If the job asks for it: each stands where its page is, those of several documents too. The result says which."""
    customer = worker.customer()
    scan = pdf([lines("Rent."), PICTURE, PICTURE])
    blobs = await store(worker, customer, a_pdf=scan, b_txt=f"Note {anchor(0)}.".encode(), c_pdf=pdf([PICTURE]))

    result = await worker.run(customer, action="summarize", input={"blobs": blobs, "page_images": True})

    (call,) = customer.account.received
    content = call.json["messages"][1]["content"]
    texts = [part["text"] for part in content if part["type"] == "text"]
    assert (3, 4) == (pictures_of(content), len(texts))
    assert ["[Page 2]\n\n", "\n\n[Page 3]\n\n"] == [texts[0][-10:], texts[1]]
    assert "\n\n# Document 2: b.txt\n\nNote .\n\n# Document 3: c.pdf\n\n[Page 1]\n\n" == texts[2]
    assert "pages that have no text" in call.json["messages"][0]["content"]
    shown = [
        {name: value for name, value in each.items() if name.startswith("pages")}
        for each in (result["output"]["documents"])
    ]
    assert [{"pages": 3, "pages_as_images": "2-3"}, {}, {"pages": 1, "pages_as_images": "1"}] == shown


@pytest.mark.usefixtures("reads_here")
async def test_a_later_attempt_sends_the_same_images(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """In as many parts, of eight pages at most: they are stored with the text, and the document is not read again."""
    customer = worker.customer(max_concurrency=1)
    (blob,) = await store(worker, customer, a_pdf=pdf([PICTURE] * 20, box=NARROW))
    customer.account.will_answer(completion("One."), error(429, message="Slow down.", retry_after="3600"))
    job: dict[str, Any] = {"action": "summarize", "job_id": "s", "input": {"blob": blob, "page_images": True}}
    assert await worker.deliver(customer, **job) is None

    monkeypatch.setattr(process, "extract", None)  # to call it would fail
    result = await worker.run(customer, worker.wakeup(customer, "s"))

    contents = [each.json["messages"][1]["content"] for each in customer.account.received]
    assert [7, 7, 7, 6] == [pictures_of(content) for content in contents if isinstance(content, list)]
    assert contents[1] == contents[2]
    assert (3, 1, "1-20") == (
        result["output"]["parts"],
        result["output"]["levels"],
        result["output"]["documents"][0]["pages_as_images"],
    )


@pytest.mark.usefixtures("reads_here")
async def test_claude_sees_the_images(worker: Worker):
    """In its own form, from the same job."""
    customer = worker.customer()
    endpoint = f"{customer.account.base}/anthropic"
    worker.connect(customer, endpoint=endpoint, provider="anthropic", default_model="claude-sonnet-4-5")
    customer.account.will_answer(reply({"content": [{"type": "text", "text": "A lease."}], "stop_reason": "end_turn"}))
    (blob,) = await store(worker, customer, a_pdf=pdf([PICTURE], box=NARROW))

    result = await worker.run(customer, action="summarize", input={"blob": blob, "page_images": True})

    assert "A lease." == result["output"]["text"]
    (message,) = customer.account.received[0].json["messages"]
    before, image, after = message["content"]
    assert ("<text>\n[Page 1]\n\n", "\n</text>") == (before["text"], after["text"])
    assert ("image", "base64", "image/png") == (
        image["type"],
        image["source"]["type"],
        image["source"]["media_type"],
    )
    assert base64.b64decode(image["source"]["data"]).startswith(PNG)


@pytest.mark.usefixtures("reads_here")
async def test_images_that_are_too_much_for_the_model_are_sent_in_smaller_parts(worker: Worker):
    """Down to one page a call; if that is too much, the job fails with the model's words."""
    customer = worker.customer(max_concurrency=1)
    (blob,) = await store(worker, customer, a_pdf=pdf([PICTURE] * 3, box=NARROW))
    for _ in range(9):
        customer.account.will_answer(error(400, **TOO_LONG))

    result = await worker.run(customer, action="summarize", input={"blob": blob, "page_images": True})

    assert TOO_LONG["message"][:40] in result["error"]["message"]
    sizes = [
        pictures_of(content)
        for each in customer.account.received
        if isinstance(content := each.json["messages"][1]["content"], list)
    ]
    assert (3, 1) == (sizes[0], sizes[-1])
    assert len(sizes) < 9


@pytest.mark.usefixtures("reads_here")
async def test_a_model_that_takes_no_system_message_sees_the_images(worker: Worker):
    """The instructions stand before the first of them."""
    customer = worker.customer()
    (blob,) = await store(worker, customer, a_pdf=pdf([PICTURE], box=NARROW))
    refusal = "Unsupported value: 'messages[0].role' does not support 'system' with this model."
    customer.account.will_answer(error(400, message=refusal, param="messages[0].role"))

    result = await worker.run(customer, action="summarize", input={"blob": blob, "page_images": True})

    assert "succeeded" == result["status"]
    (message,) = customer.account.received[-1].json["messages"]
    assert message["content"][0]["text"].startswith("You write summaries.")
    assert 1 == pictures_of(message["content"])


@pytest.mark.usefixtures("reads_here")
@pytest.mark.parametrize("pages", [pytest.param((51,), marks=pytest.mark.long), (30, 21)])
async def test_images_of_a_job_are_limited(worker: Worker, pages: tuple[int, ...]):
    """A job with more of them fails before a call: what is left out would not be in the summary."""
    customer = worker.customer()
    files = {f"{'ab'[number]}_pdf": pdf([PICTURE] * count, box=NARROW) for number, count in enumerate(pages)}
    blobs = await store(worker, customer, **files)

    result = await worker.run(customer, action="summarize", input={"blobs": blobs, "page_images": True})

    named = f"`input.blobs[{len(pages) - 1}]` ({blobs[-1]}) has too many pages without text: 50 pictures"
    assert result["error"]["message"].startswith(named)
    assert [] == sent(customer)


@pytest.mark.usefixtures("reads_here")
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a_txt": b"Text.", "b_pdf": pdf([PICTURE])}, "`input.blobs[1]` ({1}) contains no text, only pictures."),
        ({"a_pdf": b"%PDF-1.7", "b_txt": b"Text."}, "`input.blobs[0]` ({0}) is damaged or cut off."),
    ],
)
async def test_a_document_without_text_fails_the_job(worker: Worker, files: dict[str, bytes], message: str):
    """The job ends as invalid, its message names the document, and no call is made."""
    customer = worker.customer()
    blobs = await store(worker, customer, **files)

    result = await worker.run(customer, action="summarize", input={"blobs": blobs})

    assert "invalid_job" == result["error"]["code"]
    assert result["error"]["message"].startswith(message.format(*blobs))
    assert [] == sent(customer)


async def test_documents_together_are_limited(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """Their texts together may be as long as one."""
    monkeypatch.setattr("shared.actions.summary_source.MAX_DOCUMENTS_CHARACTERS", 10)
    customer = worker.customer()
    blobs = await store(worker, customer, a_txt=b"123456", b_txt=b"123456")

    result = await worker.run(customer, action="summarize", input={"blobs": blobs})

    assert (
        f"`input.blobs` have more than 10 characters of text, up to `input.blobs[1]` ({blobs[1]})."
        == (result["error"]["message"])
    )


async def test_every_blob_of_a_job_is_its_customers(worker: Worker):
    """One blob of another customer among a job's own fails the job, before a call is made."""
    customer = worker.customer()
    (own,) = await store(worker, customer, a_txt=b"Text.")

    result = await worker.run(customer, action="summarize", input={"blobs": [own, "inputs/other/a.txt"]})

    assert result["error"]["message"].startswith("`input.blobs[1]` must be in inputs, and its name must begin")
    assert [] == sent(customer)


def test_blobs_of_an_input_are_found():
    """All that an input names, in members and in lists of them, so that the door checks each."""
    named, blob = named_blob("inputs/a/b", at="input.blobs[0]"), BlobName("inputs", "a/b")
    assert NamedBlob(blob, "input.blobs[0]") == named

    assert [named] == blobs_of(Summarize((named,)))
    assert [] == blobs_of(Summarize("inputs/a/b")) == blobs_of([named])
    images = defstruct("Images", ["images", "mask", "prompts"])([blob, blob], blob, ["x"])
    assert ["input.images[0]", "input.images[1]", "input.mask"] == [each.at for each in blobs_of(images)]


def test_splitting_follows_headings():
    """A part of a document ends before a heading or a page in its second half, else as any text's."""
    text = "# One\n\n" + "word " * 8 + "\n\n## Two\n\n" + "word. " * 6 + "\n\n[Page 2]\n\n" + "word " * 9

    assert ["# One", "## Two", "[Page 2]"] == [
        part.strip().partition("\n")[0] for part in split(text, 24, at_headings=True)
    ]
    assert text == "".join(split(text, 24, at_headings=True))
    assert split(text, 24) != split(text, 24, at_headings=True)

"""Documents that jobs name: which blobs are read, how much of them, and what is said of those that can't be."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import pytest

from shared.actions.base import Document
from shared.contract.names import NamedBlob, named_blob
from shared.documents import process
from shared.documents.process import Killed, Overtaxing
from shared.errors import InvalidJob, Throttled
from shared.jobs import document_inputs as module
from shared.jobs.inputs import Inputs
from shared.settings import read_settings
from tests.support.document_files import docx, lines, paragraph, pdf
from tests.support.fake_blobs import MemoryBlobs
from tests.support.rows import every_row

SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true", "INPUT_CONTAINERS": "inputs"})


def blob(name: str) -> NamedBlob:
    """The blob as a job names it."""
    return named_blob(f"inputs/acme/{name}", at="input.blob")


async def opened(**files: bytes) -> tuple[Inputs, MemoryBlobs]:
    """Return inputs on Storage with these files of the customer; `a_txt` is `a.txt`."""
    blobs = MemoryBlobs()
    for name, data in files.items():
        await blobs.write("inputs", f"acme/{name.replace('_', '.')}", data, "application/octet-stream")
    return Inputs(SETTINGS, blobs), blobs


async def test_documents_are_read_by_their_content():
    """Texts are as they are, in any of their encodings; of other formats, the text and the pages are read."""
    inputs, _ = await opened(
        a_md="\ufeff# Grüße".encode(),
        b_txt="Grüße".encode("utf-16"),
        c_docx=pdf([lines("In a PDF.")]),
        d_bin=docx(paragraph("In Word.")),
    )
    read = inputs.documents.read

    assert Document("# Grüße", "text/markdown") == await read("acme", blob("a.md"))
    assert Document("Grüße", "text/plain") == await read("acme", blob("b.txt"))
    assert Document("[Page 1]\n\nIn a PDF.", "application/pdf", 1, is_extracted=True) == await read(
        "acme", blob("c.docx")
    )
    word = await read("acme", blob("d.bin"))
    assert ("In Word.", None, True) == (word.text, word.pages, word.is_extracted)
    assert word.content_type.endswith("wordprocessingml.document")


@every_row(
    ("data", "sentence"),
    [
        (b"Gr\xfc\xdfe", "is not valid UTF-8 (byte 2)."),
        (b"\xff\xfea", "is not valid UTF-16 (byte 2)."),
        (b" \n", "contains no text."),
        (b"\0\1", "is neither text nor a known document."),
        ("Text.".encode("utf-32"), "is neither text nor a known document."),
        (b"%PDF-1.7", "is damaged or cut off."),
        (docx(paragraph("x"))[:-9], "is damaged or cut off."),
    ],
)
async def test_what_can_not_be_read_is_an_invalid_job(data: bytes, sentence: str):
    """The message names the member and the blob, and says what is wrong."""
    inputs, _ = await opened(a=data)

    with pytest.raises(InvalidJob) as refused:
        await inputs.documents.read("acme", blob("a"))

    assert str(refused.value).startswith(f"`input.blob` (inputs/acme/a) {sentence}")


@pytest.mark.parametrize("name", ["inputs/other/a.pdf", "inputs/acme2/a.pdf", "results/acme/a.pdf"])
async def test_only_blobs_of_the_customer_are_read(name: str):
    """Whichever way a blob is read, it is in an input container, and its name begins with the customer."""
    inputs = Inputs(SETTINGS, MemoryBlobs(down=True))
    named = named_blob(name, at="input.blobs[3]")

    for read in (
        inputs.documents.read("acme", named),
        inputs.read_small("acme", named),
        inputs.open("acme", named.blob, at=named.at, max_bytes=9),
        inputs.read("acme", named.blob, at=named.at),
    ):
        with pytest.raises(InvalidJob, match=r"^`input.blobs\[3\]` must be in inputs, and its name must begin"):
            await read


async def test_no_text_has_zeros():
    """Which some providers refuse, and no reader sees."""
    inputs, _ = await opened(a_txt=b"x" * 5_000 + b"\0y")
    assert "x" * 5_000 + "y" == (await inputs.documents.read("acme", blob("a.txt"))).text


async def test_missing_blob_is_named():
    """A blob that does not exist is the job's fault."""
    inputs, _ = await opened()
    with pytest.raises(InvalidJob, match=r"^`input.blob` names a blob that does not exist.$"):
        await inputs.documents.read("acme", blob("a"))


async def test_large_files_are_copied_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    """A document may be large; what is larger than the limit is refused."""
    large = pdf([lines("Large.")]) + b"\n%" + bytes(1_500_000)
    inputs, _ = await opened(a_pdf=large)
    assert "[Page 1]\n\nLarge." == (await inputs.documents.read("acme", blob("a.pdf"))).text

    monkeypatch.setattr(module, "MAX_DOCUMENT_BYTES", 1_000_000)
    with pytest.raises(InvalidJob, match=r"^`input.blob` names a blob of more than 1 MB\.$"):
        await inputs.documents.read("acme", blob("a.pdf"))


async def test_memory_of_texts_is_counted(monkeypatch: pytest.MonkeyPatch):
    """A large text takes what it has in memory, as long as it is in use; one that is too long is refused."""
    inputs, _ = await opened(a_txt=b"word " * 400_000, b_html=b"<html>" + b"word " * 400_000)
    for name in ("a.txt", "b.html"):
        document = await inputs.documents.read("acme", blob(name))
        assert 1_990_000 < inputs._memory.taken["acme"] < 2_010_000, document.content_type
        del document
        await asyncio.sleep(0.01)
        assert {} == inputs._memory.taken

    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 1_500_000)
    with pytest.raises(InvalidJob, match="has more than 16 MiB of text"):
        await inputs.documents.read("acme", blob("a.txt"))


async def test_a_killed_reader_has_a_second_try(monkeypatch: pytest.MonkeyPatch):
    """The system may have been short of memory. A second time, the document is taken for what it was."""
    inputs, _ = await opened(a_pdf=pdf([lines("Rent.")]))
    read, kills = process.extract, [Killed(), Killed(), Killed()]

    async def killed(*arguments: Any) -> Any:
        if kills:
            raise kills.pop()
        return await read(*arguments)

    monkeypatch.setattr(process, "extract", killed)
    with pytest.raises(InvalidJob, match="takes too much memory or time"):
        await inputs.documents.read("acme", blob("a.pdf"))
    assert "[Page 1]\n\nRent." == (await inputs.documents.read("acme", blob("a.pdf"))).text


async def test_monster_is_named(monkeypatch: pytest.MonkeyPatch):
    """The process that a document brings down costs one job."""

    async def crash(*_: object) -> None:
        raise Overtaxing

    monkeypatch.setattr(process, "extract", crash)
    inputs, _ = await opened(a_pdf=b"%PDF-")

    with pytest.raises(InvalidJob, match=r"^`input.blob` \(inputs/acme/a.pdf\) takes too much memory or time to read"):
        await inputs.documents.read("acme", blob("a.pdf"))


async def test_a_full_disk_is_the_workers(monkeypatch: pytest.MonkeyPatch):
    """The job is requeued: another worker may have room."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", full)
    inputs, _ = await opened(a_pdf=b"%PDF-")

    with pytest.raises(Throttled, match="no room left"):
        await inputs.documents.read("acme", blob("a.pdf"))


async def test_small_texts_wait_for_nobody(monkeypatch: pytest.MonkeyPatch):
    """They are read while others' documents have all turns."""
    monkeypatch.setattr(process, "MAX_WAIT_S", 0.01)
    inputs, _ = await opened(a_txt=b"Text.", b_pdf=b"%PDF-")
    documents = inputs.documents._documents

    async with documents.turn("acme"):
        assert "Text." == (await inputs.documents.read("acme", blob("a.txt"))).text
        with pytest.raises(Throttled):
            await inputs.documents.read("acme", blob("b.pdf"))

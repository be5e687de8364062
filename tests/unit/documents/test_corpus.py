"""What is read of each document of the corpus: its text, or why there is none."""

from __future__ import annotations

import io
import random
import tempfile
from typing import BinaryIO, cast, get_args

import pytest

from shared.documents import process
from shared.documents.child import extract
from shared.documents.extract import reader_for
from shared.documents.extracted import Extracted
from shared.documents.kinds import MEDIA_TYPES, Problem
from tests.support.document_corpus import CORPUS, Sample
from tests.support.rows import every_row


def check(sample: Sample, read: Extracted | Problem) -> None:
    """Compare what was read with the sample."""
    if isinstance(read, str):
        assert sample.problem == read
        return
    assert sample.problem is None, read.text[:200]
    start = 0
    for part in sample.contains:
        assert part in read.text[start:], read.text[:2000]
        start = read.text.index(part, start) + len(part)
    assert [] == [part for part in sample.lacks if part in read.text]
    assert sample.pages in {None, read.pages}
    assert sample.pages_without_text == read.pages_without_text
    assert read.kind in MEDIA_TYPES


def test_corpus_is_large():
    """It has at least sixty documents, each with a name of its own."""
    assert len(CORPUS) == len({sample.name for sample in CORPUS}) >= 60


@every_row("sample", CORPUS, ids=lambda sample: sample.name)
def test_document_is_read_or_refused(sample: Sample):
    """Headings, lists and tables are in reading order, and pages are marked; a document without a text says why."""
    file = io.BytesIO(sample.makes())

    check(sample, extract(reader_for(file, sample.name), file))


@pytest.mark.long
@pytest.mark.timeout(600)
@every_row("sample", CORPUS, ids=lambda sample: sample.name)
async def test_process_reads_the_same(sample: Sample):
    """A process that has given up everything reads the same: nothing that it needs is imported too late."""
    with tempfile.TemporaryFile() as opened:
        file: BinaryIO = opened  # type: ignore[assignment]
        file.write(sample.makes())
        file.flush()

        check(sample, await process.extract(file, sample.name))


@pytest.mark.long
@pytest.mark.timeout(600)
@every_row("seed", range(40))
async def test_damaged_documents_are_read_or_refused(seed: int):
    """Whatever happens to a document's bytes, there is a text or a sentence, and no parser ends by itself."""
    chance = random.Random(seed)
    sample = chance.choice([sample for sample in CORPUS if sample.problem is None])
    data = bytearray(sample.makes())
    for _ in range(chance.choice((1, 5, 40))):
        start = chance.randrange(len(data) + 1)
        end = start + chance.randrange(50)
        data[start:end] = chance.choice((b"", chance.randbytes(3), data[start:end] * 2))
    with tempfile.TemporaryFile() as opened:
        file: BinaryIO = opened  # type: ignore[assignment]
        file.write(data)
        file.flush()

        read = await process.extract(file, sample.name)

    assert read in get_args(Problem) or cast(Extracted, read).text

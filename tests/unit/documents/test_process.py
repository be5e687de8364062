"""The process that reads a document: what it has, what it may take, and what a hole in a parser would reach."""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from shared.documents import process
from shared.documents.child import extract
from shared.documents.extract import reader_for
from shared.documents.extracted import Extracted, decode, encode, ranges
from shared.documents.kinds import Problem
from shared.documents.pictures import PNG
from shared.documents.process import Documents, Killed, Overtaxing
from shared.errors import Throttled
from tests.support.document_files import docx, lines, paragraph, pdf
from tests.support.rows import every_row

LINUX = sys.platform == "linux"
PROBE = """
import sys; sys.path[:] = sys.argv[2:]
import ctypes, os, socket
from shared.documents import extract, extracted, sandbox

def probe(file):
    reached = {}
    for name, attempt in ATTEMPTS.items():
        try:
            reached[name] = str(attempt())
        except BaseException as error:
            reached[name] = type(error).__name__
    return extracted.Extracted("html", str(reached))

PARENT = os.getppid()
ATTEMPTS = {
    "environment": lambda: set(os.environ) - {"LC_CTYPE"},  # which Python sets
    "folder": lambda: os.getcwd(),
    "read its own file": lambda: len(os.read(0, 9)),
    "look into the worker": lambda: open(f"/proc/{PARENT}/environ").read(),
    "read a file": lambda: os.open("/etc/passwd", 0),
    "look for a file": lambda: os.stat("/etc/passwd"),
    "write a file": lambda: open("x", "w"),
    "connect": lambda: socket.socket(),
    "a process": lambda: os.fork(),
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a signal": lambda: os.kill(PARENT, 0),
    "the worker's memory": lambda: ctypes.CDLL(None).process_vm_readv(PARENT, 0, 0, 0, 0, 0),
    "memory": lambda: bytearray(sandbox.MAX_MEMORY_BYTES),
    "more time": lambda: __import__("resource").setrlimit(0, (999, 999)),
}
import resource
"""


async def read(data: bytes, name: str = "a.html") -> Extracted | Problem:
    """Read a document as a worker does."""
    with tempfile.TemporaryFile() as opened:
        file = cast(BinaryIO, opened)
        file.write(data)
        file.flush()
        return await process.extract(file, name)


def with_program(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Have the process run the program where it otherwise reads a document: with everything given up."""
    command = f"{program}\nfrom shared.documents import child\nchild.reader_for = lambda *_: probe\nchild.main('')"
    monkeypatch.setattr(process, "_COMMAND", command)


@pytest.mark.skipif(not LINUX, reason="only Linux has namespaces and filters of system calls (docs/security.md)")
@pytest.mark.parametrize("less", ["", pytest.param("sandbox._NAMESPACES = 0", marks=pytest.mark.long)])
async def test_a_hole_in_a_parser_reaches_nothing(monkeypatch: pytest.MonkeyPatch, less: str):
    """
    What takes over the process has its document and its output: no key, file, socket, process or signal. So it is
    where the system lets nobody make a namespace, too.
    """
    monkeypatch.setenv("SECRET", "no-one-sees-this")
    with_program(monkeypatch, f"{PROBE}\n{less}")

    reached = await read(b"123456789")

    assert isinstance(reached, Extracted)
    assert {
        "environment": "set()",
        "folder": "PermissionError",
        "read its own file": "9",
        "look into the worker": "PermissionError",
        "read a file": "PermissionError",
        "look for a file": "PermissionError",
        "write a file": "PermissionError",
        "connect": "PermissionError",
        "a process": "PermissionError",
        "a program": "PermissionError",
        "a signal": "PermissionError",
        "the worker's memory": "-1",
        "memory": "MemoryError",
        "more time": "ValueError",
    } == eval(reached.text)


@pytest.mark.skipif(not LINUX, reason="macOS has no /proc")
async def test_process_starts_with_nothing(monkeypatch: pytest.MonkeyPatch):
    """Its environment and its folder are empty, and it has three descriptors: its document, its output, and none."""
    monkeypatch.setenv("SECRET", "no-one-sees-this")
    program = (
        "import os, sys; sys.path[:] = sys.argv[2:]\n"
        "before = set(os.environ) - {'LC_CTYPE'}, os.listdir('.'), sorted(map(int, os.listdir('/proc/self/fd')))[:-1]\n"
        "from shared.documents import extracted\n"
        "probe = lambda file: extracted.Extracted('html', str(before))"
    )
    with_program(monkeypatch, program)

    started = await read(b"x")

    assert isinstance(started, Extracted)
    assert (set(), [], [0, 1, 2]) == eval(started.text)


@every_row(
    "probe",
    [
        "import ctypes; probe = lambda file: ctypes.string_at(0)",
        "probe = lambda file: bytearray(1 << 40)",
        "def probe(file):\n    raise SystemExit(0)",
        "import os\ndef probe(file):\n    os.write(1, b'not what is expected\\n')\n    os._exit(0)",
    ],
    ids=["crash", "memory", "exit", "output"],
)
async def test_a_crash_costs_one_document(monkeypatch: pytest.MonkeyPatch, probe: str):
    """However the process ends, and whatever it writes, the worker goes on."""
    with_program(monkeypatch, f"import sys; sys.path[:] = sys.argv[2:]\n{probe}")

    with pytest.raises(Overtaxing):
        await read(b"x")


@pytest.mark.long  # the system counts seconds of a processor
@pytest.mark.skipif(not LINUX, reason="macOS does not limit a process's memory")
async def test_time_of_the_processor_is_limited(monkeypatch: pytest.MonkeyPatch):
    """A process that uses it for too long is ended."""
    loop = "import sys; sys.path[:] = sys.argv[2:]\nfrom shared.documents import sandbox\nsandbox.MAX_CPU_S = 1\n{}"
    with_program(monkeypatch, loop.format("def probe(file):\n    while True: pass"))
    with pytest.raises(Overtaxing) as raised:
        await read(b"x")
    assert not isinstance(raised.value, Killed)


async def test_time_is_limited(monkeypatch: pytest.MonkeyPatch):
    """A process that waits for nothing is ended."""
    with_program(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(process, "MAX_WALL_S", 0.1)
    with pytest.raises(Overtaxing):
        await read(b"x")


async def test_a_process_that_others_end_is_told_apart(monkeypatch: pytest.MonkeyPatch):
    """As the system does if memory is short: it ends this process before the worker."""
    with_program(monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(Killed):
        await read(b"x")


async def test_no_process_left_is_transient(monkeypatch: pytest.MonkeyPatch):
    """The job is requeued."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(Throttled):
        await read(b"<html>x")


async def test_a_cancelled_read_ends_its_process(monkeypatch: pytest.MonkeyPatch):
    """When the worker stops, nothing is left of it."""
    with_program(monkeypatch, "import time; time.sleep(60)")
    reading = asyncio.create_task(read(b"x"))
    await asyncio.sleep(0.1)
    started = asyncio.get_running_loop().time()

    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert asyncio.get_running_loop().time() - started < 10


@pytest.mark.skipif(not LINUX, reason="only Linux ends a process with another one")
@pytest.mark.parametrize(
    "start", [pytest.param("", marks=pytest.mark.long), "sandbox.lock()"], ids=["reading", "locked"]
)
def test_a_killed_worker_leaves_nothing(tmp_path: Path, start: str):
    """Neither its process, which could go on for ever, nor its folder."""
    endless = (
        f"import sys; sys.path[:] = sys.argv[2:]\\nfrom shared.documents import sandbox; sandbox.limit(9); {start}"
    )
    worker = (
        "import asyncio, sys, tempfile\n"
        "from shared.documents import process\n"
        f"process._COMMAND = '{endless}\\nwhile True: pass'\n"
        "asyncio.run(process.extract(tempfile.TemporaryFile(), 'a'))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", worker], env=environment) as running:
        try:
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
            _wait(lambda: bool(children.read_text()))
            reader = Path(f"/proc/{children.read_text().strip()}")
            _wait(lambda: b"1000" in (reader / "oom_score_adj").read_bytes())  # it gives up its rights
            time.sleep(0.3)
        finally:
            running.kill()
    _wait(lambda: not reader.exists() or "State:\tZ" in (reader / "status").read_text())
    assert [] == [*tmp_path.iterdir()]


def _wait(holds: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


async def test_customers_take_turns(monkeypatch: pytest.MonkeyPatch):
    """One document of a customer is read at a time, and two of a worker; a job that waits long is requeued."""
    documents, running, seen = Documents(), set[str](), list[set[str]]()

    async def turn(customer: str) -> None:
        async with documents.turn(customer):
            assert customer not in running
            running.add(customer)
            seen.append(set(running))
            await asyncio.sleep(0.01)
            running.remove(customer)

    await asyncio.gather(*(turn(customer) for customer in "aaabbc"))
    assert 2 == max(map(len, seen))

    monkeypatch.setattr(process, "MAX_WAIT_S", 0.01)
    async with documents.turn("a"), documents.turn("b"):
        for customer in ("a", "c"):
            with pytest.raises(Throttled):
                await turn(customer)
    await turn("c")


@pytest.mark.parametrize("is_crash", [False, True])
async def test_a_document_is_read_from_its_start(monkeypatch: pytest.MonkeyPatch, is_crash: bool):
    """
    Whatever the worker has read ahead of it: some file systems, and Python 3.14, have it read more than the head. Its
    file can be closed, also if nobody has read it.
    """
    if is_crash:
        with_program(monkeypatch, "import os; os._exit(3)")
    with tempfile.TemporaryFile(buffering=65_536) as opened:
        file = cast(BinaryIO, opened)
        file.write(b"<html><p>Kept.")
        file.flush()
        file.seek(0)
        file.read(9)
        try:
            extracted = await process.extract(file, "a.html")
        except Overtaxing:
            extracted = None

    assert is_crash or "Kept." == cast(Extracted, extracted).text


@pytest.mark.long
@pytest.mark.parametrize(("tag", "number"), [("<div><b>", 100_000), ("<table><tr><td>", 30_000), ("<!--", 8_000)])
async def test_a_page_of_tags_alone_ends(tag: str, number: int):
    """Tags that nothing closes: there is the text before them, or the process has taken too much."""
    began = time.monotonic()
    try:
        extracted = await read(b"<html><p>Kept." + tag.encode() * number)
    except Overtaxing:
        extracted = None

    assert extracted is None or "Kept." in cast(Extracted, extracted).text
    assert time.monotonic() - began < process.MAX_WALL_S + 10


def test_output_is_read_back():
    """What the process writes is what the worker reads; half a surrogate pair becomes a question mark."""
    for written in (Extracted("pdf", "a\nb\n", 3, "2-3"), Extracted("docx", "é"), "scanned"):
        assert written == decode(encode(written))  # type: ignore[arg-type]
    assert "a?b" == cast(Extracted, decode(encode(Extracted("html", "a\ud800b")))).text


@every_row(
    "sizes", [None, "9", [7], [-1], [True], ["9"], [9, 9], [60], [9] * 51, [16 << 21]], ids=lambda sizes: str(sizes)[:9]
)
def test_pictures_are_checked(sizes: Any):
    """A document may have taken over what reads it: what is no picture, or too much, is not sent to a model."""
    picture = PNG + b"x"
    written = Extracted("pdf", "a", 3, "2-3", (picture, picture))
    assert written == decode(encode(written))

    with pytest.raises(ValueError, match=r"picture|sizes"):
        decode(json.dumps({"kind": "pdf", "sizes": sizes}).encode() + b"\n" + picture + b"text")


def test_text_is_limited(monkeypatch: pytest.MonkeyPatch):
    """Also that of a document which has taken over what reads it: pictures have more room than a text may take."""
    monkeypatch.setattr("shared.documents.extracted.MAX_TEXT_BYTES", 9)
    with pytest.raises(ValueError, match="too large"):
        decode(encode(Extracted("pdf", "x" * 10)))


@every_row(
    "head",
    [
        b"[" * 60_000,
        b'{"kind": ["pdf"], "sizes": []}',
        b'{"kind": {}, "sizes": []}',
        b'{"kind": "pdf", "pages": -1, "sizes": []}',
        b'{"kind": "pdf", "pages": 1%s, "sizes": []}' % (b"0" * 4000),
        b'{"kind": "pdf", "pages": 1.5, "sizes": []}',
        b'{"kind": "pdf", "pages_without_text": "\\ud800", "sizes": []}',
        b'{"kind": "pdf", "pages_without_text": "1; and then", "sizes": []}',
        b'{"problem": ["damaged"]}',
        b'{"problem": "own words"}',
        b'{"kind": "pdf", "pages": "x", "sizes": []}',
    ],
    ids=range(11),
)
def test_a_head_is_checked(head: bytes):
    """Whatever a document has its process write, what is returned can be stored and sent."""
    with pytest.raises(ValueError, match=r"invalid|unknown|no head"):
        decode(head + b"\ntext")


def test_a_text_is_checked():
    """As the head is: it must be one."""
    with pytest.raises(ValueError, match="utf-8"):
        decode(b'{"kind": "pdf", "sizes": []}\n\xff')


@every_row(("numbers", "expected"), [([], None), ([3], "3"), ([1, 2, 3, 7], "1-3, 7"), ([1, 3, 5], "1, 3, 5")])
def test_page_numbers_are_short(numbers: list[int], expected: str | None):
    """Consecutive ones become a range."""
    assert expected == ranges(numbers)


def _bomb(size: int) -> bytes:
    """A DOCX file that unpacks to so many bytes, all of them spaces between tags."""
    return docx("<w:p>" + " " * size + "</w:p>")


@every_row(
    ("data", "problem"),
    [
        (lambda: _bomb(300_000), "unpacks"),
        (lambda: docx(paragraph("word " * 50_000)), "too_long"),
        (lambda: b"<html>" + b"word " * 50_000, "too_long"),
        (lambda: docx(paragraph("価" * 40_000)), "too_long"),
        (lambda: pdf([lines(*["word " * 20] * 30)] * 40), "too_long"),
    ],
    ids=["bomb", "docx", "html", "bytes", "pdf"],
)
def test_sizes_are_limited(monkeypatch: pytest.MonkeyPatch, data: Any, problem: Problem):
    """What unpacks to too much, and what has too much text, is refused."""
    for module in ("text_builder", "pdf_text"):
        monkeypatch.setattr(f"shared.documents.{module}.MAX_TEXT_BYTES", 100_000)
    monkeypatch.setattr("shared.documents.office.MAX_XML_BYTES", 270_000)
    file = io.BytesIO(data())

    assert problem == extract(reader_for(file, "a"), file)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "data",
    [
        lambda: _bomb(120_000_000),
        lambda: pdf([lines(*["word " * 20] * 30)] * 2_000),
        lambda: pdf([b"q " * 30_000_000]),
        lambda: b"<html>" + b"<ul><li>" * 2_000_000,
        lambda: b"<html>" + b"<!" * 20_000_000,
        lambda: b"<html><table>" + b"<tr><td>x" * 3_000_000,
        lambda: docx("<w:tbl><w:tr><w:tc>" * 1_000_000),
        lambda: b"<html><img alt='" + b"x" * 15_000_000 + b"'>",
        lambda: docx("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 2_000_000, method=zipfile.ZIP_STORED),
        lambda: b"PK\x03\x04" + bytes(60_000_000),
        lambda: b"%PDF-1.7\n" + b"1 0 obj\n[" * 5_000_000,
    ],
    ids=["bomb", "pages", "operators", "lists", "tags", "table", "tables", "attribute", "paragraphs", "zip", "objects"],
)
async def test_a_monster_leaves_the_worker_alone(data: Any, monkeypatch: pytest.MonkeyPatch):
    """It is read or refused; the worker serves others meanwhile, and takes no more memory than the text."""
    sooner = "from shared.documents import child, sandbox; sandbox.MAX_CPU_S = 1; child.main(sys.argv[1])"
    monkeypatch.setattr(process, "_COMMAND", f"import sys; sys.path[:] = sys.argv[2:]; {sooner}")
    file = data()
    await read(b"<html>first")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    longest, ended = 0.0, False

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while not ended:
            start = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - start)

    watching = asyncio.create_task(watch())
    try:
        got: Any = await read(file)
    except Overtaxing:
        got = "overtaxing"
    ended = True
    await watching

    assert isinstance(got, str) or got.text
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib * (1 if LINUX else 1 / 1024) < 200 * 1024
    assert longest < 2
    assert Path.cwd().exists()

"""What a process that reads a document asks the system for, as far as the system has it."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from shared.documents import sandbox
from shared.documents.extracted import TOO_MUCH, Extracted, decode
from tests.support.rows import every_row

X86, ARM = 0xC000003E, 0xC00000B7
OPENAT = {"x86_64": 257, "aarch64": 56}
READ = {"x86_64": 0, "aarch64": 63}
SOCKET = {"x86_64": 41, "aarch64": 198}
EXIT_GROUP = {"x86_64": 231, "aarch64": 94}


class Library:
    """A C library that records the calls, and keeps the filter that it is given."""

    def __init__(self) -> None:
        self.unshared: list[int] = []
        self.controls: list[int] = []
        self.code: list[tuple[int, int, int, int]] = []

    def unshare(self, namespaces: int) -> None:
        """Record what would be unshared."""
        self.unshared.append(namespaces)

    def prctl(self, option: int, _: int, argument: Any, *__: int) -> None:
        """Record the option, and copy the filter."""
        self.controls.append(option)
        if option == 22:
            program = argument._obj
            data = ctypes.string_at(program.instructions, 8 * program.length)
            self.code = list(struct.iter_unpack("=HBBI", data))

    def verdict(self, architecture: int, number: int) -> int:
        """Run the filter for a system call, as the kernel does, and return what it returns."""
        loaded, index = 0, 0
        while True:
            code, if_equal, otherwise, value = self.code[index]
            index += 1
            if code == 0x06:
                return value
            if code == 0x20:
                loaded = {0: number, 4: architecture}[value]
            else:
                assert code == 0x15
                index += if_equal if loaded == value else otherwise


class System:
    """The limits and the niceness that a process would get. `lacks` are limits that the system does not have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lacks: frozenset[str] = frozenset()) -> None:
        self.limits: dict[int, tuple[int, int]] = {}
        self.library = Library()
        self.written: list[bytes] = []
        self.niceness: list[int] = []
        monkeypatch.setattr(resource, "setrlimit", self.limits.__setitem__)
        for name in lacks:
            monkeypatch.delattr(resource, name)
        monkeypatch.setattr(os, "nice", self.niceness.append)
        monkeypatch.setattr(ctypes, "CDLL", lambda _: self.library)
        score = SimpleNamespace(write=self.written.append)
        monkeypatch.setattr(sandbox, "open", lambda *_: nullcontext(score), raising=False)


def test_limits_are_set_before_a_document_is_read(monkeypatch: pytest.MonkeyPatch):
    """Memory, time, output and core files; others come first, and when memory is short, this process ends first."""
    system = System(monkeypatch)

    sandbox.limit(1000)

    assert {
        resource.RLIMIT_AS: (sandbox.MAX_MEMORY_BYTES,) * 2,
        resource.RLIMIT_CPU: (sandbox.MAX_CPU_S, sandbox.MAX_CPU_S + 1),
        resource.RLIMIT_FSIZE: (1000, 1000),
        resource.RLIMIT_CORE: (0, 0),
    } == system.limits
    assert ([10], [b"1000"]) == (system.niceness, system.written)
    assert [1] * (sys.platform == "linux") == system.library.controls  # it ends with the worker


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", X86), ("aarch64", ARM)])
def test_few_system_calls_are_left(monkeypatch: pytest.MonkeyPatch, machine: str, architecture: int):
    """On both machines; a call by another machine's convention, or by the number of a later kernel's, is refused."""
    system = System(monkeypatch)
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(sys, "platform", "linux")

    sandbox.lock()

    allowed = {number for number in range(600) if system.library.verdict(architecture, number) == 0x7FFF0000}
    assert {READ[machine], EXIT_GROUP[machine]} < allowed
    assert 35 <= len(allowed) <= 36
    for number in (OPENAT[machine], SOCKET[machine], READ[machine] | 1 << 30):
        assert 0x00050001 == system.library.verdict(architecture, number)
    assert 0x00050001 == system.library.verdict(1, READ[machine])
    assert {resource.RLIMIT_NOFILE: (0, 0), resource.RLIMIT_NPROC: (0, 0)} == system.limits
    assert ([0x4C000000 | 0x10000000], [1, 38, 22]) == (system.library.unshared, system.library.controls)


@pytest.mark.parametrize(("name", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_what_a_system_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch, name: str, machine: str):
    """A process keeps what it can't give up (docs/security.md)."""
    system = System(monkeypatch, lacks=frozenset({"RLIMIT_NPROC"}))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=machine))
    monkeypatch.setattr(sys, "platform", name)

    sandbox.lock()

    assert [resource.RLIMIT_NOFILE] == list(system.limits)
    assert [1] * (name == "linux") == system.library.controls


def test_refused_limits_are_left_out(monkeypatch: pytest.MonkeyPatch):
    """As macOS refuses to limit memory."""
    System(monkeypatch)

    def refuse(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", refuse)

    sandbox.limit(1000)


@every_row(
    ("program", "status"),
    [
        ("", 0),
        ("def reader_for(*_):\n    raise MemoryError\nchild.reader_for = reader_for", TOO_MUCH),
        ("def reader_for(*_):\n    raise OSError\nchild.reader_for = reader_for", 1),
        ("child.reader_for = lambda *_: lambda file: bytearray(1 << 60)", TOO_MUCH),
        ("child.reader_for = lambda *_: lambda file: 1 / 0", 0),
    ],
    ids=["text", "memory", "fault", "memory later", "damaged"],
)
def test_process_reads_and_ends(program: str, status: int):
    """It reads from its input and writes to its output; its exit code says whether it could."""
    start = "from shared.documents import child, sandbox\nsandbox.lock = lambda: None\nsandbox.limit = lambda _: None"
    command = [sys.executable, "-c", f"{start}\n{program}\nchild.main('a.html')"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as output:
        file.write(b"<html>Text.")
        file.seek(0)
        done = subprocess.run(command, env=environment, stdin=file, stdout=output, check=False)
        output.seek(0)
        written = output.read()

    assert status == done.returncode
    if status == 0:
        assert decode(written) == ("damaged" if program else Extracted("html", "Text."))

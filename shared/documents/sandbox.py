"""
What the process that reads a document gives up before it does: limits, network, and every system call but a few.

A document may take over the program that reads it. What then runs can use the processor for a minute and write to its
one output, and nothing else: no file, no process, no socket, no look into other processes. Linux has all of it; other
systems skip what they do not have (docs/security.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys

MAX_MEMORY_BYTES = 640 * 1024 * 1024
MAX_CPU_S = 60
_NICENESS = 10
_FIRST_TO_END = b"1000"
"""Its score when memory is short: the system ends it before the worker."""
_NAMESPACES = 0x10000000 | 0x40000000 | 0x08000000 | 0x04000000
"""CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS."""
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 1, 22, 38, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1
"""SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM."""
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4

_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 17, 19, 20, 24, 25, 28, 39, 60, 63, 96, 98, 99, 131, 186),
            *(201, 202, 204, 273, 228, 229, 231, 318, 324, 334),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 67, 65, 66, 124, 216, 233, 172, 93, 160, 169),
            *(165, 179, 132, 178, 98, 123, 99, 113, 114, 94, 278, 283, 293),
        ),
    ),
}
"""
By machine: what the kernel calls it, and the numbers of the system calls that are left, in this order: read, write,
close, fstat, lseek, mmap, mprotect, munmap, brk, rt_sigaction, rt_sigprocmask, rt_sigreturn, pread64, readv, writev,
sched_yield, mremap, madvise, getpid, exit, uname, gettimeofday, getrusage, sysinfo, sigaltstack, gettid, time (but on
aarch64), futex, sched_getaffinity, set_robust_list, clock_gettime, clock_getres, exit_group, getrandom, membarrier,
rseq.
"""


def limit(max_output_bytes: int) -> None:
    """Limit what the process may take. Call this before the document's program is imported."""
    _end_with_worker()
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123  # see `side_child`
        file.write(_FIRST_TO_END)
    for name, value in (
        ("RLIMIT_AS", MAX_MEMORY_BYTES),
        ("RLIMIT_FSIZE", max_output_bytes),
        ("RLIMIT_CORE", 0),
    ):
        _set_limit(name, value)
    _set_limit("RLIMIT_CPU", MAX_CPU_S, beyond=1)  # the first ends it by a signal of its own, unlike want of memory


def lock() -> None:
    """Give up everything else. Call this when all modules are imported; no file can be opened after it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).unshare(_NAMESPACES)  # without the right to, it stays where it is
        _end_with_worker()  # once more: who changes its rights may lose that
    _set_limit("RLIMIT_NOFILE", 0)
    _set_limit("RLIMIT_NPROC", 0)
    if sys.platform == "linux":
        _filter_calls()


def _end_with_worker() -> None:
    """Have the system end the process when the worker ends, even if that is killed."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _set_limit(name: str, value: int, beyond: int = 0) -> None:
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system has each of them
        resource.setrlimit(getattr(resource, name), (value, value + beyond))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _filter_calls() -> None:
    """Have the kernel refuse every system call but a few: it then fails as if the right to it were missing."""
    entry = _CALLS.get(os.uname().machine)
    if entry is None:
        return
    architecture, numbers = entry
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((_JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in code))
    program = _Program(len(code), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)

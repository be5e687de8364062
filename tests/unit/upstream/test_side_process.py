"""Large bodies are read in another process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest
import pytest_asyncio

from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable, UpstreamFacts
from shared.secret import Secret, redact
from shared.upstream import side_child, side_process
from shared.upstream.messages import LARGE_BYTES, Response
from shared.upstream.side_process import SideProcess
from tests.support.side_functions import print_much, raise_error, request_of

MIB = 1024 * 1024
KEY = "sk-a1b2c3/d4e5f6g7"


@pytest_asyncio.fixture
async def side() -> SideProcess:
    """The process."""
    return SideProcess()


async def test_a_function_is_called_elsewhere(side: SideProcess):
    """Results, errors with all that they know, and responses pass from one process to the other."""
    assert os.getpid() != await side.call("a", os.getpid)
    response = Response(200, {}, b"{}", "r-2", memory=object())
    assert "r-2" == await side.call("a", request_of, response)
    with pytest.raises(ContentFiltered, match="No") as raised:
        await side.call("a", raise_error, "No")
    assert UpstreamFacts(400, "r-1", detail={"code": "x"}) == raised.value.facts


@pytest.mark.parametrize(("function", "args"), [(signal.raise_signal, (9,)), (bytes, (side_child.MAX_MEMORY_BYTES,))])
async def test_what_needs_too_much_is_not_repeated(side: SideProcess, function: object, args: tuple[int, ...]):
    """A body that ends the process, or needs more memory than it may have, is an answer that can't be read."""
    with pytest.raises(ProviderUnavailable, match="takes more memory") as raised:
        await side.call("a", function, *args)  # type: ignore[arg-type]
    assert not raised.value.facts.transient
    assert 1 == await side.call("a", abs, -1)


async def test_a_result_that_is_too_large_does_not_come_back(side: SideProcess, monkeypatch: pytest.MonkeyPatch):
    """The worker could not keep it beside all else."""
    limited = "from shared.upstream import side_child; side_child.MAX_RESULT_BYTES = 9_999; side_child.main()"
    monkeypatch.setattr(side_process, "_COMMAND", limited)
    assert 9_000 == len(await side.call("a", bytes, 9_000))
    with pytest.raises(ProviderUnavailable, match="takes more memory"):
        await side.call("a", bytes, 9_999)


async def test_what_is_printed_is_no_result(side: SideProcess, capfd: pytest.CaptureFixture[str]):
    """It goes where the process's errors go."""
    assert "noise" == await side.call("a", print_much, "noise")
    assert "noise" in capfd.readouterr().err


async def test_a_fault_of_ours_is_no_fault_of_the_answer(side: SideProcess, monkeypatch: pytest.MonkeyPatch):
    """If the process can't even begin, the log has that, and the result does not blame the endpoint."""
    monkeypatch.setattr(side_process, "_COMMAND", "import no_such_module")

    with pytest.raises(RuntimeError, match="ended with 1"):
        await side.call("a", abs, -1)


async def test_without_a_process_the_worker_reads_itself(side: SideProcess, monkeypatch: pytest.MonkeyPatch):
    """A system that has no process left costs time, and no answer."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")

    assert os.getpid() == await side.call("a", os.getpid)
    with pytest.raises(ContentFiltered, match="No"):
        await side.call("a", raise_error, "No")


async def test_customers_take_turns(side: SideProcess):
    """A customer with many large answers delays another one's by one of them."""
    ended: list[str] = []

    async def call(customer: str) -> None:
        await side.call(customer, time.sleep, 0.05)
        ended.append(customer)

    await asyncio.gather(*(call(customer) for customer in "aaab"))

    assert ended.index("b") <= 1
    assert 4 == len(ended)
    assert {} == dict(side._turns)


async def test_a_cancelled_call_leaves_no_process(side: SideProcess):
    """If the caller's time is over, the process ends, and the next call has its turn."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await side.call("a", time.sleep, 60)
    assert 1 == await side.call("a", abs, -1)


@pytest.mark.long
async def test_reading_costs_the_worker_a_fraction(side: SideProcess):
    """While a hostile body is decoded, the worker serves others: it has little to do itself, and no lock is held."""
    body = b'{"a":"' + rb"\ud800" * (MIB // 4) + b'"}'
    began = time.process_time()
    json_object(body)
    inline_s = time.process_time() - began

    began = time.process_time()
    read = await side.call("a", json_object, body)

    assert MIB // 4 == len(read["a"])
    assert time.process_time() - began < inline_s / 2


async def test_a_key_is_found_anywhere_in_a_large_body(side: SideProcess):
    """Redaction does not depend on where in the body a key stands, and is the same as at once."""
    body = bytearray(b"x" * (2 * MIB + 1))
    for number, encoded in enumerate((KEY.encode(), KEY.encode("utf-16-le"), KEY.replace("/", r"\/").upper().encode())):
        for offset in (0, MIB - 9, 3 * MIB // 2):
            start = offset + 100 * number
            body[start : start + len(encoded)] = encoded

    redacted = await side.redact(bytes(body), Secret(KEY), "a")

    assert 9 == redacted.count(b"***")
    assert redact(bytes(body), Secret(KEY)) == redacted


async def test_a_large_body_without_the_key_stays_as_it_is(side: SideProcess):
    """Then no process is needed."""
    body = b"x" * LARGE_BYTES

    assert body is await side.redact(body, Secret(KEY), "a")

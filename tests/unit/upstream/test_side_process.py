"""Large bodies are read in another process."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
import pytest_asyncio

from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable, UpstreamFacts
from shared.secret import Secret, redact
from shared.upstream import side_process
from shared.upstream.messages import LARGE_BYTES, Response
from shared.upstream.side_process import SideProcess

MIB = 1024 * 1024
KEY = "sk-a1b2c3/d4e5f6g7"


def raise_error(message: str) -> None:
    """Raise an error as reading a response does."""
    raise ContentFiltered(message, UpstreamFacts(400, "r-1", detail={"code": "x"}))


def end_early() -> None:
    """End as a process that the system kills."""
    os._exit(9)


def allocate(size: int) -> int:
    """Take memory."""
    return len(bytes(size))


def request_of(response: Response) -> str | None:
    """Return what came with a response."""
    return response.request_id


@pytest_asyncio.fixture
async def side() -> SideProcess:
    """The process."""
    return SideProcess()


async def test_a_function_is_called_elsewhere(side: SideProcess):
    """Results, errors with all that they know, and responses pass from one process to the other."""
    assert os.getpid() != await side.call(os.getpid)
    response = Response(200, {}, b"{}", "r-2", memory=object())
    assert "r-2" == await side.call(request_of, response)
    with pytest.raises(ContentFiltered, match="No") as raised:
        await side.call(raise_error, "No")
    assert UpstreamFacts(400, "r-1", detail={"code": "x"}) == raised.value.facts


@pytest.mark.parametrize(("function", "args"), [(end_early, ()), (allocate, (side_process.MAX_MEMORY_BYTES,))])
async def test_what_needs_too_much_is_not_repeated(side: SideProcess, function: object, args: tuple[int, ...]):
    """A body that ends the process, or needs more memory than it may have, is an answer that can't be read."""
    with pytest.raises(ProviderUnavailable, match="takes more memory") as raised:
        await side.call(function, *args)  # type: ignore[arg-type]
    assert not raised.value.facts.transient
    assert 1 == await side.call(allocate, 1)


async def test_a_cancelled_call_leaves_no_process(side: SideProcess):
    """If the caller's time is over, the process ends, and the next call has its turn."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await side.call(time.sleep, 60)
    assert 1 == await side.call(allocate, 1)


async def test_reading_costs_the_worker_a_fraction(side: SideProcess):
    """While a hostile body is decoded, the worker serves others: it has little to do itself, and no lock is held."""
    body = b'{"a":"' + rb"\ud800" * MIB + b'"}'
    began = time.process_time()
    json_object(body)
    inline_s = time.process_time() - began

    began = time.process_time()
    read = await side.call(json_object, body)

    assert MIB == len(read["a"])
    assert time.process_time() - began < inline_s / 2


@pytest.mark.parametrize("offset", [0, MIB - 9, 3 * MIB])
async def test_a_key_is_found_anywhere_in_a_large_body(side: SideProcess, offset: int):
    """Redaction does not depend on where in the body a key stands, and is the same as at once."""
    body = bytearray(b"x" * (LARGE_BYTES + 1))
    for encoded in (KEY.encode(), KEY.encode("utf-16-le"), KEY.replace("/", r"\/").upper().encode()):
        body[offset : offset + len(encoded)] = encoded

        redacted = await side.redact(bytes(body), Secret(KEY))

        assert b"***" in redacted
        assert redact(bytes(body), Secret(KEY)) == redacted


async def test_a_large_body_without_the_key_stays_as_it_is(side: SideProcess):
    """Then no process is needed."""
    body = b"x" * LARGE_BYTES

    assert body is await side.redact(body, Secret(KEY))

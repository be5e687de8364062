"""Inputs in blobs: only from the operator's input containers, and only those of the job's customer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine
from typing import Any

import pytest

from shared.actions.base import InputBlob, InputBlobs, action_named
from shared.actions.respond import MAX_FILE_BYTES
from shared.contract.job import Job, decode_job
from shared.contract.names import BlobName, NamedBlob
from shared.errors import InvalidJob, Throttled
from shared.jobs import inputs as module
from shared.jobs.inputs import MAX_INPUT_BYTES, Inputs
from shared.settings import read_settings
from tests.support.fake_blobs import MemoryBlobs
from tests.support.rows import every_row

SETTINGS = read_settings({"JobStorage": "UseDevelopmentStorage=true", "INPUT_CONTAINERS": "inputs,uploads"})
OWN_INPUT = f"acme/job-1/input-{'0' * 32}.json"


def job(**members: Any) -> Job:
    return decode_job(json.dumps({"customer": "acme", "action": "chat"} | members).encode(), default_id="job-1")


async def test_an_input_in_the_message_is_read_from_there():
    """No blob is read."""
    blobs = MemoryBlobs(down=True)

    assert b'{"prompt":"x"}' == (await Inputs(SETTINGS, blobs).load(job(input={"prompt": "x"}), bytes))[0].replace(
        b" ", b""
    )


@every_row("name", ["inputs/acme/a.json", "uploads/acme/b/c.json", f"results/{OWN_INPUT}"])
@every_row("member", ["input_blob", "input"])
async def test_an_input_in_a_blob_is_read(name: str, member: str):
    """It is in one of the input containers, or is the job's own input, which did not fit its message."""
    container, _, blob = name.partition("/")
    blobs = MemoryBlobs()
    await blobs.write(container, blob, b'{"prompt": "x"}', "application/json")

    named = {"input_blob": name}
    loaded = await Inputs(SETTINGS, blobs).load(job(**(named if member == "input_blob" else {"input": named})), bytes)

    assert (b'{"prompt": "x"}', None) == loaded


@every_row(
    ("container", "name"),
    [
        ("inputs", "other/a.json"),
        ("inputs", "acme"),
        ("inputs", "acme-2/a.json"),
        ("results", "acme/job-1/result.json"),
        ("results", f"other/job-1/input-{'0' * 32}.json"),
        ("elsewhere", "acme/a.json"),
    ],
)
async def test_other_blobs_are_refused(container: str, name: str):
    """The error names the member, and where the blob must be; nothing is read."""
    inputs = Inputs(SETTINGS, MemoryBlobs(down=True))

    with pytest.raises(InvalidJob) as raised:
        await inputs.read("acme", BlobName(container, name), at="input.blob")

    assert "`input.blob` must be in inputs or uploads, and its name must begin with acme/." == str(raised.value)


async def test_a_blob_that_is_too_large_is_an_invalid_job():
    """It may have MAX_INPUT_BYTES, and not one more."""
    blobs = MemoryBlobs()
    for size in (MAX_INPUT_BYTES, MAX_INPUT_BYTES + 1):
        await blobs.write("inputs", f"acme/{size}", bytes(size), "")
    inputs = Inputs(SETTINGS, blobs)

    assert MAX_INPUT_BYTES == len(
        (await inputs.read("acme", BlobName("inputs", f"acme/{MAX_INPUT_BYTES}"), at="x")).data
    )
    with pytest.raises(InvalidJob, match="is larger than"):
        await inputs.read("acme", BlobName("inputs", f"acme/{MAX_INPUT_BYTES + 1}"), at="x")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raw", b'{"path": "x", "json": [' + b"[]," * 100_000 + b"1]}"),
        (
            "chat",
            b'{"messages": [' + b'{"role": "user", "content": "x"},' * 60_000 + b'{"role": "user", "content": "x"}]}',
        ),
        ("multi_chat", b'{"prompts": [' + b'"x",' * 500_000 + b'"x"]}'),
        ("embed", b'{"texts": [1, ' + b'"x",' * 500_000 + b'"x"]}'),
    ],
)
async def test_a_large_input_is_decoded_elsewhere(name: str, text: bytes):
    """The worker serves others meanwhile. The decoded input, or the refusal, is what it is otherwise."""
    blobs, action = MemoryBlobs(), action_named(name)
    await blobs.write("inputs", "acme/x.json", text, "")
    inputs = Inputs(SETTINGS, blobs)
    turn = inputs._side_process._turns["acme"] = asyncio.Lock()

    async with turn:
        loading = asyncio.create_task(inputs.load(job(action=name, input_blob="inputs/acme/x.json"), action.decode))
        await asyncio.sleep(0.05)
        assert not loading.done()
    try:
        expected = action.decode(text)
    except InvalidJob as exc:
        with pytest.raises(InvalidJob, match=f"^{re.escape(str(exc))}$"):
            await loading
    else:
        assert expected == (await loading)[0]


async def test_large_inputs_wait_for_memory(monkeypatch: pytest.MonkeyPatch):
    """
    A customer's large inputs take half of the memory for them, as long as they are in use. An input that is small but
    decodes to many objects is large. Another customer's is read at once, and small ones are not counted.
    """
    monkeypatch.setattr(module, "MAX_MEMORY_BYTES", 5 * module.MAX_DECODED_BYTES)
    large = module.MAX_DECODED_BYTES
    blobs = MemoryBlobs()
    for name, data in (("text", b"x" * 2_000_000), ("objects", b"[" + b"{}," * 20_000 + b"{}]"), ("small", b"{}")):
        for customer in ("acme", "other"):
            await blobs.write("inputs", f"{customer}/{name}", data, "")
    inputs = Inputs(SETTINGS, blobs)

    async def read(name: str, customer: str = "acme") -> InputBlob:
        return await inputs.read(customer, BlobName("inputs", f"{customer}/{name}"), at="x")

    kept = [await read("text"), await read("objects")]
    assert 2_000_000 + 60_004 + 20_002 * 70 == inputs._memory.taken["acme"]
    inputs._memory.add("acme", 2 * large)
    waiting = asyncio.create_task(read("text"))
    await asyncio.sleep(0.01)
    assert (b"{}", None) == await read("small")
    assert 2_000_000 == len((await read("text", "other")).data)
    assert not waiting.done()

    inputs._memory.give_back("acme", 2 * large)
    assert 2_000_000 == len((await waiting).data)
    del kept, waiting
    await asyncio.sleep(0.01)
    assert {} == inputs._memory.taken


async def test_a_job_with_a_large_input_may_name_the_largest_blobs(monkeypatch: pytest.MonkeyPatch):
    """It has memory itself, so that all of a customer's would never be free."""
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.01)
    blobs = MemoryBlobs()
    for name in ("a", "b"):
        await blobs.write("inputs", f"acme/{name}", bytes(MAX_INPUT_BYTES), "")
    inputs = Inputs(SETTINGS, blobs)
    own = await inputs.reserve("acme", MAX_INPUT_BYTES)
    named = [NamedBlob(BlobName("inputs", f"acme/{name}"), "x") for name in ("a", "b")]
    read = await inputs.read_all("acme", named, max_bytes=MAX_FILE_BYTES)
    assert (2, True) == (len(read.data), own is not None)


async def test_blobs_of_one_request_take_memory_at_once(monkeypatch: pytest.MonkeyPatch):
    """All that the request will have in memory, before the first is read: else each of two jobs waits for the other."""
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.01)
    blobs = MemoryBlobs()
    for name, size in (("a", 2_000_000), ("b", 3_000_000), ("c", 100), ("none", 0)):
        await blobs.write("inputs", f"acme/{name}", bytes(size), "")
    inputs = Inputs(SETTINGS, blobs)

    def read(*names: str, max_bytes: int = 9_000_000) -> Coroutine[Any, Any, InputBlobs]:
        named = [NamedBlob(BlobName("inputs", f"acme/{name}"), f"input.{name}") for name in names]
        return inputs.read_all("acme", named, max_bytes=max_bytes)

    kept = await read("a", "b")
    assert [2_000_000, 3_000_000] == [len(data) for data in kept.data]
    assert 20_000_000 == inputs._memory.taken["acme"]
    assert None is (await read("c")).memory
    inputs._memory.add("acme", 130_000_000)
    with pytest.raises(Throttled):
        await read("a")
    inputs._memory.give_back("acme", 130_000_000)
    del kept
    await asyncio.sleep(0.01)
    assert {} == inputs._memory.taken
    with pytest.raises(InvalidJob, match="more than 4 MiB together"):
        await read("a", "b", max_bytes=4 << 20)
    with pytest.raises(InvalidJob, match=r"`input.none` names a blob of no bytes"):
        await read("c", "none")
    with pytest.raises(InvalidJob, match=r"`input.x` names a blob that does not exist"):
        await read("x")

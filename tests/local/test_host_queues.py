"""Queue triggers of the host: a real host process, Microsoft's worker engine, a real Azurite."""

import asyncio
import base64
import json
import os
import signal
import time
from urllib.parse import urlsplit

import pytest


def overlap(spans):
    """The most spans that hold at any moment."""
    return max(sum(one["start"] <= other["start"] < one["end"] for one in spans) for other in spans)


async def test_output_is_byte_exact(host, queues):
    """What a function sets as bytes arrives in the output queue as it is, even where it looks like JSON."""
    body = '{"b": 1.10,   "a": ["é", "2024-01-01T00:00:00Z"]}'.encode()
    await queues.put("shared-echo", body)

    assert await queues.take("shared-echoed") == [body]
    await queues.emptied("shared-echo")
    await host.printed(f"echo of {len(body)} bytes")


@pytest.mark.usefixtures("host")
async def test_the_function_is_told_about_its_message(queues):
    """Id, dequeue count, times and pop receipt reach the function, which runs outside its directory."""
    await queues.put("shared-facts", b"no JSON")

    (told,) = map(json.loads, await queues.take("shared-told"))
    assert len(told.pop("id")) == 36
    assert told == {
        "dequeue_count": 1,
        "life_s": 7 * 24 * 3600,
        "hidden": True,
        "pop_receipt": True,
        "function": "facts",
        "in_app_dir": False,
    }


@pytest.mark.usefixtures("host")
async def test_a_member_of_the_body_replaces_what_the_function_is_told(queues):
    """The host copies a JSON body's members over the message's properties, as in Azure."""
    await queues.put("shared-facts", b'{"ID": "mine", "dequeuecount": 7}')

    (told,) = map(json.loads, await queues.take("shared-told"))
    assert (told["id"], told["dequeue_count"]) == ("mine", 7)


@pytest.mark.usefixtures("host")
async def test_a_member_that_cannot_be_a_dequeue_count_poisons(queues):
    """A body with `dequeueCount: "many"` ends in the poison queue, and the function never runs."""
    body = b'{"dequeueCount": "many"}'
    await queues.put("shared-facts", body)

    assert await queues.take("shared-facts-poison") == [body]
    assert await queues.length("shared-told") == 0


async def test_a_failing_message_is_tried_again_after_a_wait_and_then_poisoned(host, queues):
    """Three tries a second apart, then the body alone in the poison queue; no output of a failed try."""
    start = time.monotonic()
    await queues.put("shared-failing", b"hopeless")

    assert await queues.take("shared-buried") == [b"hopeless"]
    assert time.monotonic() - start >= 2
    await queues.emptied("shared-failing")
    assert await queues.length("shared-attempts") == 0
    await host.printed("ValueError: attempt 3 fails")
    assert [line for line in host.lines if "ValueError: attempt" in line][-3:] == [
        f"ValueError: attempt {number} fails" for number in (1, 2, 3)
    ]


@pytest.mark.usefixtures("host")
async def test_a_message_that_is_not_base64_is_poisoned_at_once(queues):
    """It is moved as it is, without a try."""
    await queues.put_text("shared-echo", "{not base64}")

    assert await queues.take_texts("shared-echo-poison") == ["{not base64}"]


async def test_what_fails_on_a_poison_queue_is_left_there(host, queues):
    """A poison queue has none of its own: the message stays, hidden, and comes back again and again."""
    await queues.put_text("shared-failing-poison", "{not base64}")

    await host.printed("a poison queue has no poison queue")
    assert await queues.length("shared-failing-poison") == 1


async def test_an_output_that_cannot_be_written_fails_the_invocation(host, queues):
    """The function succeeded, Storage refuses its output: the message is tried again and poisoned."""
    await queues.put("shared-too-large", b"xx")

    assert await queues.take("shared-too-large-poison") == [b"xx"]
    await host.printed("output 'large': RequestBodyTooLarge")


@pytest.mark.usefixtures("host")
async def test_a_function_that_is_not_async_writes_several_messages(queues):
    """A list of texts is a message each."""
    await queues.put("shared-many", b"text")

    assert sorted(await queues.take("shared-texts", 3)) == [b"text 0", b"text 1", b"text 2"]


@pytest.mark.usefixtures("host")
async def test_no_more_jobs_at_once_than_batch_and_threshold(queues):
    """With batchSize 4 and newBatchThreshold 2, six jobs run at once and never seven."""
    await queues.put("shared-slow", *(b'{"job": %d, "seconds": 0.4}' % job for job in range(14)))

    spans = [json.loads(body) for body in await queues.take("shared-spans", 14)]
    assert overlap(spans) <= 6
    assert overlap(spans) > 2
    assert sorted(span["job"] for span in spans) == list(range(14))


async def test_two_hosts_never_run_a_message_at_once(start_host, queues):
    """Hosts share a queue's messages; a job longer than its message is hidden is not run twice."""
    # A host fetches four, and no more while it has them: of eight long ones each has its own, whichever is first.
    jobs = [{"job": job, "seconds": 6.5 if job < 8 else 0.1} for job in range(20)]
    await queues.put("both-slow", *(json.dumps(job).encode() for job in jobs))
    hosts = await asyncio.gather(*(start_host("both-", "--invisible", "5") for _ in range(2)))

    spans = [json.loads(body) for body in await queues.take("both-spans", 20)]
    assert sorted(span["job"] for span in spans) == list(range(20))
    await queues.emptied("both-slow")
    for host in hosts:
        await host.printed("slow begins")
    assert sum("slow begins" in line for host in hosts for line in host.lines) == 20


async def test_a_killed_hosts_message_is_done_by_another(start_host, queues):
    """The message comes back when its time hidden is over, and the other host runs it."""
    hosts = await asyncio.gather(*(start_host("killed-", "--invisible", "3") for _ in range(2)))
    await queues.put("killed-slow", b'{"job": 1, "seconds": [600, 0.1]}')
    while not (begun := [host for host in hosts if "slow begins" in "".join(host.lines)]):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    os.kill(begun[0].process.pid, signal.SIGKILL)

    (span,) = map(json.loads, await queues.take("killed-spans"))
    assert span["job"] == 1
    for host in hosts:
        await host.printed("slow begins")


async def test_a_host_waits_for_storage_that_is_not_there_yet(start_host, queues):
    """An outage is told once, the host stays up, and works when Storage answers."""
    url = urlsplit(queues.service.url)

    async def relay(reader, writer):
        to_reader, to_writer = await asyncio.open_connection(url.hostname, url.port)

        async def copy(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            finally:  # the host is killed at the end: its connections may end in a reset
                sink.close()

        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    late = queues.connection_string.replace(f":{url.port}/", f":{port}/")
    host = await start_host("late-", connection_string=late)
    await host.printed("late-echo cannot be read")
    await queues.put("late-echo", b"patience")
    await asyncio.sleep(0.5)
    server = await asyncio.start_server(relay, "127.0.0.1", port)

    assert await queues.take("late-echoed") == [b"patience"]
    assert sum("late-echo cannot be read" in line for line in host.lines) == 1
    await host.printed("late-echo can be read again")
    assert not any(base64.b64encode(b"patience").decode() in line for line in host.lines)
    await host.process.stop()
    server.close()

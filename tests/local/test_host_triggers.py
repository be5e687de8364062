"""
Queue, HTTP and timer triggers of the host: a real host process, Microsoft's worker engine, a real Azurite.

Timers are run manually, as in Azure.
"""

import asyncio
import base64
import json
import os
import signal
import time
from urllib.parse import urlsplit

import pytest

JSON = {"Content-Type": "application/json"}


def max_concurrency(spans):
    """The most spans that overlap at any time."""
    return max(sum(span["start"] <= other["start"] < span["end"] for span in spans) for other in spans)


async def test_output_is_byte_exact(host, queues):
    """Bytes that a function sets arrive unchanged in the output queue, even if they look like JSON."""
    body = '{"b": 1.10,   "a": ["é", "2024-01-01T00:00:00Z"]}'.encode()
    await queues.put("shared-echo", body)

    assert await queues.take("shared-echoed") == [body]
    await queues.emptied("shared-echo")
    await host.printed(f"echo of {len(body)} bytes")


@pytest.mark.usefixtures("host")
async def test_the_function_gets_the_properties_of_its_message(queues):
    """
    Id, dequeue count, times and pop receipt reach the function, which runs in another directory. As in Azure, the host
    copies the members of a JSON body over them.
    """
    await queues.put("shared-properties", b"no JSON", b'{"ID": "mine", "dequeuecount": 7}')

    received = map(json.loads, await queues.take("shared-received", 2))
    own, replaced = sorted(received, key=lambda properties: properties["dequeue_count"])
    assert len(own.pop("id")) == 36
    assert own == {
        "dequeue_count": 1,
        "life_s": 7 * 24 * 3600,
        "invisible": True,
        "pop_receipt": True,
        "function": "read_properties",
        "in_app_dir": False,
    }
    assert replaced == own | {"id": "mine", "dequeue_count": 7}


async def an_invalid_dequeue_count_in_the_body_poisons(_, queues):
    """A body with `dequeueCount: "many"` is moved to the poison queue, and the function never runs."""
    body = b'{"dequeueCount": "many"}'
    await queues.put("shared-properties", body)

    assert await queues.take("shared-properties-poison") == [body]
    assert await queues.length("shared-received") == 0


async def a_failing_message_is_retried_and_then_poisoned(host, queues):
    """Three attempts, a second apart, then the body is in the poison queue; a failed attempt has no output."""
    start = time.monotonic()
    await queues.put("shared-failing", b"hopeless")

    assert await queues.take("shared-poisoned") == [b"hopeless"]
    assert time.monotonic() - start >= 2
    await queues.emptied("shared-failing")
    assert await queues.length("shared-attempts") == 0
    await host.printed("ValueError: attempt 3 fails")
    assert [line for line in host.lines if "ValueError: attempt" in line][-3:] == [
        f"ValueError: attempt {number} fails" for number in (1, 2, 3)
    ]


async def a_message_that_is_not_base64_is_poisoned_at_once(_, queues):
    """It is moved unchanged, without an attempt."""
    await queues.put_text("shared-echo", "{not base64}")

    assert await queues.take_texts("shared-echo-poison") == ["{not base64}"]


async def a_message_that_fails_in_a_poison_queue_stays_in_it(host, queues):
    """A poison queue has no poison queue: the message stays, invisible, and is delivered again and again."""
    await queues.put_text("shared-failing-poison", "{not base64}")

    await host.printed("A poison queue has no poison queue")
    assert await queues.length("shared-failing-poison") == 1


async def an_output_that_can_not_be_sent_fails_the_invocation(host, queues):
    """The function succeeds, but Storage rejects its output: the message is retried and poisoned."""
    await queues.put("shared-too-large", b"xx")

    assert await queues.take("shared-too-large-poison") == [b"xx"]
    await host.printed("output 'large': RequestBodyTooLarge")


async def a_function_that_is_not_async_sends_several_messages(_, queues):
    """Each text of a list is a message."""
    await queues.put("shared-many", b"text")

    assert sorted(await queues.take("shared-texts", 3)) == [b"text 0", b"text 1", b"text 2"]


async def concurrency_is_batch_size_plus_threshold(_, queues):
    """With batchSize 4 and newBatchThreshold 2, at most six jobs run at the same time."""
    await queues.put("shared-slow", *(b'{"job": %d, "seconds": 0.4}' % job for job in range(14)))

    spans = [json.loads(body) for body in await queues.take("shared-spans", 14)]
    assert max_concurrency(spans) <= 6
    assert max_concurrency(spans) > 2
    assert sorted(span["job"] for span in spans) == list(range(14))


BESIDE_EACH_OTHER = (
    an_invalid_dequeue_count_in_the_body_poisons,
    a_failing_message_is_retried_and_then_poisoned,
    a_message_that_is_not_base64_is_poisoned_at_once,
    a_message_that_fails_in_a_poison_queue_stays_in_it,
    an_output_that_can_not_be_sent_fails_the_invocation,
    a_function_that_is_not_async_sends_several_messages,
    concurrency_is_batch_size_plus_threshold,
)
"""Each has queues of its own, and mostly waits for a second delivery."""


async def test_messages_are_retried_and_become_poison(host, queues):
    """What the functions above say, at the same time."""
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for each in BESIDE_EACH_OTHER:
            group.create_task(each(host, queues), name=each.__name__)


@pytest.mark.long
async def test_two_hosts_never_run_the_same_message(start_host, queues):
    """Hosts share a queue's messages; a job that runs longer than the visibility timeout is not run twice."""
    # A host receives four, and no more until they end: each host runs four of the eight long jobs.
    jobs = [{"job": job, "seconds": 6.5 if job < 8 else 0.1} for job in range(20)]
    await queues.put("both-slow", *(json.dumps(job).encode() for job in jobs))
    hosts = await asyncio.gather(*(start_host("both-", "--visibility-timeout", "5") for _ in range(2)))

    spans = [json.loads(body) for body in await queues.take("both-spans", 20)]
    assert sorted(span["job"] for span in spans) == list(range(20))
    await queues.emptied("both-slow")
    for host in hosts:
        await host.printed("slow begins")
    assert sum("slow begins" in line for host in hosts for line in host.lines) == 20


@pytest.mark.long
async def test_another_host_runs_the_message_of_a_killed_one(start_host, queues):
    """The message is visible again after its visibility timeout, and the other host runs it."""
    hosts = await asyncio.gather(*(start_host("killed-", "--visibility-timeout", "3") for _ in range(2)))
    await queues.put("killed-slow", b'{"job": 1, "seconds": [600, 0.1]}')
    while not (busy := [host for host in hosts if "slow begins" in "".join(host.lines)]):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    os.kill(busy[0].process.pid, signal.SIGKILL)

    (span,) = map(json.loads, await queues.take("killed-spans"))
    assert span["job"] == 1
    for host in hosts:
        await host.printed("slow begins")


@pytest.mark.long
async def test_a_host_waits_for_storage(start_host, queues):
    """An outage is logged once; the host keeps running, and works as soon as Storage responds."""
    url = urlsplit(queues.service.url)

    async def relay(reader, writer):
        to_reader, to_writer = await asyncio.open_connection(url.hostname, url.port)

        async def copy(source, sink):
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            finally:  # the host is killed at the end, so its connections may be reset
                sink.close()

        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    late = queues.connection_string.replace(f":{url.port}/", f":{port}/")
    host = await start_host("late-", connection_string=late)
    await host.printed("late-echo can't be read")
    await queues.put("late-echo", b"patience")
    await asyncio.sleep(0.5)
    server = await asyncio.start_server(relay, "127.0.0.1", port)

    assert await queues.take("late-echoed") == [b"patience"]
    assert sum("late-echo can't be read" in line for line in host.lines) == 1
    await host.printed("late-echo can be read again")
    assert not any(base64.b64encode(b"patience").decode() in line for line in host.lines)
    await host.process.stop()
    server.close()


async def test_the_function_gets_its_request(http):
    """Method, URL, route parameters, query and headers reach the function; its status is returned."""
    response = await http.put(
        "/api/items/tool/a%20b%2Fc?x=1&x=2&none=&y=%C3%A9", headers=[("X-Test", "1"), ("x-test", "2")]
    )

    assert (response.status_code, response.headers["content-type"]) == (201, "application/json")
    assert response.json() == {
        "method": "PUT",
        "url": f"{http.base_url}/api/items/tool/a%20b%2Fc?x=1&x=2&none=&y=%C3%A9",
        "route": {"kind": "tool", "number": "a b%2Fc"},
        "query": {"x": "1,2", "y": "é"},
        "header": "1,2",
    }


async def test_a_request_without_a_route_is_not_found(http):
    """As in Azure, a wrong method is a 404, too."""
    assert (await http.delete("/api/items/tool/1")).status_code == 404
    assert (await http.get("/")).status_code == 404


async def test_bodies_are_unchanged(http):
    """Any bytes reach the function and are returned, with its media type, headers and cookies."""
    body = bytes(range(256)) * 5000
    response = await http.post("/API/Files/a/b%20c.bin", content=body)

    assert (response.status_code, response.content) == (200, body)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["x-path"] == "a/b c.bin"
    assert response.headers["set-cookie"] == "a=b; Path=/"


async def test_a_body_without_a_length_is_dropped(http, host):
    """As in Azure; the host logs it."""

    async def chunks():
        yield b"chunk"

    assert (await http.post("/api/files/a", content=chunks())).content == b""
    await host.printed("its body is dropped")


async def test_too_large_a_body_is_rejected(host):
    """Above 100 MB the response is a 413, before the body is sent."""
    reader, writer = await asyncio.open_connection(*host.url.removeprefix("http://").split(":"))
    writer.write(b"POST /api/files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 104857601\r\n\r\n")

    assert (await reader.readline()).split()[1] == b"413"
    writer.close()


async def test_an_exception_is_an_empty_500(http, host):
    """The caller gets no detail; the host prints the traceback."""
    response = await http.get("/api/crash?secret=abc")

    assert (response.status_code, response.content) == (500, b"")
    await host.printed("ValueError: abc")


async def test_a_string_is_a_response(http):
    """A function may return a string, and without `methods` it accepts every method."""
    response = await http.patch("/api/plain/")

    assert (response.status_code, response.text) == (200, "PATCH it is")


async def test_an_http_function_sends_to_a_queue(http, queues):
    """Its queue output is sent before its response."""
    response = await http.post("/api/queued", content=b"by HTTP")

    assert response.status_code == 202
    assert await queues.take("shared-echoed") == [b"by HTTP"]


async def test_a_timer_function_runs_manually(http, queues):
    """The response is immediate, the function gets a timer's data; it does not run by its own schedule."""
    response = await http.post("/admin/functions/Tick", headers=JSON, content=b"{}")

    assert (response.status_code, response.content) == (202, b"")
    (tick,) = await queues.take("shared-ticks")
    assert json.loads(tick) == {"past_due": False}
    assert await queues.length("shared-ticks") == 0


@pytest.mark.long
async def test_a_timer_of_each_minute_runs_by_itself(queues, host):  # noqa: ARG001  # the host runs
    """So that what waits in the app's schedule is woken here, too."""
    async with asyncio.timeout(70):
        while not await queues.length("shared-minutes"):  # noqa: ASYNC110  # another process sends it
            await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("method", "name", "headers", "status"),
    [
        *(("POST", name, JSON, 404) for name in ("none", "echo", "plain")),  # no function, and other triggers
        ("POST", "tick", {}, 415),
        ("GET", "tick", JSON, 404),
    ],
)
async def test_other_requests_run_nothing(http, method, name, headers, status):
    """As in Azure, a manual run is a POST with a JSON media type for a timer function."""
    response = await http.request(method, f"/admin/functions/{name}", headers=headers, content=b"{}")

    assert response.status_code == status


async def test_a_timer_function_that_fails_is_logged(http, host):
    """The response is the same, and the host continues."""
    assert (await http.post("/admin/functions/fail_tick", headers=JSON, content=b"{}")).status_code == 202

    await host.printed("fail_tick")
    await host.printed("This timer fails.")
    assert (await http.get("/api/plain")).status_code == 200

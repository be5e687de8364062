"""One instance of the Functions host: the app, its queue listeners and its HTTP server."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from aiohttp import web
from azure.core.exceptions import AzureError
from azure.storage.queue.aio import QueueClient

from local.host.bindings import QUEUE_TRIGGER, RETURN, TIMER_TRIGGER, Binding, Function, read_connection, resolve
from local.host.errors import HostError, NoResponse
from local.host.host_json import HostJson
from local.host.http_server import HttpRequest, read_routes, start_server
from local.host.message_encoding import encode_body, split_output
from local.host.queue_listener import QueueListener
from local.host.queues import Queues, send, storage_problem
from local.host.trigger_metadata import MessageProperties
from local.host.watchdog import Watchdog, leave
from local.host.worker import Invocation, Worker

EXIT_TIMEOUT = 124  # as timeout(1) exits

STOP_S = 10.0
"""How long Azure's host waits at SIGTERM for the functions that run."""

EACH_MINUTE = "0 * * * * *"
"""The only schedule on which timers run by themselves here. With several instances, each runs them."""

_log = logging.getLogger("host.functions")


class Host:
    """One instance: an app, its queue listeners and its HTTP server. `visibility_timeout` is in seconds."""

    def __init__(self, worker: Worker, settings: HostJson, visibility_timeout: int) -> None:
        self._worker = worker
        self._settings = settings
        self._watchdog = Watchdog(settings.function_timeout, _exit_for_timeout)
        self._queues = Queues()
        self._outputs = {
            (function.name, binding.name): self._queue(binding)
            for function in worker.functions.values()
            for binding in function.queue_outputs
        }
        self._listeners = [
            self._listener(function, visibility_timeout)
            for function in worker.functions.values()
            if function.trigger.type == QUEUE_TRIGGER
        ]
        self._routes = read_routes(worker.functions, settings.route_prefix)
        self._manual_runs: set[asyncio.Task[None]] = set()

    async def run(self, port: int | None, stopping: asyncio.Event) -> NoReturn:
        """Listen until `stopping`, and end. `port` is 0 for a free port, None for no HTTP. Raises HostError."""
        url, runner = "", None
        if port is not None:
            try:
                runner, url = await start_server(self._routes, self._run_http, port, self._start_timer)
            except OSError as exc:
                raise HostError(
                    f"The host can't listen on port {port} of loopback: {exc.strerror}. "
                    "Pass another `--port`, or none for a free one."
                ) from exc
        listening = [asyncio.create_task(listener.listen()) for _, listener in self._listeners]
        timers = [asyncio.create_task(self._run_each_minute(timer)) for timer in self._timers(EACH_MINUTE)]
        print(f"host ready {url}".rstrip(), flush=True)
        await asyncio.gather(*listening, *timers, self._end(stopping, listening, runner))
        raise AssertionError

    async def _end(
        self, stopping: asyncio.Event, listening: Sequence[asyncio.Task[None]], runner: web.AppRunner | None
    ) -> None:
        """As Azure's host at SIGTERM: fetch nothing more, and wait for what runs, for a while."""
        await stopping.wait()
        for _, listener in self._listeners:
            listener.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*listening, *([runner.cleanup()] if runner else []))
                while self._worker.running:  # noqa: ASYNC110  # of timers
                    await asyncio.sleep(0.02)
        leave(0)

    def _queue(self, binding: Binding) -> QueueClient:
        connection = read_connection(binding.connection, os.environ)
        return self._queues.queue(connection, resolve(binding.queue_name, os.environ))

    def _listener(self, function: Function, visibility_timeout: int) -> tuple[str, QueueListener]:
        queue = self._queue(function.trigger)
        connection = read_connection(function.trigger.connection, os.environ)
        listener = QueueListener(
            queue,
            self._queues.poison_queue(connection, queue.queue_name),
            self._settings.queues,
            run=partial(self._run_queue, function),
            on_sent=self._wake,
            visibility_timeout=visibility_timeout,
        )
        return queue.url, listener

    def _wake(self, queue: QueueClient) -> None:
        """As in Azure, what this host sends to a queue that it listens to is received at once."""
        for url, listener in self._listeners:
            if url == queue.url:
                listener.wake_up.set()

    async def _run_queue(self, function: Function, body: bytes, properties: MessageProperties) -> bool:
        with self._watchdog.watching(function.name):
            try:
                invocation = await self._worker.invoke_queue(function.name, body, properties)
            except NoResponse as exc:
                await _hang(exc)
            return await self._finish(function, invocation)

    async def _run_http(self, name: str, request: HttpRequest) -> Invocation:
        function = self._worker.functions[name]
        with self._watchdog.watching(name):
            try:
                invocation = await self._worker.invoke_http(
                    name,
                    method=request.method,
                    url=request.url,
                    headers=request.headers,
                    query=request.query,
                    params=request.params,
                    body=request.body,
                )
            except NoResponse as exc:
                await _hang(exc)
            ok = await self._finish(function, invocation)
        return invocation if ok else Invocation(invocation.id, ok=False)

    def _timers(self, schedule: str) -> list[Function]:
        timers = [function for function in self._worker.functions.values() if function.trigger.type == TIMER_TRIGGER]
        return [timer for timer in timers if timer.trigger.settings["schedule"] == schedule]

    async def _run_each_minute(self, function: Function) -> None:
        while True:
            await asyncio.sleep(60 - time.time() % 60)
            await self._run_timer(function)

    def _start_timer(self, name: str) -> bool:
        functions = {function.name.lower(): function for function in self._worker.functions.values()}
        function = functions.get(name.lower())
        if function is None or function.trigger.type != TIMER_TRIGGER:
            return False
        task = asyncio.create_task(self._run_timer(function))
        self._manual_runs.add(task)  # the loop keeps only a weak reference
        task.add_done_callback(self._manual_runs.discard)
        return True

    async def _run_timer(self, function: Function) -> None:
        with self._watchdog.watching(function.name):
            try:
                invocation = await self._worker.invoke_timer(function.name)
            except NoResponse as exc:
                await _hang(exc)
            await self._finish(function, invocation)

    async def _finish(self, function: Function, invocation: Invocation) -> bool:
        """Send the outputs, one by one. Returns False if the invocation failed or an output could not be sent."""
        source = (function.name, invocation.id)
        if not invocation.ok:
            _log.error("%s %s failed: %s", *source, (invocation.traceback or invocation.error or "").strip())
            return False
        for binding in function.queue_outputs:
            value = invocation.return_value if binding.name == RETURN else invocation.outputs.get(binding.name)
            if value is None:
                continue
            queue = self._outputs[function.name, binding.name]
            try:
                for body in split_output(value):
                    await send(queue, encode_body(body, self._settings.queues.message_encoding))
                    self._wake(queue)
            except ValueError:
                # Without the decoder's message, which quotes the output.
                _log.error("%s %s failed: output '%s' looks like JSON but is invalid.", *source, binding.name)
                return False
            except AzureError as exc:
                problem = storage_problem(exc)
                _log.error("%s %s failed: output '%s': %s", *source, binding.name, problem)
                return False
        return True


async def _hang(exc: NoResponse) -> NoReturn:
    _log.error("%s The invocation hangs until functionTimeout ends this process.", exc)
    await asyncio.Event().wait()
    raise AssertionError


def _exit_for_timeout(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
    leave(EXIT_TIMEOUT)

"""
A function app on Microsoft's own Python worker engine, in this process: loads it and invokes its functions.

The engine (`azure-functions-runtime`) loads, indexes, decodes, runs and encodes as in Azure; only the gRPC between
host and worker is left out. It keeps its functions in module state, and `function_app` can be imported only once:
**one app per process**.

Knows nothing of queues, polling, routes or host.json. The host decides what happens with outputs.
"""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import azure_functions_runtime as engine
from azure.functions.meta import Datum
from azure_functions_runtime.native_invocation import invocation_request_native

from local.host import protos
from local.host.bindings import HTTP_TRIGGER, QUEUE_TRIGGER, TIMER_TRIGGER, Function, read_function
from local.host.errors import AppNotLoaded, HostError, NoResponse
from local.host.trigger_metadata import MessageProperties, queue_metadata


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The response of an HTTP function. `cookies` are whole `Set-Cookie` values."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """
    How an invocation ended. If it is `ok`, it has outputs by parameter name: bytes, text, or the value of a JSON
    output. `return_value` is an HttpResponse if the function returned azure.functions' HttpResponse.
    """

    id: str
    ok: bool
    return_value: Any = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    traceback: str | None = None


class Worker:
    """The loaded app: its `functions` by name. `running` maps invocations in flight to their functions' names."""

    running: ClassVar[dict[str, str]] = {}
    _loaded: ClassVar[Self | None] = None

    def __init__(self, app_dir: Path, functions: Mapping[str, Function]) -> None:
        self.app_dir = app_dir
        self.functions = functions

    @classmethod
    async def load(cls, app_dir: Path) -> Self:
        """
        Load the app in the directory, as Azure does. Loading the same app again returns the same worker.

        Raises AppNotLoaded, with the worker's traceback if there is one, and HostError for a binding that this host
        does not support or for a second app.
        """
        app_dir = _find_app(app_dir)
        if cls._loaded is not None:
            if cls._loaded.app_dir == app_dir:
                return cls._loaded
            raise HostError(f"This process has loaded {cls._loaded.app_dir}, and can load only one app.")
        if str(app_dir) not in sys.path:
            sys.path.insert(0, str(app_dir))
        engine.start_threadpool_executor()
        cls._loaded = cls(app_dir, await _index(app_dir))
        return cls._loaded

    async def invoke(
        self, function_name: str, inputs: Mapping[str, Datum], trigger_metadata: Mapping[str, Datum]
    ) -> Invocation:
        """
        Run a function. An exception of the app results in an Invocation that is not ok.

        Raises NoResponse if Azure's worker would never respond.
        """
        function = self.functions[function_name]
        invocation_id = str(uuid.uuid4())
        self.running[invocation_id] = function_name
        # A task of its own, as in Azure's worker, so that the function has its own context.
        task = asyncio.create_task(
            invocation_request_native(invocation_id, function.function_id, list(inputs.items()), dict(trigger_metadata))
        )
        try:
            ok, returned, outputs, message, traceback = await task
        except BaseException as exc:
            own = asyncio.current_task()
            if not task.done() or (own is not None and own.cancelling()):
                raise  # not the function's
            error = type(exc).__name__
            raise NoResponse(f"{function_name} raised {error}, to which Azure's worker never responds.") from None
        finally:
            task.cancel()
            del self.running[invocation_id]
        return Invocation(
            invocation_id,
            ok,
            return_value=_plain(returned),
            outputs={name: _plain(datum) for name, datum in outputs},
            error=message,
            traceback=traceback,
        )

    async def invoke_queue(
        self, function_name: str, body: bytes, properties: MessageProperties | None = None, **fields: Any
    ) -> Invocation:
        """
        Run a queue function on a message body, before the queue's encoding.

        `properties`, or its fields as keywords (`id=…, dequeue_count=2`), are the message's.
        Raises NoResponse, and HostError if the function has another trigger.
        """
        trigger = self.functions[function_name].trigger
        if trigger.type != QUEUE_TRIGGER:
            raise HostError(f"{function_name} has no queue trigger.")
        properties = properties or MessageProperties(**fields)
        if trigger.is_binary:
            return await self.invoke(
                function_name, {trigger.name: Datum(body, "bytes")}, queue_metadata(properties, None)
            )
        try:
            text = body.decode()
        except UnicodeDecodeError:
            # The real host binds the body as text before it calls the worker.
            error = "The message is not UTF-8 text, and the function does not take bytes."
            return Invocation(str(uuid.uuid4()), ok=False, error=error)
        return await self.invoke(function_name, {trigger.name: Datum(text, "string")}, queue_metadata(properties, text))

    async def invoke_http(
        self,
        function_name: str,
        *,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Invocation:
        """
        Run an HTTP function on a request. `params` are those of the route.

        Raises NoResponse, and HostError if the function has another trigger.
        """
        trigger = self.functions[function_name].trigger
        if trigger.type != HTTP_TRIGGER:
            raise HostError(f"{function_name} has no HTTP trigger.")
        request = {
            "method": Datum(method, "string"),
            "url": Datum(url, "string"),
            "headers": _texts({name.lower(): value for name, value in (headers or {}).items()}),
            "query": _texts(query),
            "params": _texts(params),
            "body": Datum(body, "bytes"),
        }
        return await self.invoke(function_name, {trigger.name: Datum(request, "http")}, {})

    async def invoke_timer(self, function_name: str) -> Invocation:
        """
        Run a timer function as if it were due.

        Raises NoResponse, and HostError if the function has another trigger.
        """
        trigger = self.functions[function_name].trigger
        if trigger.type != TIMER_TRIGGER:
            raise HostError(f"{function_name} has no timer trigger.")
        timer = json.dumps({"Schedule": {"AdjustForDST": True}, "ScheduleStatus": None, "IsPastDue": False})
        return await self.invoke(function_name, {trigger.name: Datum(timer, "json")}, {})


def _find_app(app_dir: Path) -> Path:
    script = os.environ.get("PYTHON_SCRIPT_FILE_NAME", "function_app.py")
    app_dir = app_dir.resolve()
    if not (app_dir / script).is_file():
        raise AppNotLoaded(f"There is no {script} in {app_dir}.")
    return app_dir


async def _index(app_dir: Path) -> dict[str, Function]:
    response = await engine.worker_init_request(protos.init_request(str(app_dir), protos))
    if response.result.status != protos.StatusResult.Success:
        exception = response.result.exception
        raise AppNotLoaded(f"The app could not be loaded: {exception.message}", exception.stack_trace)
    response = await engine.functions_metadata_request(None)
    functions = response.function_metadata_results or []
    if not functions:
        raise AppNotLoaded(f"The app in {app_dir} has no functions. Decorate some, and register their blueprints.")
    return {item.name: read_function(item.name, item.function_id, item.raw_bindings) for item in functions}


def _texts(values: Mapping[str, str] | None) -> dict[str, Datum]:
    return {name: Datum(value, "string") for name, value in (values or {}).items()}


def _plain(datum: Datum | None) -> Any:
    if datum is None:
        return None
    if datum.type != "http":
        return datum.python_value
    value = datum.value
    return HttpResponse(
        status=int(value["status_code"].value),
        headers={name: header.value for name, header in value["headers"].items()},
        body=value["body"].value,
        cookies=tuple(morsel.OutputString() for cookie in value["cookies"] or () for morsel in cookie.values()),
    )

"""The function app of the host's tests. Each function shows one feature of the host."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import List  # noqa: UP035 -- the engine does not take list[str]

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
CONNECTION = "JobStorage"


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%echo", connection=CONNECTION)
@app.queue_output(arg_name="echoed", queue_name="%PREFIX%echoed", connection=CONNECTION)
async def echo(message: func.QueueMessage, echoed: func.Out[bytes]) -> None:
    """Returns the body."""
    logging.getLogger("app").info("echo of %d bytes", len(message.get_body()))
    echoed.set(message.get_body())


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%properties", connection=CONNECTION)
@app.queue_output(arg_name="received", queue_name="%PREFIX%received", connection=CONNECTION)
async def read_properties(message: func.QueueMessage, received: func.Out[bytes], context: func.Context) -> None:
    """Returns the properties of its message."""
    received.set(
        json.dumps(
            {
                "id": message.id,
                "dequeue_count": message.dequeue_count,
                "life_s": (message.expiration_time - message.insertion_time).total_seconds(),
                "invisible": message.time_next_visible > message.insertion_time,
                "pop_receipt": bool(message.pop_receipt),
                "function": context.function_name,
                "in_app_dir": Path.cwd() == Path(__file__).parent,
            }
        ).encode()
    )


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%failing", connection=CONNECTION)
@app.queue_output(arg_name="attempts", queue_name="%PREFIX%attempts", connection=CONNECTION)
async def failing(message: func.QueueMessage, attempts: func.Out[bytes]) -> None:
    """Fails; its output is discarded."""
    attempts.set(b"never seen")
    raise ValueError(f"attempt {message.dequeue_count} fails")


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%failing-poison", connection=CONNECTION)
@app.queue_output(arg_name="poisoned", queue_name="%PREFIX%poisoned", connection=CONNECTION)
async def read_poison(message: func.QueueMessage, poisoned: func.Out[bytes]) -> None:
    """Returns the body of a message in the poison queue."""
    poisoned.set(message.get_body())


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%slow", connection=CONNECTION)
@app.queue_output(arg_name="spans", queue_name="%PREFIX%spans", connection=CONNECTION)
async def slow(message: func.QueueMessage, spans: func.Out[bytes]) -> None:
    """Sleeps for the seconds in the message, which may differ by delivery, and returns its start and end."""
    body = message.get_json()
    start = time.time()
    logging.getLogger("app").info("slow begins")
    seconds = body["seconds"]
    await asyncio.sleep(seconds[min(message.dequeue_count, len(seconds)) - 1] if isinstance(seconds, list) else seconds)
    spans.set(json.dumps({"job": body["job"], "start": start, "end": time.time()}).encode())


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%many", connection=CONNECTION)
@app.queue_output(arg_name="texts", queue_name="%PREFIX%texts", connection=CONNECTION)
def many(message: func.QueueMessage, texts: func.Out[List[str]]) -> None:  # noqa: UP006
    """Not async; sends several messages."""
    texts.set([f"{message.get_body().decode()} {number}" for number in range(3)])


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%too-large", connection=CONNECTION)
@app.queue_output(arg_name="large", queue_name="%PREFIX%large", connection=CONNECTION)
async def write_too_large(message: func.QueueMessage, large: func.Out[bytes]) -> None:
    """Succeeds, but Storage rejects its output."""
    large.set(message.get_body() * 60_000)


@app.queue_trigger(arg_name="message", queue_name="%PREFIX%block", connection=CONNECTION)
async def block(message: func.QueueMessage) -> None:
    """Blocks the event loop for the seconds in the message."""
    time.sleep(float(message.get_body()))  # noqa: ASYNC251


@app.route(route="items/{kind:alpha}/{number}", methods=["GET", "PUT"])
async def items(req: func.HttpRequest) -> func.HttpResponse:
    """Returns its request."""
    request = {
        "method": req.method,
        "url": req.url,
        "route": dict(req.route_params),
        "query": dict(req.params),
        "header": req.headers.get("X-Test"),
    }
    return func.HttpResponse(json.dumps(request), status_code=201, mimetype="application/json")


@app.route(route="files/{*path}", methods=["POST"])
async def files(req: func.HttpRequest) -> func.HttpResponse:
    """Returns the body, with the path in a header and a cookie."""
    headers = {"X-Path": req.route_params["path"], "Set-Cookie": "a=b; Path=/"}
    return func.HttpResponse(req.get_body(), headers=headers, mimetype="application/octet-stream")


@app.route(methods=["GET"])
async def crash(req: func.HttpRequest) -> func.HttpResponse:
    """Fails, with the query in its message."""
    raise ValueError(req.params["secret"])


@app.route(route="plain")
async def plain(req: func.HttpRequest) -> str:
    """Any method; returns a string."""
    return f"{req.method} it is"


@app.route(route="queued", methods=["POST"])
@app.queue_output(arg_name="job", queue_name="%PREFIX%echo", connection=CONNECTION)
async def queued(req: func.HttpRequest, job: func.Out[bytes]) -> func.HttpResponse:
    """Sends its body to the queue that `echo` listens to."""
    job.set(req.get_body())
    return func.HttpResponse(status_code=202)


@app.route(route="cancelled")
async def cancelled(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001
    """Raises CancelledError."""
    raise asyncio.CancelledError


@app.timer_trigger(arg_name="timer", schedule="* * * * * *")
@app.queue_output(arg_name="output", queue_name="%PREFIX%ticks", connection=CONNECTION)
async def tick(timer: func.TimerRequest, output: func.Out[bytes]) -> None:
    """Returns the timer's data."""
    output.set(json.dumps({"past_due": timer.past_due}).encode())


@app.timer_trigger(arg_name="timer", schedule="0 * * * * *")
@app.queue_output(arg_name="output", queue_name="%PREFIX%minutes", connection=CONNECTION)
async def each_minute(timer: func.TimerRequest, output: func.Out[bytes]) -> None:  # noqa: ARG001
    """Sends a message each minute."""
    output.set(b"{}")


@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def fail_tick(timer: func.TimerRequest) -> None:  # noqa: ARG001
    """Fails."""
    raise ValueError("This timer fails.")

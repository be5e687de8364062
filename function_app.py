"""Triggers and bindings, nothing else: bytes in, bytes out. `shared.jobs.worker` has the way of a job."""

import json
import os
from uuid import uuid4

import azure.functions as func

from shared.clock import now
from shared.http.messages import Request, Response
from shared.http.routes import ROUTES, Route
from shared.jobs.message import Delivery
from shared.services import services
from shared.settings import batch_queues, binding_queues, callback_queues
from shared.storage.message_text import decode_text, encode_text

JOBS, POISON, RESULTS = binding_queues(os.environ)
CALLBACKS, DEAD_CALLBACKS = callback_queues(os.environ)
BATCHES, DEAD_BATCHES = batch_queues(os.environ)
ENTRA = os.environ.get("HTTP_AUTH", "").strip() == "entra"

# As text, the host would copy a JSON object's members over the trigger's metadata: an `id` would replace the message's,
# and an `insertionTime` make it unreadable before our code runs.
BINARY = func.DataType.BINARY

# Six times a night: if there is much to delete, each run continues where the previous one stopped.
SWEEPS = "0 17 0-5 * * *"

EACH_MINUTE = "0 * * * * *"

# A month is closed half an hour after its end. If there are many customers, each run continues where the one before
# stopped; else a run is one read.
EACH_TEN_MINUTES = "0 */10 * * * *"

EACH_HOUR = "0 0 * * * *"

app = func.FunctionApp()


@app.queue_trigger(arg_name="message", queue_name=JOBS, connection="JobStorage", data_type=BINARY)
@app.queue_output(arg_name="results", queue_name=RESULTS, connection="JobStorage")
async def run_job(message: func.QueueMessage, results: func.Out[bytes]) -> None:
    """Run one job."""
    publish(results, await services().worker.process(delivery(message)))


@app.queue_trigger(arg_name="message", queue_name=POISON, connection="JobStorage", data_type=BINARY)
@app.queue_output(arg_name="results", queue_name=RESULTS, connection="JobStorage")
async def dead_letter_job(message: func.QueueMessage, results: func.Out[bytes]) -> None:
    """End a job whose message the host has given up: every accepted job ends with a result."""
    publish(results, await services().worker.dead_letter(delivery(message)))


@app.queue_trigger(arg_name="message", queue_name=CALLBACKS, connection="JobStorage", data_type=BINARY)
async def deliver_callback(message: func.QueueMessage) -> None:
    """Make one try of a callback."""
    await services().callbacks.deliver(decode_text(message.get_body()))


@app.queue_trigger(arg_name="message", queue_name=DEAD_CALLBACKS, connection="JobStorage", data_type=BINARY)
async def dead_letter_callback(message: func.QueueMessage) -> None:
    """End a callback whose message the host has given up; the job's status document shows that."""
    await services().callbacks.dead_letter(decode_text(message.get_body()))


@app.queue_trigger(arg_name="message", queue_name=BATCHES, connection="JobStorage", data_type=BINARY)
async def run_batch(message: func.QueueMessage) -> None:
    """Take a turn at what is at a provider: a batch of jobs' calls, or the responses of jobs (docs/architecture.md)."""
    await services().batch_worker.process(decode_text(message.get_body()))


@app.queue_trigger(arg_name="message", queue_name=DEAD_BATCHES, connection="JobStorage", data_type=BINARY)
async def dead_letter_batch(message: func.QueueMessage) -> None:
    """Have a batch whose message the host has given up looked at later."""
    await services().batch_worker.dead_letter(decode_text(message.get_body()))


@app.timer_trigger(arg_name="timer", schedule=EACH_MINUTE, use_monitor=False)
async def wake_jobs(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the trigger's binding
    """Send the messages of waiting jobs that are due (docs/scale.md), and what is to be exported (docs/exports.md)."""
    await services().wake_jobs()


@app.timer_trigger(arg_name="timer", schedule=EACH_TEN_MINUTES, use_monitor=True)
async def close_months(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the trigger's binding
    """Put the jobs that close the last month into the queue (docs/close.md)."""
    await services().close_months()


@app.timer_trigger(arg_name="timer", schedule=EACH_HOUR, use_monitor=True)
async def project_budgets(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the trigger's binding
    """Notice budgets that will be used up before their month ends (docs/budgets.md)."""
    await services().project_budgets()


@app.timer_trigger(arg_name="timer", schedule=SWEEPS, use_monitor=True)
async def retention_sweep(timer: func.TimerRequest) -> None:  # noqa: ARG001  # the trigger's binding
    """Delete what is older than its retention (docs/retention.md)."""
    await services().retention_sweep()


def serve(route: Route) -> None:
    """Add the function of one HTTP route. `shared.http`, which handles it, is imported with the first request."""
    without_key = route.role is None or ENTRA
    level = func.AuthLevel.ANONYMOUS if without_key else func.AuthLevel.FUNCTION

    async def handle(request: func.HttpRequest) -> func.HttpResponse:
        return http_response(await services().http.handle(route.name, http_request(request)))

    handle.__name__ = route.name
    app.route(route=route.path, methods=route.methods, auth_level=level, trigger_arg_name="request")(handle)


for each in ROUTES:
    serve(each)


@app.route(route="health", methods=["GET", "HEAD"], auth_level=func.AuthLevel.ANONYMOUS, trigger_arg_name="request")
async def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001  # the trigger's binding
    """Report that the app is loaded, and how exports are doing, in a word: anybody may call this."""
    exports = services().export_health
    body = {"status": "ok"} if exports is None else {"status": "ok", "exports": await exports.word()}
    return func.HttpResponse(json.dumps(body, separators=(",", ":")), mimetype="application/json")


def delivery(message: func.QueueMessage) -> Delivery:
    """Return the message as the worker takes it."""
    message_id, is_redelivered = message.id or uuid4().hex, (message.dequeue_count or 1) > 1
    return Delivery(decode_text(message.get_body()), message_id, message.insertion_time or now(), is_redelivered)


def http_request(request: func.HttpRequest) -> Request:
    """Return the request as the HTTP app takes it."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.url, request.route_params, request.params, headers, request.get_body())


def http_response(response: Response) -> func.HttpResponse:
    """Return the response as the host takes it."""
    headers = {"Content-Type": response.media_type, **response.headers}
    return func.HttpResponse(response.body, status_code=response.status, headers=headers)


def publish(results: func.Out[bytes], result_body: bytes | None) -> None:
    """Set the binding to the message with the result: the host sends it as it is."""
    if result_body is not None:
        results.set(encode_text(result_body).encode())

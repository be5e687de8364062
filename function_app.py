"""Triggers and bindings, nothing else: bytes in, bytes out. `shared.pipeline` has the way of a job."""

import os
from uuid import uuid4

import azure.functions as func

from shared.clock import now
from shared.runs import Delivery
from shared.services import services
from shared.settings import binding_queues

JOBS, POISON, RESULTS = binding_queues(os.environ)

# As text, the host would refuse a message that is not UTF-8 and copy a JSON object's members over the
# trigger's metadata, where `dequeueCount` or `insertionTime` make it unreadable, before we could answer.
BINARY = func.DataType.BINARY

app = func.FunctionApp()


@app.queue_trigger(arg_name="message", queue_name=JOBS, connection="JobStorage", data_type=BINARY)
@app.queue_output(arg_name="results", queue_name=RESULTS, connection="JobStorage")
async def run_job(message: func.QueueMessage, results: func.Out[bytes]) -> None:
    """Runs one job."""
    publish(results, await services().pipeline.answer(delivery(message)))


@app.queue_trigger(arg_name="message", queue_name=POISON, connection="JobStorage", data_type=BINARY)
@app.queue_output(arg_name="results", queue_name=RESULTS, connection="JobStorage")
async def bury_job(message: func.QueueMessage, results: func.Out[bytes]) -> None:
    """Answers a job that the host has given up: every accepted job ends with a result."""
    publish(results, await services().pipeline.bury(delivery(message)))


@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS, trigger_arg_name="request")
async def health(request: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001  # the trigger's binding
    """Says that the app is loaded and answers. Tells nothing else: it is open to everybody."""
    return func.HttpResponse('{"status":"ok"}', mimetype="application/json")


def delivery(message: func.QueueMessage) -> Delivery:
    """The message as the pipeline takes it."""
    return Delivery(message.get_body(), message.id or uuid4().hex, message.insertion_time or now())


def publish(results: func.Out[bytes], told: bytes | None) -> None:
    """Hands the result to the binding: as bytes, because the host would parse a string and write it anew."""
    if told is not None:
        results.set(told)

"""
What the worker engine takes for the gRPC messages of Azure's host: named bags of fields.

The engine is handed this module as `protos`, fills these in while it loads an app, and hands them back.
Only the messages of loading and indexing are here: invoking goes without (`native_invocation`).
Field names are Microsoft's (FunctionRpc.proto), and so are the numbers of the enumerations.
"""

from types import SimpleNamespace
from typing import Any


class WorkerMetadata(SimpleNamespace):
    """Which Python and which engine."""


class RpcException(SimpleNamespace):
    """`message` and `stack_trace`."""


class StatusResult(SimpleNamespace):
    """`status`, and on failure `exception`."""

    Failure = 0
    Success = 1
    Cancelled = 2


class WorkerInitResponse(SimpleNamespace):
    """`result` of loading the app."""


class BindingInfo(SimpleNamespace):
    """`type`, `data_type` and `direction` of a binding, and the numbers of the last two."""

    inout = 2
    out = 1
    undefined = 0


class RpcRetryOptions(SimpleNamespace):
    """A retry policy in a decorator; the queue trigger of Azure's host does not heed it, nor does ours."""


class RpcFunctionMetadata(SimpleNamespace):
    """One function: `name`, `function_id`, `raw_bindings` (a JSON text each)."""


class FunctionMetadataResponse(SimpleNamespace):
    """`function_metadata_results`: the functions, or None where there is none."""


def init_request(app_dir: str, protos: Any) -> SimpleNamespace:
    """The host's first message: load the app in this directory."""
    start = SimpleNamespace(capabilities={}, function_app_directory=app_dir)
    return SimpleNamespace(
        request=SimpleNamespace(worker_init_request=start),
        properties={"host": "127.0.0.1", "protos": protos},
    )

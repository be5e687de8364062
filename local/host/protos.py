"""
What the worker engine uses in place of the gRPC messages of Azure's host: named containers of fields.

The engine receives this module as `protos`, fills these classes in while it loads an app, and returns them. Only the
messages of loading and indexing are needed: invocations use none (`native_invocation`). Field names, and the numbers
of the enumerations, are Microsoft's (FunctionRpc.proto).
"""

from types import SimpleNamespace
from typing import Any


class WorkerMetadata(SimpleNamespace):
    """The versions of Python and of the engine."""


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
    """`type`, `data_type` and `direction` of a binding, and the numbers of the directions."""

    inout = 2
    out = 1
    undefined = 0


class RpcRetryOptions(SimpleNamespace):
    """A retry policy of a decorator. The queue trigger of Azure's host ignores it, and so does this host."""


class RpcFunctionMetadata(SimpleNamespace):
    """A function: `name`, `function_id`, `raw_bindings` (each a JSON text)."""


class FunctionMetadataResponse(SimpleNamespace):
    """`function_metadata_results`: the functions, or None if the app has none."""


def init_request(app_dir: str, protos: Any) -> SimpleNamespace:
    """The host's first message: load the app in this directory."""
    start = SimpleNamespace(capabilities={}, function_app_directory=app_dir)
    return SimpleNamespace(
        request=SimpleNamespace(worker_init_request=start),
        properties={"host": "127.0.0.1", "protos": protos},
    )

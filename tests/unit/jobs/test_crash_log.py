"""What log lines say of exceptions: our own sentences, and nothing that an endpoint or a caller has sent."""

from __future__ import annotations

import ast
from pathlib import Path

from shared.errors import (
    ContentFiltered,
    InvalidJob,
    LeaseLost,
    ProviderUnavailable,
    RateLimited,
    RetryLater,
    StorageUnavailable,
    Throttled,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    VaultUnavailable,
)
from shared.jobs.crash_log import log_text
from tests.support.rows import every_row
from tests.support.source import parse

ROOT = Path(__file__).parents[3]
QUOTE = "You asked: MARKED."
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@every_row(
    ("error", "text"),
    [
        *((kind(QUOTE, UpstreamFacts(status=429)), f"{kind.code} (429)") for kind in UpstreamError.__subclasses__()),
        (ProviderUnavailable(QUOTE), "provider_unavailable (no response)"),
        (UpstreamRetryLater(RateLimited(QUOTE, UpstreamFacts(status=429)), 60), "rate_limited (429)"),
        (UpstreamRetryLater(ContentFiltered(QUOTE), 60), "content_filtered (no response)"),
        *((kind("Wait.", 1), "Wait.") for kind in (RetryLater, StorageUnavailable, VaultUnavailable, Throttled)),
        *((kind(QUOTE), kind.__name__) for kind in (InvalidJob, LeaseLost, ValueError, KeyError, TimeoutError)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_line_quotes_nobody(error: Exception, text: str):
    """Of an endpoint's error it has code and status, of any other its kind; only why something waits is a sentence."""
    assert text == log_text(error)


def test_no_line_has_the_text_of_an_exception():
    """A log call never formats an exception itself: `log_text` says what is safe of it."""
    lines = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in [*sorted((ROOT / "shared").rglob("*.py")), ROOT / "function_app.py"]
        if any(f".{method}(" in path.read_text(encoding="utf-8") for method in LOG_METHODS)
        for handler in ast.walk(parse(path))
        if isinstance(handler, ast.FunctionDef | ast.AsyncFunctionDef)
        for call in ast.walk(handler)
        if _is_log_call(call) and _formats_exception(call, _exceptions(handler))
    ]

    assert [] == lines


@every_row(
    "arguments",
    ["'%s', exc", "str(exc)", "f'{exc}'", "'', exc_info=exc", "'', exc_info=True", "'', e.args", "'', repr(e)"],
)
def test_the_check_of_lines_finds_each_way(arguments: str):
    """An exception that was caught or passed is found, however it is formatted."""
    source = f"def f(e: Exception):\n  try: g()\n  except ValueError as exc: log.info({arguments})"
    function = ast.parse(source).body[0]
    (call,) = [node for node in ast.walk(function) if _is_log_call(node)]

    assert _formats_exception(call, _exceptions(function))


def _is_log_call(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOG_METHODS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"log", "logging", "logger"}
    )


def _exceptions(function: ast.AST) -> set[str]:
    """The names of exceptions in a function: what it catches, and arguments whose type is an exception's."""
    caught = {node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name}
    kinds = ("Exception", "Error", "RetryLater", "LeaseLost", "JobError")
    return caught | {
        node.arg
        for node in ast.walk(function)
        if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation).endswith(kinds)
    }


def _formats_exception(call: ast.AST, exceptions: set[str]) -> bool:
    """Whether an exception is an argument of the call, other than of `log_text` or `type`, or for its code or delay."""
    if isinstance(call, ast.keyword) and call.arg == "exc_info":
        return True
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in {"log_text", "type"}:
        return False
    if isinstance(call, ast.Attribute) and call.attr in {"code", "delay_s"}:
        return False
    if isinstance(call, ast.Name) and call.id in exceptions:
        return True
    return any(_formats_exception(child, exceptions) for child in ast.iter_child_nodes(call))

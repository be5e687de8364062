"""Many rows of one table held by one test: each row costs what its own code does, and nothing of what a test costs."""

from __future__ import annotations

import functools
import inspect
import reprlib
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ROW_WITH_ID = type(pytest.param())
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def every_row(names: str | Collection[str], rows: Iterable[Any], *, ids: Any = None) -> Decorator:
    """
    As `pytest.mark.parametrize`, but within one test, which fails with all the rows that fail.

    `ids` name the rows that fail; a function of values, which the message has anyway, is not called. The rows share the
    test's fixtures, so it is for tests that leave nothing in them; but each row has its own `monkeypatch` and
    `tmp_path`, and an empty `caplog`.
    """
    split = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    table = [dict(zip(split, _values(row, len(split)), strict=True)) for row in rows]
    labels = [str(number) for number in range(len(table))] if ids is None or callable(ids) else list(map(str, ids))
    assert table, "There is no row."

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run_async(**fixtures: Any) -> None:
                failures: list[BaseException] = []
                for label, row in zip(labels, table, strict=True):
                    with _row(row, label, fixtures, failures) as arguments:
                        await test(**arguments)
                _raise(failures, len(table))

            return _with_fixtures_only(run_async, test, split)

        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failures: list[BaseException] = []
            for label, row in zip(labels, table, strict=True):
                with _row(row, label, fixtures, failures) as arguments:
                    test(**arguments)
            _raise(failures, len(table))

        return _with_fixtures_only(run, test, split)

    return decorate


def _values(row: Any, count: int) -> Collection[Any]:
    if isinstance(row, _ROW_WITH_ID):
        assert not row.marks, "A row has no marks of its own."
        return row.values
    return (row,) if count == 1 else row


def _with_fixtures_only(run: Callable[..., Any], test: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    signature = inspect.signature(test)
    assert set(names) <= set(signature.parameters), "A name is no parameter."
    fixtures = [parameter for name, parameter in signature.parameters.items() if name not in names]
    run.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
    return run


@contextmanager
def _row(
    row: Mapping[str, Any], label: str, fixtures: Mapping[str, Any], failures: list[BaseException]
) -> Iterator[dict[str, Any]]:
    arguments = {**fixtures, **row}
    with pytest.MonkeyPatch.context() as patch:
        if "monkeypatch" in fixtures:
            arguments["monkeypatch"] = patch
        if "tmp_path" in fixtures:
            arguments["tmp_path"] = Path(tempfile.mkdtemp(dir=fixtures["tmp_path"]))
        if "caplog" in fixtures:
            fixtures["caplog"].clear()
        try:
            yield arguments
        except (Exception, pytest.fail.Exception) as exc:  # noqa: BLE001  # raised with the others
            exc.add_note(f"Row {label}: {', '.join(f'{name}={_SHORT.repr(value)}' for name, value in row.items())}")
            failures.append(exc)


def _raise(failures: list[BaseException], rows: int) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup(f"{len(failures)} of {rows} rows", failures)

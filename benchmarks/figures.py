"""Statistics of many runs, and a table to print them in."""

import statistics
from collections.abc import Iterable, Sequence


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Minimum and maximum, to show how noisy the machine was."""
    return f"{_short(min(values))} to {_short(max(values))}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values (0 to 1) does not exceed."""
    ranked = sorted(values)
    return ranked[round(share * (len(ranked) - 1))]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through the points that has the least squares; 0 for fewer than two."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope if len(points) > 1 else 0.0


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A Markdown table, so that docs can include a run's output. The first `texts` columns are left-aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            f"{cell:<{width}}" if number < texts else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if number < texts else "-" * (width - 1) + ":" for number, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004

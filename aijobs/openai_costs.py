"""
What OpenAI charges an organization, by day and model, as its costs endpoint says.
(platform.openai.com/docs/api-reference/usage/costs)

It needs an admin key, which only an owner of the organization can make; no other key is accepted there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from aijobs.cost_comparison import TheirCosts, read_billed
from aijobs.price_sources.base import SourceError
from aijobs.price_sources.download import download
from shared.billing.money import EXACT
from shared.billing.periods import Days
from shared.clock import shifted
from shared.secret import Secret

URL = "https://api.openai.com/v1/organization/costs"
PROVIDERS = frozenset({"openai"})
_BUCKETS = 31
"""Days of a page."""
_NO_ITEM = "no line item"


async def read_costs(
    days: Days, key: Secret, projects: Sequence[str] = ()
) -> tuple[dict[tuple[date, str], TheirCosts], str]:
    """Return the costs by day and model, and their currency. Raises SourceError."""
    query: list[tuple[str, str | int]] = [
        ("start_time", _seconds(days.first)),
        ("end_time", _seconds(shifted(days.last, timedelta(days=1)))),
        ("bucket_width", "1d"),
        ("group_by", "line_item"),
        ("limit", _BUCKETS),
        *(("project_ids", project) for project in projects),
    ]
    first = f"{URL}?{urlencode(query)}"

    def next_page(page: Any) -> str | None:
        if not _member(page, "has_more"):
            return None
        cursor = _member(page, "next_page")
        if not isinstance(cursor, str) or not cursor:
            raise _invalid("`next_page` is not a text, although `has_more` is true")
        return f"{first}&{urlencode({'page': cursor})}"

    if not (key.reveal().isascii() and key.reveal().isprintable()):
        raise SourceError("The key has characters that no key of OpenAI has.")
    pages = await download(first, next_page, {"Authorization": f"Bearer {key.reveal()}"})
    costs: dict[tuple[date, str], TheirCosts] = {}
    currencies: set[str] = set()
    for day, item, amount, currency in _results(pages):
        if not days.first <= day <= days.last:
            continue
        currencies.add(currency)
        each = costs.setdefault((day, item.partition(", ")[0]), TheirCosts())
        each.amount = EXACT.add(each.amount, amount)
        each.names.add(item)
    if len(currencies) > 1:
        raise SourceError(f"OpenAI's costs are in more than one currency: {', '.join(sorted(currencies))}.")
    return costs, next(iter(currencies), "USD")


def _results(pages: Sequence[Any]) -> Iterator[tuple[date, str, Decimal, str]]:
    """Each result's day, line item, amount and currency."""
    for page in pages:
        for bucket in _list(page, "data"):
            start = _member(bucket, "start_time")
            if not isinstance(start, Decimal):
                raise _invalid("`start_time` is not a number")
            try:
                day = datetime.fromtimestamp(float(start), UTC).date()
            except (ValueError, OverflowError, OSError):
                raise _invalid("`start_time` is not a time") from None
            for result in _list(bucket, "results"):
                amount = _member(result, "amount")
                value, currency = _member(amount, "value"), _member(amount, "currency")
                item = result.get("line_item") or _NO_ITEM
                if not isinstance(currency, str) or not isinstance(item, str):
                    raise _invalid("`currency` or `line_item` is not a text")
                yield day, item, _amount(value), currency.upper()


def _amount(value: Any) -> Decimal:
    amount = read_billed(value) if isinstance(value, Decimal | str) else None
    if amount is None:
        raise _invalid("`amount.value` is not a number")
    return amount


def _list(parent: Any, name: str) -> list[Any]:
    value = _member(parent, name)
    if not isinstance(value, list):
        raise _invalid(f"`{name}` is not a list")
    return value


def _member(parent: Any, name: str) -> Any:
    if not isinstance(parent, Mapping) or name not in parent:
        raise _invalid(f"`{name}` is missing")
    return parent[name]


def _invalid(what: str) -> SourceError:
    return SourceError(f"OpenAI's costs have another form than its documentation says: {what}.")


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())

"""Amounts of money: currencies' places, and when an amount is rounded. Pure; never a float."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import reduce

_PLACES = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),  # noqa: SIM905
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),  # noqa: SIM905
    **dict.fromkeys("CLF UYW".split(), 4),  # noqa: SIM905
}
"""Places of the currencies that have not two (ISO 4217, list one)."""
_DEFAULT_PLACES = 2
_LINE_PLACES = 4
"""Places that a line has more than its currency: a call can cost less than a cent's thousandth."""
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN)
"""Sums and products of prices, counts, markups and rates have fewer digits, so nothing is rounded."""


def places_of(currency: str) -> int:
    """Return how many places amounts of a currency have, such as 2 for USD."""
    return _PLACES.get(currency, _DEFAULT_PLACES)


def round_line(amount: Decimal, currency: str) -> Decimal:
    """Return the amount of a line, rounded half to even to four places more than the currency has."""
    return _rounded(amount, places_of(currency) + _LINE_PLACES)


def round_total(amount: Decimal, currency: str) -> Decimal:
    """Return a sum of lines, rounded half to even to the currency's places."""
    return _rounded(amount, places_of(currency))


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum of amounts, of which nothing is rounded."""
    return reduce(EXACT.add, amounts, Decimal(0))


def amount_text(amount: Decimal) -> str:
    """Return an amount as documents have it: a decimal string without an exponent."""
    return f"{amount:f}"


def _rounded(amount: Decimal, places: int) -> Decimal:
    rounded = amount.quantize(Decimal(1).scaleb(-places), context=EXACT)
    return rounded or abs(rounded)  # there is no negative zero of money

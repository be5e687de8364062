"""Amounts are exact until a line, and rounded once."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from shared.billing.money import amount_text, exact_sum, places_of, round_line, round_total
from tests.support.rows import every_row


@every_row(
    ("amount", "currency", "line", "total"),
    [
        ("0.0000005", "USD", "0.000000", "0.00"),
        ("0.0000015", "USD", "0.000002", "0.00"),
        ("0.005", "USD", "0.005000", "0.00"),
        ("0.015", "USD", "0.015000", "0.02"),
        ("12.34", "USD", "12.340000", "12.34"),
        ("0.5", "JPY", "0.5000", "0"),
        ("1.5", "JPY", "1.5000", "2"),
        ("0.0005", "KWD", "0.0005000", "0.000"),
        ("-0.0000001", "USD", "0.000000", "0.00"),
        ("123456789012345678901234567890.125", "USD", "123456789012345678901234567890.125000", None),
    ],
)
def test_half_is_rounded_to_even(amount: str, currency: str, line: str, total: str | None):
    """A line has four places more than its currency, a total the currency's own; neither is a negative zero."""
    assert line == amount_text(round_line(Decimal(amount), currency))
    assert total is None or total == amount_text(round_total(Decimal(amount), currency))


@given(st.lists(st.decimals(-(10**12), 10**12, places=15), max_size=30))
def test_sums_are_exact(amounts: list[Decimal]):
    """However many digits the amounts have."""
    assert sum(map(Fraction, amounts), Fraction(0)) == Fraction(exact_sum(amounts))


@given(st.decimals(-(10**9), 10**9, places=12), st.sampled_from(["USD", "JPY", "KWD", "CLF"]))
def test_rounding_moves_an_amount_by_half_a_place_at_most(amount: Decimal, currency: str):
    """And what is rounded stays as it is when it is rounded again."""
    for rounded, places in ((round_line(amount, currency), 4), (round_total(amount, currency), 0)):
        assert abs(Fraction(rounded) - Fraction(amount)) <= Fraction(1, 2 * 10 ** (places_of(currency) + places))
    assert round_line(amount, currency) == round_line(round_line(amount, currency), currency)

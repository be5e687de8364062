"""Lines of a PDF that are put together from the places of their characters."""

from __future__ import annotations

from shared.documents.pdf_glyphs import _in_reading_order
from tests.support.rows import every_row

SHALOM, OLAM = "שלום", "עולם"


@every_row(
    ("seen", "read"),
    [
        (("A", "B"), "B A"),
        (("A", "12.5", "B"), "B 12.5 A"),
        (("A", "1,200.50", "B"), "B 1,200.50 A"),
        (("A", "12.5%", "B"), "B 12.5% A"),
        (("A", "€1,200", "B"), "B €1,200 A"),
        (("A", "2027-03-01", "B"), "B 2027-03-01 A"),
        (("A", "10:30", "B"), "B 10:30 A"),
        (("A", "hello, big world", "B"), "B hello, big world A"),
        (("A", "version 2.5", "B"), "B version 2.5 A"),
        (("A", "1 2 3", "B"), "B 3 2 1 A"),
        ((".A", "B"), "B A."),
        (("A", "\u0661\u0662\u066b\u0665", "B"), "B \u0661\u0662\u066b\u0665 A"),
    ],
)
def test_a_line_from_right_to_left(seen: tuple[str, ...], read: str):
    """Words of the other direction, numbers, amounts and dates stay as they are; what is around them turns."""
    words = {"A": OLAM, "B": SHALOM}
    visible = " ".join(part.replace("A", OLAM[::-1]).replace("B", SHALOM[::-1]) for part in seen)

    assert _in_reading_order(visible) == "".join(words.get(char, char) for char in read)

"""
Embeddings: the JSON of an answer to rows of numbers, packed, and rows to NumPy's file format. Pure.

A row is the base64 of its numbers as 64-bit floats, in which whatever JSON says of a number stays as it
is: a third of what Python's own numbers take, and JSON can hold it.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Any

# numpy.lib.format, version 1.0: the array's beginning is aligned to this.
_ALIGNED = 64


def parse_vectors(said: dict[str, Any], count: int) -> list[str] | None:
    """
    The rows of a decoded answer, in the order of the texts; None where it does not hold `count` of one length.

    A vector is a list of numbers, or with `encoding_format: base64` its 32-bit floats, little-endian.
    """
    items = said.get("data")
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        return None
    places = [item.get("index") for item in items]
    if sorted(place for place in places if type(place) is int) == list(range(count)):
        items = sorted(items, key=lambda item: item["index"])
    elif any(place is not None for place in places):
        return None
    try:
        numbers = [_numbers(item.get("embedding")) for item in items]
    except (TypeError, ValueError, OverflowError):
        return None
    if not numbers[0] or any(len(row) != len(numbers[0]) or not all(map(isfinite, row)) for row in numbers):
        return None
    return [base64.b64encode(_little(row)).decode() for row in numbers]


def unpack(row: str) -> array[float]:
    """A row's numbers."""
    return _from_little("d", base64.b64decode(row))


def npy(rows: Sequence[str]) -> bytes:
    """
    The rows as an `.npy` file of 32-bit floats, little-endian, row by row.

    The format is version 1.0 of https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
    """
    shape = (len(rows), len(unpack(rows[0])))
    about = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    begin = b"\x93NUMPY\x01\x00"
    padding = -(len(begin) + 2 + len(about) + 1) % _ALIGNED
    header = about + b" " * padding + b"\n"
    return b"".join(
        (begin, len(header).to_bytes(2, "little"), header, *(_little(array("f", unpack(row))) for row in rows))
    )


def _numbers(embedding: Any) -> array[float]:
    if isinstance(embedding, str):
        return array("d", _from_little("f", base64.b64decode(embedding, validate=True)))
    if not isinstance(embedding, list) or any(type(number) not in {int, float} for number in embedding):
        raise TypeError
    return array("d", embedding)


def _little(numbers: array[float]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _from_little(typecode: str, data: bytes) -> array[float]:
    numbers: array[float] = array(typecode, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

"""
Embeddings: a response's JSON to packed rows, and rows to NumPy's file format. Pure.

A row is the base64 of a vector's numbers as 64-bit floats, so that each number keeps its exact value. It takes a third
of the memory of Python's own numbers, and can be stored in JSON.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Any

_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_ALIGNMENT = 64
"""Bytes. The numbers start at a multiple of it."""


def parse_vectors(body: dict[str, Any], count: int) -> list[str] | None:
    """
    Return the rows of a decoded response in the order of the texts, or None unless it has `count` of one length.

    A vector is a list of numbers or, with `encoding_format: base64`, of little-endian 32-bit floats.
    """
    items = body.get("data")
    if not isinstance(items, list) or len(items) != count or not all(isinstance(item, dict) for item in items):
        return None
    indexes = [item.get("index") for item in items]
    if sorted(index for index in indexes if type(index) is int) == list(range(count)):
        items = sorted(items, key=lambda item: item["index"])
    elif any(index is not None for index in indexes):
        return None
    try:
        vectors = [_numbers(item.get("embedding")) for item in items]
    except (TypeError, ValueError, OverflowError):
        return None
    size = len(vectors[0])
    if not size or any(len(vector) != size or not all(map(isfinite, vector)) for vector in vectors):
        return None
    return [base64.b64encode(_to_little_endian(vector)).decode() for vector in vectors]


def unpack(row: str) -> array[float]:
    """Return a row's numbers."""
    return _from_little_endian("d", base64.b64decode(row))


def dimensions(row: str) -> int:
    """Return how many numbers a row has."""
    return (len(row) // 4 * 3 - row.count("=", -2)) // 8


def npy(rows: Sequence[str]) -> bytes:
    """
    Return the rows as an `.npy` file of little-endian 32-bit floats, in C order.

    The format is version 1.0 of https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
    """
    shape = (len(rows), dimensions(rows[0]))
    description = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    padding = -(len(_NPY_MAGIC) + 2 + len(description) + 1) % _NPY_ALIGNMENT
    header = description + b" " * padding + b"\n"
    numbers = (_to_little_endian(array("f", unpack(row))) for row in rows)
    return b"".join((_NPY_MAGIC, len(header).to_bytes(2, "little"), header, *numbers))


def _numbers(embedding: Any) -> array[float]:
    if isinstance(embedding, str):
        return array("d", _from_little_endian("f", base64.b64decode(embedding, validate=True)))
    if not isinstance(embedding, list) or any(type(number) not in {int, float} for number in embedding):
        raise TypeError
    return array("d", embedding)


def _to_little_endian(numbers: array[float]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _from_little_endian(typecode: str, data: bytes) -> array[float]:
    numbers: array[float] = array(typecode, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers

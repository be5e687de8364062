"""Embeddings: from a response's JSON, and to NumPy's file format."""

from __future__ import annotations

import base64
import io
import struct
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.embedding_codec import npy, parse_vectors, unpack
from tests.support.rows import every_row

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
matrices = st.integers(1, 5).flatmap(
    lambda size: st.lists(st.lists(floats, min_size=size, max_size=size), min_size=1, max_size=6)
)


def packed(matrix: list[list[float]]) -> list[str]:
    """Return a matrix as packed rows."""
    rows = parse_vectors({"data": [{"embedding": vector} for vector in matrix]}, len(matrix))
    assert rows is not None
    return rows


@given(matrices)
def test_numpy_reads_the_file(matrix: list[list[float]]):
    """NumPy reads an `.npy` file as the same 32-bit floats, for any shape."""
    import numpy as np  # noqa: PLC0415  # no other test of this process needs it

    array = np.load(io.BytesIO(npy(packed(matrix))), allow_pickle=False)

    assert (np.dtype("<f4"), (len(matrix), len(matrix[0]))) == (array.dtype, array.shape)
    assert array.flags.c_contiguous
    assert matrix == array.tolist()


@given(matrices, st.randoms(), st.booleans())
def test_vectors_are_in_the_order_of_the_texts(matrix: list[list[float]], random: Random, as_base64: bool):
    """Vectors are ordered by `index`, and are the same as numbers and as base64."""
    data = [
        {
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode() if as_base64 else row,
        }
        for index, row in enumerate(matrix)
    ]
    random.shuffle(data)

    rows = parse_vectors({"data": data}, len(matrix))

    assert rows is not None
    assert matrix == [unpack(row).tolist() for row in rows]


def test_numbers_keep_their_precision():
    """A number that is no 32-bit float is kept as a 64-bit float."""
    assert [0.1, 1e300] == unpack(packed([[0.1, 1e300]])[0]).tolist()


def test_big_endian_machines_write_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    """On a big-endian machine the bytes of each number are swapped, both when rows are packed and when unpacked."""
    rows = packed([[1.0, -2.5]])
    monkeypatch.setattr(sys, "byteorder", "big")

    swapped = packed([[1.0, -2.5]])

    assert base64.b64decode(rows[0]) == b"".join(
        base64.b64decode(swapped[0])[start : start + 8][::-1] for start in (0, 8)
    )
    assert [1.0, -2.5] == unpack(swapped[0]).tolist()


@every_row(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"embedding": []}, {"embedding": []}],
        [{"embedding": [1.0]}, {"embedding": ["1"]}],
        [{"embedding": [1.0]}, {"embedding": [True]}],
        [{"embedding": [1.0]}, {"embedding": [10**400]}],
        [{"embedding": [1.0]}, {"embedding": "AAA"}],
        [{"embedding": [1.0]}, {"embedding": "AAAAAAA="}],
        [{"embedding": "AAAAAA=="}, {"embedding": "AADAfw=="}],
        [{"embedding": [1.0]}, {"embedding": None}],
        [{"embedding": [1.0]}, 7],
    ],
)
def test_response_without_a_vector_for_each_text_is_invalid(data: Any):
    """A response for two texts is invalid unless it has two vectors of finite numbers and of one length."""
    assert parse_vectors({"data": data}, 2) is None

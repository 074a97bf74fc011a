import contextlib
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.service.errors import RequestError
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.npy_bodies import decode_npy
from lookalike.service.parsing.rows import RequestLimits
from lookalike.training.tables.columns import Column
from tests.service.helpers import to_npy

BOUNDS = RequestLimits((2, 2), 3, max_rows=5, max_limit=50, max_hits=100)
NAN = float("nan")
MIXED = replace(
    BOUNDS,
    input_shape=(2,),
    table=TableInputs((Column("size"), Column("colour", "categorical", ("blue", "red")))),
)
VALUES_1_TO_4 = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2", "<i4", ">i8", "u1", "<u8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2)])
def test_an_npy_of_any_number_type_and_order_holds_the_same_rows(dtype: str, order: Any, shape: Any) -> None:
    array = np.asarray(VALUES_1_TO_4.reshape(shape), dtype, order=order)
    decoded = decode_npy(to_npy(array), "inputs", BOUNDS)
    assert decoded.tolist() == VALUES_1_TO_4.tolist()
    assert (decoded.dtype.str, decoded.flags.c_contiguous) == ("<f4", True)


def npy(header: str, values: bytes = bytes(16), magic: bytes = b"\x93NUMPY\x01\x00") -> bytes:
    return magic + struct.pack("<H", len(header)) + header.encode("latin-1") + values


def claims(shape: str, descr: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


GOOD = to_npy(np.ones((1, 4), np.float32))
DAMAGED: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "JSON": (b'{"inputs": [[1, 2, 3, 4]]}', 400),
    "values cut": (GOOD[:-1], 400),
    "values added": (GOOD + b"\x00", 400),
    "header cut": (GOOD[:40], 400),
    "another version of the format": (npy("", magic=b"\x93NUMPY\x09\x00"), 400),
    "an unfinished header": (npy("{'descr': ("), 400),
    "half a dtype": (claims("(1, 4)", "('<f4',)"), 400),
    "a header of brackets": (npy("(" * 900), 400),
    "a header of signs": (npy("-" * 900 + "1"), 400),
    "a large header": (npy("{" + " " * 5_000 + "}"), 400),
    "no dictionary": (npy("1"), 400),
    "32 GiB in one row": (claims("(1, 8589934592)"), 422),
    "32 GiB in many rows": (claims("(2147483648, 4)"), 413),
    "more rows than bytes": (claims("(5, 4)"), 400),
    "more rows than the bound": (to_npy(np.ones((6, 4))), 413),
    "objects": (claims("(1, 4)", "'|O'"), 422),
    "records": (claims("(1, 4)", "[('a', '<f4')]"), 422),
    "text": (to_npy(np.array([["a"] * 4])), 422),
    "complex": (to_npy(np.ones((1, 4), complex)), 422),
    "dates": (to_npy(np.zeros((1, 4), "M8[s]")), 422),
    "a negative size": (claims("(-1, 4)"), 422),
    "a boolean size": (claims("(True, 4)"), 422),
    "70 dimensions": (claims("(" + "1, " * 70 + ")"), 422),
    "no rows, and too many columns for memory": (claims(f"(0, {2**70})"), 422),
    "no rows": (to_npy(np.ones((0, 4))), 422),
    "one dimension": (to_npy(np.ones(4)), 422),
    "no dimension": (to_npy(np.array(1.0)), 422),
    "too wide": (to_npy(np.ones((1, 5))), 422),
    "NaN": (to_npy(np.array([[1, np.nan, 3, 4]])), 422),
    "infinity": (to_npy(np.array([[1, 2, 3, -np.inf]])), 422),
    "more than float32 holds": (to_npy(np.array([[1, 2, 3, 1e39]])), 422),
}


@pytest.mark.parametrize(("body", "status"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_npy_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        decode_npy(body, "inputs", BOUNDS)
    assert refused.value.status == status
    assert refused.value.field
    assert refused.value.found


@given(st.integers(0, len(GOOD) * 8 - 1), st.binary(max_size=3))
def test_reads_or_refuses_a_body_with_a_flipped_bit(bit: int, tail: bytes) -> None:
    body = bytearray(GOOD)
    body[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(RequestError):
        assert decode_npy(bytes(body) + tail, "inputs", BOUNDS).shape[1] == 4


@given(st.text(max_size=80).map(lambda text: text.encode("latin-1", "replace").decode("latin-1")))
def test_any_header_is_refused(header: str) -> None:
    with pytest.raises(RequestError):
        decode_npy(npy(header), "inputs", BOUNDS)


def test_embeddings_are_as_wide_as_the_latent_space() -> None:
    assert decode_npy(to_npy(np.ones((1, 3))), "embeddings", BOUNDS).shape == (1, 3)
    with pytest.raises(RequestError):
        decode_npy(to_npy(np.ones((1, 2, 2))), "embeddings", BOUNDS)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2"])
def test_an_npy_of_a_table_holds_codes_and_nan(dtype: str) -> None:
    given = np.array([[1.5, 1], [NAN, 0], [2, NAN]], dtype)
    np.testing.assert_array_equal(decode_npy(to_npy(given), "inputs", MIXED), given)


@pytest.mark.parametrize("row", [[1, 2], [1, 0.5], [1, -1], [np.inf, 1], [1, -np.inf], [1e39, 0]])
def test_an_npy_of_other_codes_is_refused(row: list[float]) -> None:
    with pytest.raises(RequestError, match=r"inputs\[1\]"):
        decode_npy(to_npy(np.array([[1, 1], row])), "inputs", MIXED)


def test_embeddings_of_a_table_have_no_gaps() -> None:
    with pytest.raises(RequestError):
        decode_npy(to_npy(np.array([[1, 2, NAN]])), "embeddings", MIXED)


def test_an_npy_in_memory_that_may_be_written_to_is_not_copied() -> None:
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    body = bytearray(to_npy(rows))
    decoded = decode_npy(memoryview(body), "inputs", BOUNDS)
    np.testing.assert_array_equal(decoded, rows)
    assert np.shares_memory(decoded, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("shift", [1, 4])
def test_copies_an_npy_with_unaligned_numbers(shift: int) -> None:
    """A header may have any length, and bytes are not writable."""
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }" + " " * (58 + shift - 1) + "\n"
    for body in (memoryview(bytearray(npy(text, rows.tobytes()))), npy(text, rows.tobytes())):
        decoded = decode_npy(body, "inputs", BOUNDS)
        np.testing.assert_array_equal(decoded, rows)
        assert decoded.flags.carray


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_subtracts_the_origin_before_float32(dtype: str, order: Any) -> None:
    limits = replace(BOUNDS, input_shape=(2,), latent_dim=2, origin=np.array([1.76e18, 0]))
    body = to_npy(np.array([[1_760_000_000_000_000_256, 3], [1_760_000_000_000_001_024, 4]]).astype(dtype, order=order))
    assert decode_npy(body, "inputs", limits).tolist() == [[256, 3], [1024, 4]]
    assert decode_npy(body, "embeddings", limits)[:, 0].tolist() == [np.float32(1.76e18)] * 2

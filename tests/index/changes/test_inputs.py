import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lookalike.index.changes.inputs import Input, pack, stacked, unpack


@given(arrays.arrays(st.sampled_from([np.float32, np.float64]), st.integers(1, 20)))
def test_an_input_comes_back_as_it_was(values: Input) -> None:
    back = unpack(pack(values))
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


def test_the_bytes_are_the_numbers_and_their_type() -> None:
    assert pack(np.array([1.0], np.float32)) == b"\x00\x00\x80\x3ff"
    assert pack(np.array([1.0], ">f8")) == b"\x00\x00\x00\x00\x00\x00\xf0\x3fd"


@pytest.mark.parametrize("blob", [b"", b"x", bytes(4), bytes(8), bytes(3) + b"f", bytes(4) + b"d", bytes(4) + b"x"])
def test_other_bytes_are_no_input(blob: bytes) -> None:
    with pytest.raises(ValueError, match=f"an input of {len(blob)} bytes"):
        unpack(blob)


def test_stacks_inputs_of_both_types_and_subtracts_the_origin() -> None:
    one, other = np.array([3.0, 1e9 + 0.5]), np.array([4.0, 1e9], np.float32)
    rows = stacked([one, None, other], np.array([0.0, 1e9]))
    assert rows.tolist() == [[3, 0.5], [4, 0]]
    assert rows.dtype == np.float32
    assert stacked([one], None).tolist() == [[3, 1e9]]

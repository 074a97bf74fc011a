import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from tests.factories import read_all
from tests.training.helpers import flip_bit

NUMBERS = np.arange(24, dtype=np.float32).reshape(6, 4)
NUMERIC = ["u1", "i1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", "?"]


def saved(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array, allow_pickle=True)
    return path


def zipped(path: Path, *, compressed: bool = False, **columns: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, allow_pickle=True, **columns)
    return path


def idx(path: Path, values: NDArray[Any], kind: int = 8, level: int = 9) -> Path:
    header = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), level, mtime=0))
    return path


def claiming(shape: str, size: int = 80) -> bytes:
    """An .npy of `size` bytes whose header claims an array of `shape`."""
    header = f"{{'descr':'<f4','fortran_order':False,'shape':{shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", size - 10) + header.ljust(size - 11) + b"\n"


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_all(path)
    assert str(path) in caught.value.field
    return str(caught.value)


@given(
    array=st.sampled_from(NUMERIC).flatmap(
        lambda kind: arrays.arrays(
            np.dtype(kind),
            arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
            elements={"allow_nan": False, "allow_infinity": False, "max_value": 2**15, "min_value": -(2**15)}
            if np.dtype(kind).kind == "f"
            else None,
        )
    ),
    fortran=st.booleans(),
    size=st.integers(1, 6),
)
def test_reads_any_npy_of_numbers_like_numpy(array: NDArray[Any], fortran: bool, size: int) -> None:
    with TemporaryDirectory() as folder:
        path = saved(Path(folder) / "a.npy", np.asfortranarray(array) if fortran else array)
        rows, chunk = open_rows(str(path)), read_all(path, size)
    assert (rows.shape, rows.count, rows.pixels) == (array.shape[1:], len(array), array.dtype == np.uint8)
    np.testing.assert_array_equal(chunk.inputs, array.reshape(len(array), -1).astype(np.float32))
    assert chunk.inputs.dtype == np.float32
    assert chunk.ids == [str(i) for i in range(len(array))]


@pytest.mark.parametrize("order", ["C", "F"])
def test_names_row_and_column_of_a_nan_deep_in_an_npy(tmp_path: Path, order: Any) -> None:
    array = np.zeros((40_000, 3), np.float32, order=order)
    array[31_337, 2] = np.nan
    assert "a.npy, row 31337, column 2: " in refused(saved(tmp_path / "a.npy", array))


def test_names_a_number_that_does_not_fit_float32(tmp_path: Path) -> None:
    array = np.zeros((4, 2))
    array[1, 0] = 1e39
    assert "row 1, column 0" in refused(saved(tmp_path / "a.npy", array))


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_refuses_a_header_that_claims_32_gib_without_allocating_them(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, claiming("(2147483648,4)")
    assert len(content) == 80
    if name == "a.npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inputs.npy", content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        message = refused(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert "expected 34359738368 bytes of values" in message


@pytest.mark.parametrize("shape", ["(-1,-4)", "(1,-1,-4)", "(4.0,1)", "'44'", "(4,)", "()", "(4,1"])
def test_refuses_a_header_with_an_invalid_shape(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(claiming(shape) + bytes(16))
    refused(path)


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npy", np.zeros((1, 1 << 10), np.uint8))
    content = path.read_bytes().replace(b"(1, 1024), }", b"(65536, 1024), }").replace(b"    \n", b"\n", 1)
    assert len(content) == 128 + 1024
    path.write_bytes(content)
    os.truncate(path, 128 + (1 << 26))  # 64 MiB of zeros, or 256 MiB as float32
    tracemalloc.start()
    try:
        assert sum(len(chunk.inputs) for chunk in open_rows(str(path)).chunks()) == 1 << 16
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()


class Trap:
    """An object that raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.array([[Trap()]]), "dtype object"),
        (np.array([["a", "b"]]), "dtype <U1"),
        (np.array([[1j, 2]]), "dtype complex128"),
        (np.zeros((2, 2), [("x", "f4")]), "dtype [('x', '<f4')]"),
        (np.zeros((2, 2), "M8[s]"), "dtype datetime64[s]"),
        (np.zeros(4, np.float32), "shape (4,)"),
        (np.float32(3), "shape ()"),
    ],
)
@pytest.mark.parametrize("wrap", [saved, lambda path, array: zipped(path.with_suffix(".npz"), inputs=array)])
def test_refuses_arrays_that_are_not_numeric_and_unpickles_nothing(
    tmp_path: Path, array: Any, found: str, wrap: Any
) -> None:
    assert found in refused(wrap(tmp_path / "a.npy", array))


@pytest.mark.parametrize("change", [-1, -60, 1])
def test_refuses_an_npy_whose_size_differs_from_its_header(tmp_path: Path, change: int) -> None:
    path = saved(tmp_path / "a.npy", NUMBERS)
    os.truncate(path, path.stat().st_size + change)
    assert "expected 96 bytes of values" in refused(path)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "a.npy": lambda path: saved(path, NUMBERS),
    "a.npz": lambda path: zipped(path, inputs=NUMBERS, ids=range(6)),
    "a.gz": lambda path: idx(path, NUMBERS.astype(">f4"), kind=13),
}


@pytest.mark.parametrize("name", WRITERS)
@given(bit=st.integers(0, 1 << 20), keep=st.none() | st.floats(0, 1, exclude_max=True))
def test_damage_never_yields_wrong_rows_or_an_unexpected_exception(name: str, bit: int, keep: float | None) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        WRITERS[name](path)
        if keep is None:
            flip_bit(path, bit)
        else:
            os.truncate(path, int(keep * path.stat().st_size))
        try:
            found = read_all(path).inputs
        except DataError:
            return
    # An .npy has no checksum: a flipped bit changes a value unnoticed.
    assert name == "a.npy" or np.array_equal(found, NUMBERS)


@pytest.mark.parametrize("compressed", [False, True])
def test_reads_inputs_ids_and_labels_of_an_npz(tmp_path: Path, compressed: bool) -> None:
    columns = {"inputs": NUMBERS, "ids": [f"item {i}" for i in range(6)], "labels": [i % 2 for i in range(6)]}
    path = zipped(tmp_path / "a.npz", compressed=compressed, **columns)
    chunk = read_all(path, size=4)
    np.testing.assert_array_equal(chunk.inputs, NUMBERS)
    assert chunk.ids == columns["ids"]
    assert [payload["label"] for payload in chunk.payloads] == columns["labels"]


def test_reads_the_single_array_of_an_npz(tmp_path: Path) -> None:
    chunk = read_all(zipped(tmp_path / "a.npz", whatever=NUMBERS))
    np.testing.assert_array_equal(chunk.inputs, NUMBERS)
    assert (chunk.ids[5], chunk.payloads[5]) == ("5", {})


def test_converts_numeric_ids_to_strings(tmp_path: Path) -> None:
    assert read_all(zipped(tmp_path / "a.npz", inputs=NUMBERS, ids=range(10, 16))).ids[0] == "10"


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"a": NUMBERS, "b": NUMBERS}, "arrays ['a', 'b']"),
        ({"inputs": NUMBERS, "ids": range(5)}, "shape (5,)"),
        ({"inputs": NUMBERS, "labels": NUMBERS}, "shape (6, 4)"),
        ({"inputs": NUMBERS, "ids": np.array([Trap()] * 6)}, "dtype object. Save ids.astype(str) instead."),
        ({"inputs": np.asfortranarray(NUMBERS)}, "found Fortran order"),
    ],
)
def test_refuses_an_npz_with_other_arrays(tmp_path: Path, columns: dict[str, Any], found: str) -> None:
    assert found in refused(zipped(tmp_path / "a.npz", **columns))


def test_refuses_a_zip_without_arrays_and_a_file_that_is_not_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"no zip", archived(), archived("readme.txt"), archived("inputs")):
        path.write_bytes(content)
        refused(path)


def archived(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return buffer.getvalue()


def test_a_flipped_value_in_an_npz_fails_its_checksum(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.npz", inputs=NUMBERS)
    flip_bit(path, 8 * path.read_bytes().index(NUMBERS.tobytes()) + 9)
    assert "Bad CRC-32" in refused(path)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_reads_an_idx_of_any_type(tmp_path: Path, kind: int, dtype: str) -> None:
    values = np.arange(-12 if "u" not in dtype else 0, 12).astype(dtype)[-12:].reshape(3, 2, 2)
    path = idx(tmp_path / "a.gz", values, kind)
    np.testing.assert_array_equal(read_all(path, 2).inputs, values.reshape(3, 4))
    assert (open_rows(str(path)).shape, open_rows(str(path)).pixels) == ((2, 2), dtype == ">u1")


def test_finds_labels_next_to_images_under_the_usual_names(tmp_path: Path) -> None:
    images = idx(tmp_path / "some-images-idx3-ubyte.gz", np.zeros((3, 2, 2), np.uint8))
    idx(tmp_path / "some-labels-idx1-ubyte.gz", np.array([7, 8, 9], np.uint8))
    assert read_all(images).payloads == [{"label": 7}, {"label": 8}, {"label": 9}]


def test_refuses_a_label_count_that_differs_from_the_row_count(tmp_path: Path) -> None:
    images = idx(tmp_path / "some-images-idx3-ubyte.gz", np.zeros((3, 2, 2), np.uint8))
    idx(tmp_path / "some-labels-idx1-ubyte.gz", np.array([7, 8], np.uint8))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte\.gz: expected 3 labels"):
        open_rows(str(images))


@pytest.mark.parametrize("keep", [0, 3, 11, 40, 0.5, 0.99])
def test_refuses_a_truncated_idx(tmp_path: Path, keep: float) -> None:
    path = idx(tmp_path / "a.gz", np.random.default_rng(0).integers(0, 256, (50, 4), np.uint8))
    os.truncate(path, int(keep if keep >= 1 or not keep else keep * path.stat().st_size))
    refused(path)


def test_refuses_an_idx_header_that_claims_too_much_when_opening(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBII", 0, 8, 2, 1 << 31, 3) + bytes(12)))
    with pytest.raises(DataError, match="expected 6442450956 bytes, according to the header, found 24"):
        open_rows(str(path))


def test_a_flipped_value_in_an_idx_fails_its_checksum(tmp_path: Path) -> None:
    path = idx(tmp_path / "a.gz", NUMBERS.view(np.uint8), level=0)
    flip_bit(path, 8 * path.read_bytes().index(NUMBERS.tobytes()) + 9)
    assert "incorrect data check" in refused(path)


@pytest.mark.parametrize(
    "content",
    [b"\0\0\x08\x01\0\0\0\x01x", *(gzip.compress(c, mtime=0) for c in (b"", b"1,2\n3,4\n", b"\0\0\x08\0"))],
)
def test_refuses_a_gz_that_is_not_an_idx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    refused(path)


def test_refuses_an_npy_with_an_incomplete_dtype(tmp_path: Path) -> None:
    header = b"{'descr': ('<f4',), 'fortran_order': False, 'shape': (2, 2), }\n"
    path = tmp_path / "rows.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16))
    assert "expected an intact file of its format" in refused(path)

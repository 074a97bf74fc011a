"""Read rows stored one after another in a byte stream after a header: .npy, .npz and idx (.gz)."""

import gzip
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows

__all__ = ["open_idx", "open_npy", "open_npz"]

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_INPUTS, _EXTRAS = ("inputs", "embeddings"), ("ids", "labels", "payloads")
"""The arrays of an .npz file: one of `_INPUTS`, and any of `_EXTRAS`."""
_BROKEN = (
    *(EOFError, OSError, zipfile.BadZipFile, zlib.error),
    # numpy evaluates the header of an .npy as a Python literal, and zipfile trusts the directory of a damaged archive
    *(ValueError, SyntaxError, TypeError, LookupError, RuntimeError, OverflowError, tokenize.TokenError),
)


@dataclass(frozen=True)
class _Extras:
    """Lists that each have one value for each row, or are empty."""

    ids: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    payloads: list[dict[str, Any]] = field(default_factory=list)


def open_npy(path: Path) -> Rows:
    """Open an .npy array of numbers of shape (n, ...), in C or Fortran order."""
    with path.open("rb") as stream:
        shape, fortran, dtype = _npy_header(stream, str(path))
        start = stream.tell()
    _check_size(str(path), shape, dtype, path.stat().st_size - start)
    if fortran:
        read = _fortran_reader(path, shape, dtype, start)
    else:
        read = _reader(str(path), lambda: path.open("rb"), start, shape, dtype)
    return Rows(str(path), shape[1:], shape[0], dtype == np.uint8, read)


def open_npz(path: Path) -> Rows:
    """Open an .npz with one array, or with `inputs` (or `embeddings`) and optionally `ids`, `labels` and `payloads`.

    A payload is a JSON object as text.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    except _BROKEN as error:
        raise _broken(str(path), error) from error
    name = next((known for known in _INPUTS if known in sizes), next(iter(sizes), ""))
    if not name or (name not in _INPUTS and len(sizes) > 1):
        expected = "a single array, or an array named 'inputs' or 'embeddings'"
        raise DataError(str(path), expected=expected, found=f"arrays {sorted(sizes)}")
    field = f"{path}, array {name!r}"
    with _member(path, name) as stream:
        shape, fortran, dtype = _npy_header(stream, field)
        start = stream.tell()
    _check_size(field, shape, dtype, sizes[name] - start)
    if fortran:
        raise DataError(
            field, expected="C order", found="Fortran order", remedy="Save it with numpy.ascontiguousarray, or as .npy."
        )
    extras = _Extras(**{key: _npz_column(path, key, shape[0], sizes[key]) for key in _EXTRAS if key in sizes})
    read = _reader(field, lambda: _member(path, name), start, shape, dtype, extras)
    return Rows(str(path), shape[1:], shape[0], dtype == np.uint8, read)


def open_idx(path: Path, labels: Path | None = None, name: str = "") -> Rows:
    """Open a gzipped idx file, the format of MNIST; `labels` is a second idx file with one number per row.

    The format: http://yann.lecun.com/exdb/mnist (a header of big-endian sizes, then the values).
    """
    shape, dtype, start = _idx_header(path)
    sibling = Path(str(path).replace("images-idx3", "labels-idx1"))
    if labels is None and sibling != path and sibling.exists():
        labels = sibling
    extras = _Extras(labels=_idx_labels(labels, shape[0])) if labels else None
    read = _reader(str(path), lambda: _gunzip(path), start, shape, dtype, extras)
    return Rows(name or str(path), shape[1:], shape[0], dtype == np.uint8, read)


def _reader(
    field: str,
    open_stream: Callable[[], AbstractContextManager[IO[bytes]]],
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    extras: _Extras | None = None,
) -> Callable[[int], Iterator[Chunk]]:
    """Return a reader of `shape` values of `dtype` from byte `start` on; every call opens a new stream."""
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(size: int) -> Iterator[Chunk]:
        with open_stream() as stream:
            stream.read(start)
            for first in range(0, shape[0], size):
                count = min(size, shape[0] - first)
                raw = _read_exactly(stream, count * row_bytes, field)
                values = np.frombuffer(raw, dtype).reshape(count, -1)  # (count, width)
                yield _chunk(values, first, extras or _Extras())
            _require_end(stream, field)

    return read


def _fortran_reader(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], start: int
) -> Callable[[int], Iterator[Chunk]]:
    """Return a reader through a memory map: in Fortran order the values of a row are not adjacent."""

    def read(size: int) -> Iterator[Chunk]:
        values = np.memmap(path, dtype, mode="r", offset=start, shape=shape, order="F")
        for first in range(0, shape[0], size):
            block = np.ascontiguousarray(values[first : first + size])
            yield _chunk(block.reshape(len(block), -1), first, _Extras())  # (count, width)

    return read


def _chunk(values: NDArray[Any], first: int, extras: _Extras) -> Chunk:
    part = slice(first, first + len(values))
    payloads = [dict(payload) for payload in extras.payloads[part]] if extras.payloads else [{} for _ in values]
    for payload, label in zip(payloads, extras.labels[part] if extras.labels else (), strict=bool(extras.labels)):
        payload["label"] = label
    ids = extras.ids[part] if extras.ids else [str(i) for i in range(first, first + len(values))]
    return Chunk(ids=ids, inputs=values, payloads=payloads)


def _npy_header(stream: IO[bytes], field: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    shape, fortran, dtype = _read_header(stream, field)
    if dtype.kind not in "biuf":
        raise DataError(field, expected="numbers", found=f"dtype {dtype}")
    if len(shape) < 2 or min(shape) < 0:
        raise DataError(field, expected="shape (rows, columns, ...)", found=f"shape {shape}")
    return shape, fortran, dtype


def _read_header(stream: IO[bytes], field: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(stream)
        return (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    except _BROKEN as error:
        raise _broken(field, error) from error


def _check_size(field: str, shape: tuple[int, ...], dtype: np.dtype[Any], found: int) -> None:
    """Refuse a header whose size is not the actual size, before memory is allocated for it."""
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != found:
        raise _damaged(field, f"{claimed} bytes of values, according to the header", f"{found} bytes")


def _gunzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path))


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
            yield stream
    except _BROKEN as error:
        raise _broken(f"{path}, array {name!r}", error) from error


def _npz_column(path: Path, name: str, count: int, size: int) -> list[Any]:
    field = f"{path}, array {name!r}"
    with _member(path, name) as stream:
        shape, _, dtype = _read_header(stream, field)
        if shape != (count,) or dtype.kind not in "biufU":
            remedy = f"Save {name}.astype(str) instead." if dtype.hasobject else ""
            raise DataError(field, f"{count} numbers or strings", f"shape {shape}, dtype {dtype}", remedy)
        _check_size(field, shape, dtype, size - stream.tell())
        values = np.frombuffer(stream.read(), dtype).tolist()
    if name == "payloads":
        return [_payload(value, f"{field}, row {row}") for row, value in enumerate(values)]
    return [str(value) for value in values] if name == "ids" else values


def _payload(text: Any, field: str) -> dict[str, Any]:
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError:
        payload = None
    if not isinstance(payload, dict):
        raise DataError(field, expected="a JSON object as text", found=repr(text)[:80])
    return payload


def _idx_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    try:
        with _gunzip(path) as stream:
            zeros, kind, dims = struct.unpack(">HBB", stream.read(4))
            shape = struct.unpack(f">{dims}I", stream.read(4 * dims))
        with path.open("rb") as plain:
            plain.seek(-4, os.SEEK_END)
            (length,) = struct.unpack("<I", plain.read(4))  # gzip's own count of bytes, modulo 2^32
    except (*_BROKEN, struct.error) as error:
        raise _broken(str(path), error) from error
    if zeros != 0 or kind not in _IDX_TYPES or dims < 1:
        raise DataError(str(path), expected="an idx header", found=f"{zeros:#06x} {kind:#04x} {dims}")
    dtype, start = np.dtype(_IDX_TYPES[kind]), 4 + 4 * dims
    claimed = start + math.prod(shape) * dtype.itemsize
    if claimed % (1 << 32) != length:
        raise _damaged(str(path), f"{claimed} bytes, according to the header", f"{length}")
    return shape if dims > 1 else (*shape, 1), dtype, start


def _idx_labels(path: Path, count: int) -> list[Any]:
    shape, dtype, start = _idx_header(path)
    if shape != (count, 1):
        raise DataError(str(path), expected=f"{count} labels", found=f"shape {shape}")
    with _gunzip(path) as stream:
        stream.read(start)
        raw = _read_exactly(stream, count * dtype.itemsize, str(path))
        _require_end(stream, str(path))
    values: list[Any] = np.frombuffer(raw, dtype).tolist()
    return values


def _read_exactly(stream: IO[bytes], count: int, field: str) -> bytes:
    try:
        raw = stream.read(count)
    except _BROKEN as error:
        raise _broken(field, error) from error
    if len(raw) != count:
        raise _damaged(field, f"{count} more bytes", f"{len(raw)}")
    return raw


def _require_end(stream: IO[bytes], field: str) -> None:
    """Refuse more bytes; reading to the end also makes gzip verify its checksum."""
    try:
        rest = stream.read(1)
    except _BROKEN as error:
        raise _broken(field, error) from error
    if rest:
        raise _damaged(field, "the end of the file", "more bytes")


def _broken(field: str, error: BaseException) -> DataError:
    return _damaged(field, "an intact file of its format", str(error) or type(error).__name__)


def _damaged(field: str, expected: str, found: str) -> DataError:
    return DataError(field, expected, found, remedy="The file is damaged or truncated. Copy or download it again.")

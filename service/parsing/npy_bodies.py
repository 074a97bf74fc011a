"""From the bytes of an .npy body to checked arrays."""

import io
import math
import tokenize
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.arrays import ONE_HEAD
from lookalike.service.errors import MalformedError, RequestError
from lookalike.service.parsing.bodies import Body
from lookalike.service.parsing.decoding import RequestLimits, check_shape, checked

__all__ = ["decode_npy"]

_HEADER = 1_024
_BROKEN = (
    *(ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError),
    *(RecursionError, UserWarning, IndexError, OverflowError),
)


def decode_npy(body: Body, kind: str, limits: RequestLimits) -> NDArray[np.float32]:
    """An .npy file of shape (n, width) or (n, *input shape) -> (n, width) float32.

    Of a table, a category is its code, and a missing value NaN.

    Raises:
        MalformedError: not an .npy file, or its header claims another size than it has.
        RequestError, TooLargeError: a wrong shape, values that are not finite, no codes, too many rows.
    """
    stream = io.BytesIO(body[: 2 * _HEADER])
    shape, fortran, dtype = _npy_header(stream)
    if dtype.kind not in "biuf" or not all(type(n) is int and n >= 0 for n in shape):
        raise RequestError("body", expected="an array of numbers", found=f"dtype {dtype}, shape {shape}")
    check_shape(shape, kind, limits)
    size, there = math.prod(shape) * dtype.itemsize, len(body) - stream.tell()
    if size != there:
        raise MalformedError("body", expected=f"{size} bytes of values, as its header says", found=str(there))
    array = np.frombuffer(body, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    rows = checked(array, kind, limits)
    if limits.table and kind == "inputs":
        limits.table.check_codes(rows, kind)
    return rows


def _npy_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype; NumPy's own parser of a header may end in any of these errors."""
    try:
        version = npy.read_magic(stream)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"version {version} of the format")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with ONE_HEAD, warnings.catch_warnings(action="ignore"):  # Python has its own opinion of a client's numbers
            return read(stream, max_header_size=_HEADER)
    except _BROKEN as error:
        raise MalformedError("body", expected="an .npy file", found=str(error)[:100] or "a damaged header") from error

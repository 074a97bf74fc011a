"""From the bytes of an .npy body to checked arrays."""

import io
import math
import tokenize
import warnings
from typing import Any

import numpy as np
from numpy.lib import format as npy
from starlette.datastructures import QueryParams

from lookalike.index.arrays import ONE_HEAD
from lookalike.service.errors import MalformedError, RequestError
from lookalike.service.parsing.bodies import Body
from lookalike.service.parsing.decoding import SearchQuery, search_query
from lookalike.service.parsing.query_strings import read_params
from lookalike.service.parsing.request_models import NpyParams
from lookalike.service.parsing.rows import RequestLimits, check_shape, rows_from_array
from lookalike.training.array_types import Floats

__all__ = ["decode_npy", "decode_npy_search"]

_HEADER = 1_024
_BROKEN = (
    *(ValueError, EOFError, TypeError, SyntaxError, tokenize.TokenError),
    *(RecursionError, UserWarning, IndexError, OverflowError),
)


def decode_npy_search(body: Body, params: QueryParams, limits: RequestLimits) -> SearchQuery:
    """An .npy file of rows, and a query string with the other fields -> a search.

    Raises MalformedError, RequestError or TooLargeError, which names the field.
    """
    request = read_params(NpyParams, params)
    limits = limits.for_version(request.version, request.kind)
    return search_query(request.kind, decode_npy(body, request.kind, limits), request, limits)


def decode_npy(body: Body, kind: str, limits: RequestLimits) -> Floats:
    """An .npy file of shape (n, width) or (n, *input shape) -> (n, width) float32.

    In a table, a category is its code, and a missing value is NaN.

    Raises:
        MalformedError: not an .npy file, or its size is not the size in its header.
        RequestError, TooLargeError: a wrong shape, values that are not finite, unknown codes, too many rows.
    """
    stream = io.BytesIO(body[: 2 * _HEADER])
    shape, fortran, dtype = _read_header(stream)
    if dtype.kind not in "biuf" or not all(type(n) is int and n >= 0 for n in shape):
        raise RequestError("body", expected="an array of numbers", found=f"dtype {dtype}, shape {shape}")
    check_shape(shape, kind, limits)
    expected, found = math.prod(shape) * dtype.itemsize, len(body) - stream.tell()
    if expected != found:
        raise MalformedError("body", expected=f"{expected} bytes of values, by its header", found=str(found))
    array = np.frombuffer(body, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    rows = rows_from_array(array, kind, limits)
    if limits.table and kind == "inputs":
        limits.table.check_codes(rows, "inputs[{}]")
    return rows


def _read_header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype. NumPy's header parser may raise any error of `_BROKEN`."""
    try:
        version = npy.read_magic(stream)
        if version not in {(1, 0), (2, 0)}:
            raise ValueError(f"version {version} of the format")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with ONE_HEAD, warnings.catch_warnings(action="ignore"):  # Python warns of some numbers in a header
            return read(stream, max_header_size=_HEADER)
    except _BROKEN as error:
        raise MalformedError("body", expected="an .npy file", found=str(error)[:100] or "a damaged header") from error

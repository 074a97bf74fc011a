"""Convert the values of a table to JSON values: the same at the top level, in a list and in a struct.

date       2024-03-31                                timestamp  2024-03-31 01:30:00.123456789, with a Z if it has a zone
time       01:30:00.123456                           duration   PT5400.5S, which is ISO 8601 in seconds
binary     its text, if it is UTF-8                  uuid       00010203-0405-0607-0809-0a0b0c0d0e0f
decimal    an integer if its scale is 0, else a float if it has at most 15 digits, else text
map        a list of [key, value]                    NaN        null

Fractions have as many digits as the unit. Years may have more than four digits. A timestamp with a zone is in UTC, so
that the order of the texts is the order of the times.
"""

import uuid
from collections import Counter
from collections.abc import Callable
from itertools import islice, repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Integers
from lookalike.training.errors import DataError

__all__ = ["duplicate_field", "is_nested", "plain", "plain_column", "text_of"]

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400
_EXACT_DIGITS = 15
"""A float64 represents every decimal with up to this many digits."""


def plain_column(values: pa.Array, path: str, name: str, first: int) -> list[Any]:
    """Apply `plain` to a column, (n,), whose first row has the number `first`; raises DataError that names the row."""
    try:
        return plain(values)
    except ValueError:
        for position in range(len(values)):
            try:
                plain(values.slice(position, 1))
            except ValueError as error:
                place = f"{path}, row {first + position}, column {name}"
                expected = "text, finite numbers, times, or lists and structs of these"
                remedy = "Correct the row, write bytes as text (for example base64), or leave the column out."
                raise DataError(place, expected=expected, found=str(error), remedy=remedy) from error
        raise


def plain(values: pa.Array) -> list[Any]:
    """(n,) values of any type -> JSON values; None for null.

    Raises ValueError for bytes that are not text, an infinite number, or a time of day outside a day.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary_decode())
    if isinstance(kind, pa.UuidType):
        return _each(values.storage.to_pylist(), lambda content: str(uuid.UUID(bytes=content)))
    if isinstance(kind, pa.BaseExtensionType):
        return plain(values.storage)
    if pa.types.is_struct(kind):
        return _structs(values)
    if pa.types.is_map(kind):
        pairs = values.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
        return _each(plain(pairs), lambda items: [list(pair.values()) for pair in items])
    if is_nested(kind):
        return _lists(values)
    if _is_bytes(kind):
        return _each(values.to_pylist(), _text)
    if pa.types.is_duration(kind):
        per = _UNITS[kind.unit]
        return _each(values.cast(pa.int64()).to_pylist(), lambda ticks: _duration(ticks, per))
    if pa.types.is_temporal(kind):
        return _times(values)
    if pa.types.is_decimal(kind):
        return _decimals(values)
    if pa.types.is_floating(kind):
        if pc.any(pc.is_inf(values)).as_py():
            raise ValueError("an infinite number")
        values = pc.if_else(pc.is_nan(values), None, values)
    result: list[Any] = values.to_pylist()
    return result


def text_of(values: pa.Array) -> pa.Array:
    """(n,) bytes -> text; other values stay unchanged. Raises ArrowInvalid if some bytes are not UTF-8."""
    if pa.types.is_dictionary(values.type) and _is_bytes(values.type.value_type):
        values = values.dictionary_decode()
    if not _is_bytes(values.type):
        return values
    if pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    return values.cast(pa.large_string())


def is_nested(kind: pa.DataType) -> bool:
    """Whether a type is a list, map or struct, also as the storage of an extension."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return bool(pa.types.is_nested(kind)) and not pa.types.is_dictionary(kind)


def duplicate_field(kind: pa.DataType) -> str | None:
    """Return the first name that two fields of one struct share, at any depth; None if there is none."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    inner = [kind.field(number) for number in range(kind.num_fields)] if is_nested(kind) else []
    if pa.types.is_struct(kind):
        for name, times in Counter(field.name for field in inner).items():
            if times > 1:
                return str(name)
    return next((name for field in inner if (name := duplicate_field(field.type)) is not None), None)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _each(values: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _lists(values: pa.Array) -> list[Any]:
    """Convert lists of any kind: all elements at once, then split by the lengths of the lists."""
    parts = iter(plain(values.flatten()))
    return _each(pc.list_value_length(values).to_pylist(), lambda length: list(islice(parts, length)))


def _structs(values: pa.Array) -> list[Any]:
    names = [field.name for field in values.type]
    rows = zip(*map(plain, values.flatten()), strict=True) if names else repeat((), len(values))
    is_valid = values.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if valid else None for row, valid in zip(rows, is_valid, strict=True)]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        digits = content[:16].hex()
        raise ValueError(f"{len(content):,} bytes that are not UTF-8, 0x{digits}{'…' * (len(content) > 16)}") from None


def _decimals(values: pa.Array) -> list[Any]:
    kind = values.type
    if kind.scale <= 0:
        return _each(values.to_pylist(), int)
    return _each(values.to_pylist(), float if kind.precision <= _EXACT_DIGITS else "{:f}".format)


def _times(values: pa.Array) -> list[Any]:
    """Convert dates, times of day and timestamps, split into whole days and the rest so that none is out of range."""
    kind = values.type
    unit = "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "D")
    wide = values.cast(pa.int32()) if kind.bit_width == 32 else values  # 32-bit types cast to int32 only
    ticks: Integers = pc.fill_null(wide.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    days, rest = (ticks, ticks * 0) if unit == "D" else np.divmod(ticks, _DAY * _UNITS[unit])
    dates: list[str] = days.astype("M8[D]").astype(str).tolist()
    if pa.types.is_date(kind):
        texts = dates
    else:
        clocks = [text[11:] for text in rest.astype(f"M8[{unit}]").astype(str).tolist()]
        if pa.types.is_time(kind):
            if days.any():
                raise ValueError(f"{ticks[days != 0][0]} {unit} as a time of day")
            texts = clocks
        else:
            zone = "Z" if kind.tz else ""
            texts = [f"{date} {clock}{zone}" for date, clock in zip(dates, clocks, strict=True)]
    return [text if valid else None for text, valid in zip(texts, values.is_valid().to_pylist(), strict=True)]


def _duration(ticks: int, per_second: int) -> str:
    seconds, rest = divmod(abs(ticks), per_second)
    fraction = f".{rest:0{len(str(per_second)) - 1}d}".rstrip("0") if rest else ""
    return f"{'-' if ticks < 0 else ''}PT{seconds}{fraction}S"

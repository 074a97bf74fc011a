"""Rows from objects in Python: tables that export themselves to Arrow, NumPy arrays, and datasets of items.

This module recognizes an object by its methods, so it imports no package of these objects. A pandas or polars DataFrame
and an Arrow table have the method `__arrow_c_stream__` or `__arrow_c_array__` of the Arrow PyCapsule interface. A
Hugging Face `Dataset` is read in slices of its Arrow table, which is mapped into memory. Any other map-style dataset,
such as a `torch.utils.data.Dataset`, has items that are arrays, pairs of an array and a label, or dictionaries.
"""

import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.transforms import InputSpec

__all__ = ["open_object"]

_ACCEPTED = (
    "a path, a URL, a pandas or polars DataFrame, an Arrow table, a NumPy array, or a dataset with a length and items"
)
_SLICE = 1 << 16
_PLAIN = (str, int, float, bool, type(None))


def open_object(source: Any, settings: DataConfig, spec: InputSpec | None = None) -> Rows:
    """Open an object; `settings` and `spec` as in `open_rows`. The name of the rows is the object's type.

    Raises DataError for an object of another kind, or with values that are not accepted.
    """
    if isinstance(source, np.ndarray):
        return _array_rows(source)
    if not (hasattr(source, "__len__") and (_exports_arrow(source) or hasattr(source, "__getitem__"))):
        remedy = "Call its method `collect` first." if hasattr(source, "collect") else "Convert it to one of these."
        raise DataError(_name(source), expected=_ACCEPTED, found=_described(source), remedy=remedy)
    if len(source) < 1:
        raise DataError(_name(source), expected="at least one row", found="no rows")
    if _exports_arrow(source):
        return _arrow_rows(source, settings, spec)
    if hasattr(source, "with_format") and hasattr(source, "features") and not _has_pictures(source):
        return _sliced_rows(source, settings, spec)
    if isinstance(source, str | bytes | dict | list | tuple | set):
        raise DataError(_name(source), _ACCEPTED, found=_described(source), remedy="Convert it with `numpy.array`.")
    return _dataset_rows(source, settings, spec)


def _exports_arrow(source: Any) -> bool:
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")


def _has_pictures(source: Any) -> bool:
    """Whether a Hugging Face dataset decodes a column to pictures."""
    return any(type(feature).__name__ == "Image" for feature in dict(source.features).values())


def _name(source: Any) -> str:
    return type(source).__name__


def _described(source: Any) -> str:
    return f"an object of type {type(source).__module__}.{type(source).__qualname__}"


def _array_rows(values: NDArray[Any]) -> Rows:
    """Return the rows of (n, ...) numbers, without labels; ids are their positions."""
    if values.dtype.kind not in "biuf":
        remedy = "Convert it, for example with `astype(numpy.float32)`."
        raise DataError(_name(values), expected="an array of numbers", found=f"dtype {values.dtype}", remedy=remedy)
    if values.ndim < 2:
        remedy = "For one column, use `array.reshape(-1, 1)`."
        raise DataError(_name(values), "shape (rows, columns, ...)", found=f"shape {values.shape}", remedy=remedy)
    if not len(values):
        raise DataError(_name(values), expected="at least one row", found="no rows")

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(values), size):
            part = np.ascontiguousarray(values[first : first + size])
            ids = [str(first + i) for i in range(len(part))]
            yield Chunk(ids, part.reshape(len(part), -1), [{} for _ in part])  # (count, width)

    return Rows(_name(values), values.shape[1:], len(values), values.dtype == np.uint8, read)


def _arrow_rows(source: Any, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Return the rows of an object that exports itself to Arrow."""
    import pyarrow as pa

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # pandas, about column names that are not text
            table = pa.table(source)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        expected = "columns that each have one type"
        found = "; ".join(map(str, error.args)).splitlines()[0]
        raise DataError(_name(source), expected=expected, found=found) from error
    return _table_rows(table, _name(source), settings, spec)


def _table_rows(table: Any, name: str, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Return the rows of a `pyarrow.Table`."""

    def read(size: int, names: list[str] | None) -> Iterator[Any]:
        yield from (table if names is None else table.select(names)).to_batches(max_chunksize=size)

    return _typed_rows(name, table.schema, len(table), read, settings, spec)


def _sliced_rows(source: Any, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Return the rows of a Hugging Face dataset, read in slices as Arrow tables."""
    tables = source.with_format("arrow")

    def read(size: int, names: list[str] | None) -> Iterator[Any]:
        kept = tables if names is None else tables.select_columns(names)
        for first in range(0, len(source), _SLICE):
            yield from kept[first : first + _SLICE].to_batches(max_chunksize=size)

    return _typed_rows(_name(source), tables[0:1].schema, len(source), read, settings, spec)


def _typed_rows(name: str, schema: Any, count: int, read: Any, settings: DataConfig, spec: InputSpec | None) -> Rows:
    from lookalike.training.rows.table_files import TableFile
    from lookalike.training.rows.typed_table import TypedFile, open_typed

    file = TypedFile(TableFile(Path(name)), schema, count, read)
    return open_typed(
        Path(name), [file], settings, spec, partial(_reopened, name=name, schema=schema, count=count, read=read)
    )


def _reopened(settings: DataConfig, spec: InputSpec | None, *, name: str, schema: Any, count: int, read: Any) -> Rows:
    return _typed_rows(name, schema, count, read, settings, spec)


def _dataset_rows(source: Any, settings: DataConfig, spec: InputSpec | None) -> Rows:
    """Return the rows of a map-style dataset; a dataset of dictionaries without an array is a table."""
    first = _item(source, 0)
    if isinstance(first, dict) and _array_field(source, first, 0) is None:
        return _table_rows(_table_of(source), _name(source), settings, spec)
    inputs = _parts(source, 0)[0]
    shape = inputs.shape or (1,)

    def read(size: int) -> Iterator[Chunk]:
        for start in range(0, len(source), size):
            numbers = range(start, min(start + size, len(source)))
            items = [_checked(source, number, inputs.shape) for number in numbers]
            rows = np.stack([item[0] for item in items]).reshape(len(items), -1)  # (n, width)
            ids = [str(number) if name is None else name for number, (_, name, _) in zip(numbers, items, strict=True)]
            yield Chunk(ids, rows, [payload for _, _, payload in items])

    return Rows(_name(source), shape, len(source), inputs.dtype == np.uint8, read)


def _item(source: Any, number: int) -> Any:
    try:
        return source[number]
    except (LookupError, TypeError) as error:
        expected = "an item at each position below the length"
        raise DataError(
            f"{_name(source)}, item {number}", expected, found=f"{type(error).__name__}: {error}"
        ) from error


def _checked(source: Any, number: int, shape: tuple[int, ...]) -> tuple[NDArray[Any], str | None, dict[str, Any]]:
    item = _parts(source, number)
    if item[0].shape != shape:
        expected = f"values of shape {shape}, as in item 0"
        raise DataError(f"{_name(source)}, item {number}", expected=expected, found=f"shape {item[0].shape}")
    return item


def _parts(source: Any, number: int) -> tuple[NDArray[Any], str | None, dict[str, Any]]:
    """Return the values of an item, its id if it has one, and its payload."""
    item = _item(source, number)
    place = f"{_name(source)}, item {number}"
    if isinstance(item, dict):
        name = _array_field(source, item, number)
        if name is None:
            raise DataError(place, expected="a field with an array, as in item 0", found=f"fields {list(item)}")
        payload = {str(key): _plain(value, f"{place}, field {key}") for key, value in item.items() if key != name}
        identifier = payload.pop("id", None)
        return _values(item[name], place), None if identifier is None else str(identifier), payload
    if isinstance(item, tuple | list):
        if len(item) not in (1, 2):
            raise DataError(place, expected="values, or a pair of values and a label", found=f"{len(item)} parts")
        payload = {"label": _plain(item[1], f"{place}, label")} if len(item) == 2 else {}
        return _values(item[0], place), None, payload
    return _values(item, place), None, {}


def _array_field(source: Any, item: dict[str, Any], number: int) -> str | None:
    """Return the only field of a dictionary that has an array of at least one dimension; None if there is none."""
    found = [key for key, value in item.items() if not isinstance(value, _PLAIN) and np.ndim(_numbers(value)) > 0]
    if len(found) > 1:
        place = f"{_name(source)}, item {number}"
        raise DataError(place, expected="one field with an array", found=f"the fields {', '.join(map(str, found))}")
    return found[0] if found else None


def _values(value: Any, place: str) -> NDArray[Any]:
    values = _numbers(value)
    if values.dtype.kind not in "biuf":
        found = f"{type(value).__name__} of dtype {values.dtype}"
        raise DataError(place, expected="a tensor or an array of numbers", found=found)
    return values


def _numbers(value: Any) -> NDArray[Any]:
    """Return a tensor, a picture or a list as an array; an array of objects for other values."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # NumPy has no such type
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):
        return np.asarray(None)


def _plain(value: Any, place: str) -> Any:
    """Return a JSON value."""
    if not isinstance(value, _PLAIN) and hasattr(value, "item") and np.ndim(_numbers(value)) == 0:
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if not isinstance(value, _PLAIN):
        raise DataError(place, expected="text, a number, a boolean or None", found=_described(value))
    return value


def _scalars(item: dict[str, Any]) -> dict[str, Any]:
    return {key: value.item() if hasattr(value, "item") else value for key, value in item.items()}


def _table_of(source: Any) -> Any:
    """Return the items of a dataset of dictionaries as a `pyarrow.Table`."""
    import pyarrow as pa

    tables = []
    try:
        for start in range(0, len(source), _SLICE):
            items = [_item(source, number) for number in range(start, min(start + _SLICE, len(source)))]
            tables.append(pa.Table.from_pylist([_scalars(item) for item in items]))
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        expected = "dictionaries whose fields each have one type"
        raise DataError(_name(source), expected=expected, found=str(error).splitlines()[0]) from error

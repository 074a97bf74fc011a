"""Read rows that are embeddings already: arrays, and the columns of files whose columns have types.

In a table, the vectors are in the one column of lists of numbers. If there is no such column, the columns of numbers
together are the vectors. The setting `data.columns` names other columns. All columns that are not vectors are payload.
A text column `payload`, as `lookalike export` writes it, is the payload as JSON.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.base import Chunk, Rows
from lookalike.training.rows.categories import is_text
from lookalike.training.rows.payloads import TablePayloads
from lookalike.training.rows.streams import open_npy, open_npz
from lookalike.training.rows.tables import row_ids
from lookalike.training.rows.typed_table import Batches, TypedFile, unite

__all__ = ["open_array", "open_vectors"]

_NAMES = ("embedding", "embeddings", "vector", "vectors")
"""If several columns have lists of numbers, the column with the first of these names is the vector."""
_SHOWN = 20
"""The most columns that a note names."""
_PAYLOAD = "payload"
_REMEDY = "Name the column of the vectors with --columns NAME."


def open_array(path: Path, kind: str) -> Rows:
    """Open the embeddings in an array, a file of the kind `npy` or `npz`. Raises DataError if it cannot be read."""
    return replace(open_npy(path) if kind == "npy" else open_npz(path), pixels=False)


def open_vectors(path: Path, files: Sequence[TypedFile], settings: DataConfig) -> Rows:
    """Open the embeddings in a table of one or several files; `settings.columns` names the columns of the vector.

    Raises DataError if the table has no vectors, or cannot be read.
    """
    schema, batches = unite(path, files, settings)
    names = _vector_columns(path, schema, settings)
    dim = _length(path, schema, batches, names)
    to_rows = _lists if _is_list(schema.field(names[0]).type) else _numbers
    payload = [name for name in schema.names if name not in {*names, settings.id}]
    fields = [name for name in payload if name != _PAYLOAD]
    is_json = _PAYLOAD in payload and all(
        name.startswith(f"{_PAYLOAD}.") for name in fields
    )  # the columns of an export
    is_json = is_json and is_text(schema.field(_PAYLOAD).type)
    label = settings.label if settings.label in schema.names else ""

    def read(size: int) -> Iterator[Chunk]:
        first = 0
        for batch in batches(size, None):
            inputs = to_rows(path, batch, names, dim, first)
            plain = TablePayloads(batch, payload, label, (str(path), first))
            payloads = _json_payloads(path, batch, first) if is_json else plain
            yield Chunk(row_ids(path, batch, settings.id, first), inputs, payloads)
            first += len(batch)

    def reopen(settings: DataConfig, spec: Any) -> Rows:
        return open_vectors(path, files, settings)

    count = sum(file.count for file in files)
    notes = () if to_rows is _lists or settings.columns else (_numbers_line(names),)
    return Rows(str(path), (dim,), count, False, read, settings=settings, reopen=reopen, notes=notes)


def _numbers_line(names: list[str]) -> str:
    """Return the note that names the columns of the vector, if the file has no column of lists."""
    shown = ", ".join(names if len(names) <= _SHOWN else [*names[: _SHOWN - 1], "...", names[-1]])
    return (
        f"no column of lists: the vectors are the {len(names):,} columns of numbers ({shown}); --columns names others"
    )


def _vector_columns(path: Path, schema: pa.Schema, settings: DataConfig) -> list[str]:
    """Return the one column of lists, or the columns of numbers, that are the vector."""
    kinds, reserved = {field.name: field.type for field in schema}, {settings.id, settings.label, *settings.exclude}
    lists = [name for name, kind in kinds.items() if _is_list(kind)]
    numbers = [name for name, kind in kinds.items() if _is_number(kind) and name not in reserved]
    if settings.columns:
        names = list(settings.columns)
        if unknown := [name for name in names if name not in kinds]:
            raise DataError(str(path), expected=f"columns {', '.join(names)}", found=f"no column {unknown[0]!r}")
        if not (set(names) <= set(numbers) or (len(names) == 1 and names[0] in lists)):
            expected = "one column of lists of numbers, or columns of numbers"
            raise DataError(f"{path}, columns {', '.join(names)}", expected, ", ".join(str(kinds[n]) for n in names))
        return names
    if len(lists) > 1:
        if not (known := [name for name in _NAMES if name in lists]):
            raise DataError(str(path), "one column of lists of numbers", f"{', '.join(lists)[:200]}", _REMEDY)
        return known[:1]
    if not (names := lists or numbers):
        expected = "a column of lists of numbers, or columns of numbers"
        raise DataError(str(path), expected=expected, found=f"columns {', '.join(schema.names)[:200]}")
    return names


def _length(path: Path, schema: pa.Schema, batches: Batches, names: list[str]) -> int:
    """Return the number of values of the vectors."""
    kind = schema.field(names[0]).type
    if not _is_list(kind):
        return len(names)
    if pa.types.is_fixed_size_list(_storage(kind)):
        return int(_storage(kind).list_size)
    batch = next(batches(1, names), None)
    if batch is None or not len(batch):
        raise DataError(str(path), expected="at least one row", found="no row")
    value = batch.column(0)[0].as_py()
    if not value:
        found = "a missing value" if value is None else "an empty list"
        raise DataError(f"{path}, row 0, column {names[0]}", expected="a list of numbers", found=found)
    return len(value)


def _lists(path: Path, batch: pa.RecordBatch, names: list[str], dim: int, first: int) -> NDArray[Any]:
    """Return the vectors of a column of lists, (n, dim)."""
    column = batch.column(names[0])
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    _check(path, names[0], lengths != dim, first, lambda row: _other_length(lengths[row], dim))
    values = column.flatten()
    if values.null_count:
        missing = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, dim).any(axis=1)
        _check(path, names[0], missing, first, lambda row: (f"{dim} numbers", "a missing number"))
    numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(len(column), dim)
    return numbers


def _numbers(path: Path, batch: pa.RecordBatch, names: list[str], dim: int, first: int) -> NDArray[Any]:
    """Return the vectors of columns of numbers, (n, dim): one number in each column."""
    inputs = np.empty((len(batch), dim))
    for number, name in enumerate(names):
        column = batch.column(name)
        if column.null_count:
            missing = column.is_null().to_numpy(zero_copy_only=False)
            _check(path, name, missing, first, lambda row: ("a number", "a missing value"))
        inputs[:, number] = column.to_numpy(zero_copy_only=False)
    return inputs


def _check(
    path: Path, name: str, wrong: NDArray[np.bool_], first: int, describe: Callable[[int], tuple[str, str]]
) -> None:
    """Raise DataError for the first wrong row; `describe` returns what was expected in a row, and what was found."""
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        expected, found = describe(row)
        place = f"{path}, row {first + row}, column {name}"
        raise DataError(place, expected, found, remedy="Correct or remove the row.")


def _other_length(length: int, dim: int) -> tuple[str, str]:
    return f"a list of {dim} numbers, as in row 0", "a missing value" if length < 0 else f"a list of {length}"


def _json_payloads(path: Path, batch: pa.RecordBatch, first: int) -> list[dict[str, Any]]:
    """Return the payload of each row, from its JSON text; {} if the text is missing."""
    payloads = []
    for row, text in enumerate(batch.column(_PAYLOAD).cast(pa.large_string()).to_pylist()):
        try:
            payload = {} if text is None else orjson.loads(text)
        except orjson.JSONDecodeError:
            payload = None
        if not isinstance(payload, dict):
            place = f"{path}, row {first + row}, column {_PAYLOAD}"
            raise DataError(place, expected="a JSON object", found=repr(text)[:80])
        payloads.append(payload)
    return payloads


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of numbers, also as the storage of an extension such as a tensor."""
    kind = _storage(kind)
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests) and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))

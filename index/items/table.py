"""The ids and payloads of a version's items, in the order of the index: written in batches, mapped, found by id.

items.arrow   Arrow IPC: id (string), payload (JSON text), and the columns for filters (index.items.filters)
order.npy     uint32 (n,), int64 from 2^32 items on: positions sorted by id, for a binary search
"""

import bisect
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.arrays import is_permutation, map_array
from lookalike.index.errors import UnknownItemError
from lookalike.index.items.fields import FieldTypes
from lookalike.index.items.filters import Filter, allowed
from lookalike.index.items.ids import MAX_ID, check_ids
from lookalike.index.items.integers import INTEGERS, REMEDY, find_large, may_hold_large
from lookalike.training.array_types import Booleans, Integers
from lookalike.training.errors import ArtifactError, DataError
from lookalike.training.rows import evenly
from lookalike.training.rows.payloads import TablePayloads

__all__ = ["ITEMS", "ORDER", "ItemTable", "ItemWriter", "payload_texts", "read_items"]

ITEMS = "items.arrow"
ORDER = "order.npy"
BATCH = 1 << 14
SORTED = 1 << 20
"""About this many ids are sorted at a time, so that memory does not grow with the number of items."""
_SAMPLED = 64
_SEEN = "items.seen"
_SCHEMA = pa.schema([("id", pa.string()), ("payload", pa.string())])


class ItemWriter:
    """Writes items batch by batch to a folder; only the current batch is in memory.

    The fields are known only at the end, so `close` writes the items a second time, with the columns for filters.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._types = FieldTypes()
        self._writer = pa.ipc.new_file(str(folder / _SEEN), _SCHEMA)

    def write(self, ids: list[str], payloads: Sequence[dict[str, Any]]) -> None:
        """Append one batch. Raises DataError for an invalid id or payload (`check_ids`, `payload_texts`)."""
        check_ids(ids, self._source)
        texts = payload_texts(ids, payloads, self._source)
        self._types.see([payload for payload in payloads if payload])
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            columns = [pa.array(ids[part], pa.string()), pa.array(texts[part], pa.string())]
            self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    def close(self, last: Booleans | None = None) -> None:
        """Write the table, sort the ids, and refuse duplicate ids.

        `last`: (n,) which items to move after all others, keeping their order; None means no items.
        """
        self._writer.close()
        schema = pa.schema([*_SCHEMA, *self._types.schema()])
        with (
            pa.memory_map(str(self._folder / _SEEN)) as source,
            pa.ipc.new_file(str(self._folder / ITEMS), schema) as writer,
        ):
            reader = pa.ipc.open_file(source)
            for batch in _reordered(reader, last):
                writer.write_batch(pa.record_batch([*batch.columns, *self._cells(batch)], schema=schema))
        (self._folder / _SEEN).unlink()
        self._sort()

    def _cells(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """Return the filter columns of a batch's payloads; parses nothing if no payload has a field."""
        if not self._types.schema():
            return []
        return self._types.arrays(_parsed(batch.column("payload").to_pylist()))

    def _sort(self) -> None:
        with pa.memory_map(str(self._folder / ITEMS)) as source, (self._folder / ORDER).open("wb") as file:
            ids = pa.ipc.open_file(source).read_all().column("id")
            dtype = np.dtype(np.uint32 if len(ids) < 1 << 32 else np.int64)
            header = {"shape": (len(ids),), "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
            npy.write_array_header_1_0(file, header)
            edges = _edges(ids)
            for low, high in zip([None, *edges], [*edges, None], strict=True):
                positions, names = _between(ids, low, high)
                order = pc.sort_indices(names)
                names = names.take(order)
                same = pc.equal(names.slice(1), names.slice(0, max(0, len(names) - 1)))
                if pc.any(same).as_py():
                    field = f"{self._source}, id {names[pc.index(same, True).as_py()].as_py()!r}"
                    raise DataError(field, expected="unique ids", found="the id at least twice")
                file.write(positions[order.to_numpy()].astype(dtype).tobytes())


def _edges(ids: pa.ChunkedArray) -> list[str]:
    """Return ascending ids that split all ids into parts of about SORTED ids."""
    parts = -(-len(ids) // SORTED)
    sample = sorted(ids[int(position)].as_py() for position in evenly(len(ids), parts * _SAMPLED))
    return [sample[number * len(sample) // parts] for number in range(1, parts)]


def _between(ids: pa.ChunkedArray, low: str | None, high: str | None) -> tuple[Integers, pa.Array]:
    """Return the positions, (m,), and the ids, (m,), with low <= id < high; None means no bound."""
    first, positions, names = 0, [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for part in ids.chunks:
        inside = pa.array(np.ones(len(part), np.bool_)) if low is None else pc.greater_equal(part, low)
        if high is not None:
            inside = pc.and_(inside, pc.less(part, high))
        names.append(part.filter(inside))
        positions.append(first + np.flatnonzero(inside.to_numpy(zero_copy_only=False)))
        first += len(part)
    return np.concatenate(positions), pa.concat_arrays(names)


class _Texts:
    """A column of texts, decoded directly from the mapped bytes: pyarrow creates several objects for each text."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Raises TypeError for a column of another type than string, or with nulls."""
        if column.type != pa.string() or column.null_count:
            raise TypeError(f"a column of {column.type} with {column.null_count} nulls")
        self._starts = [0, *accumulate(len(part) for part in column.chunks)]
        self._parts = [_ends_and_bytes(part) for part in column.chunks]

    def bytes_at(self, position: int) -> memoryview:
        """Return a text as UTF-8, not decoded."""
        number = bisect.bisect_right(self._starts, position) - 1
        ends, content = self._parts[number]
        offset = position - self._starts[number]
        return content[ends[offset] : ends[offset + 1]]

    def at(self, position: int) -> str:
        return str(self.bytes_at(position), "utf-8")

    def several(self, positions: Sequence[int]) -> list[str]:
        """Return several texts, faster than one by one."""
        starts, parts, texts = self._starts, self._parts, list[str]()
        for position in positions:
            number = bisect.bisect_right(starts, position) - 1
            ends, content = parts[number]
            offset = position - starts[number]
            texts.append(str(content[ends[offset] : ends[offset + 1]], "utf-8"))
        return texts


def _ends_and_bytes(texts: pa.Array) -> tuple[memoryview, memoryview]:
    """Return the offsets of (n,) texts, (n + 1,) int32 beginning with the start of the first, and the bytes of all."""
    _, ends, content = texts.buffers()
    return memoryview(ends or b"").cast("i")[texts.offset :], memoryview(content or b"")


class ItemTable:
    """The items of a version, mapped from disk."""

    def __init__(self, table: pa.Table, order: NDArray[np.uint32 | np.int64]) -> None:
        self._table = table
        self._count = len(table)
        self._ids = _Texts(table.column("id"))
        self._payloads = _Texts(table.column("payload"))
        self._order = order

    def __len__(self) -> int:
        return self._count

    def id_at(self, position: int) -> str:
        return self._ids.at(position)

    def ids_at(self, positions: Sequence[int]) -> list[str]:
        return self._ids.several(positions)

    def payload_json(self, position: int) -> str:
        """Return the payload as stored: JSON text."""
        return self._payloads.at(position)

    def payloads_json(self, positions: Sequence[int]) -> list[str]:
        return self._payloads.several(positions)

    def payload_bytes(self, position: int) -> int:
        """Return the length of the payload's JSON text in bytes."""
        return len(self._payloads.bytes_at(position))

    def payload_at(self, position: int) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.payload_json(position))
        return payload

    def find(self, name: str) -> int | None:
        """Return the position of an id; None if no item has it."""
        rank = bisect.bisect_left(range(len(self)), name, key=lambda i: self.id_at(int(self._order[i])))
        found = rank < len(self) and self.id_at(int(self._order[rank])) == name
        return int(self._order[rank]) if found else None

    def order_after(self, name: str) -> NDArray[np.uint32 | np.int64]:
        """Return the positions, (m,), of the items with ids greater than `name`, ordered by id; not a copy."""
        first = bisect.bisect_right(range(len(self)), name, key=lambda i: self.id_at(int(self._order[i])))
        return self._order[first:]

    def position(self, name: str) -> int:
        """Return the position of an id. Raises UnknownItemError if no item has it."""
        position = self.find(name)
        if position is None:
            raise UnknownItemError("ids", expected="an item's id", found=repr(name[:MAX_ID]))
        return position

    def positions(self, names: Sequence[str]) -> Integers:
        """Return the positions, (n,), of n ids, in their order. Raises as `position` does."""
        return np.array([self.position(name) for name in names], np.int64)

    @property
    def fields(self) -> pa.Table:
        """The fields of the payloads as columns of index.items.fields, mapped, beside the ids and payloads."""
        return self._table

    @property
    def schema(self) -> pa.Schema:
        """The columns of the table: the fields and their kinds."""
        return self._table.schema

    def check(self, folder: Path) -> None:
        """Check every value, which `read_items` does not do. Raises ArtifactError for invalid text or positions."""
        try:
            self._table.validate(full=True)
        except pa.ArrowException as error:
            raise ArtifactError(str(folder / ITEMS), expected="intact columns", found=str(error)[:200]) from error
        if not is_permutation([self._order], len(self)):
            found = "a missing or repeated position"
            raise ArtifactError(str(folder / ORDER), expected="each position once", found=found)

    def allowed(self, filter_: Filter, beside: pa.Schema | None = None) -> Booleans:
        """Return which items pass a filter, (items,) bool; `beside` and errors as in `index.items.filters.allowed`."""
        return allowed(self._table, filter_, beside=beside)


def payload_texts(ids: list[str], payloads: Sequence[dict[str, Any]], source: str) -> list[str]:
    """Return payloads as JSON texts. Raises DataError if one is not JSON, or contains an integer out of bounds."""
    if isinstance(payloads, TablePayloads):  # its values are JSON values, without NaN
        with suppress(orjson.JSONEncodeError):
            texts = [orjson.dumps(payload).decode() for payload in payloads]
            if not any(map(may_hold_large, texts)):
                return texts
    return [_dump(payload, source, name) if payload else "{}" for name, payload in zip(ids, payloads, strict=True)]


def read_items(folder: Path) -> ItemTable:
    """Map the items of a verified folder. Raises ArtifactError if the files were not written by an ItemWriter."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(folder / ITEMS))).read_all()
        order = map_array(folder / ORDER)
        if order.dtype not in (np.uint32, np.int64) or order.shape != (len(table),):
            expected, found = f"({len(table)},) positions", f"{order.dtype} {order.shape}"
            raise ArtifactError(str(folder / ORDER), expected=expected, found=found)
        return ItemTable(table, order)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise ArtifactError(str(folder / ITEMS), expected="a table of items", found=str(error)) from error


def _reordered(reader: pa.ipc.RecordBatchFileReader, last: Booleans | None) -> Iterator[pa.RecordBatch]:
    """Yield all batches without the rows of `last`, then the rows of `last`."""
    first, late = 0, list[pa.RecordBatch]()
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        if last is not None:
            is_last = pa.array(last[first : first + len(batch)])
            late.append(batch.filter(is_last))
            batch, first = batch.filter(pc.invert(is_last)), first + len(batch)
        yield batch
    yield from late


def _parsed(texts: list[str]) -> list[dict[str, Any]]:
    """Parse payloads; orjson is several times faster, but refuses half of a surrogate pair."""
    try:
        return [orjson.loads(text) for text in texts]
    except orjson.JSONDecodeError:
        return [json.loads(text) for text in texts]


def _dump(payload: dict[str, Any], source: str, name: str) -> str:
    field = f"{source}, payload of {name!r}"
    try:
        text = json.dumps(payload, allow_nan=False, default=str, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(field, expected="JSON values", found=str(error)) from error
    if may_hold_large(text) and (large := find_large(payload, field)):
        raise DataError(large[0], expected=INTEGERS, found=large[1], remedy=REMEDY)
    return text

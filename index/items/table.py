"""Ids and payloads of a version's items, in the order of the index: written in batches, mapped, found by id.

items.arrow   Arrow IPC: id (string), payload (JSON text), and the columns that filters look in (index.items.filters)
order.npy     uint32 (n,), int64 beyond 2^32 items: positions sorted by id, so that an id is found by bisection
"""

import bisect
import json
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.arrays import is_permutation, load_array
from lookalike.index.errors import UnknownItemError
from lookalike.index.items.filters import FieldTypes, Filter, allowed
from lookalike.index.items.ids import MAX_ID, check_ids
from lookalike.index.items.integers import INTEGERS, REMEDY, find_large, may_hold_large
from lookalike.training.errors import ArtifactError, DataError
from lookalike.training.rows import evenly

__all__ = ["ITEMS", "ORDER", "ItemTable", "ItemWriter", "payload_texts", "read_items"]

ITEMS = "items.arrow"
ORDER = "order.npy"
BATCH = 1 << 14
SORTED = 1 << 20
"""So many ids, or about as many, are sorted at a time: in memory that does not grow with the items."""
_SAMPLED = 64
_SEEN = "items.seen"
_SCHEMA = pa.schema([("id", pa.string()), ("payload", pa.string())])


class ItemWriter:
    """Takes items batch by batch into a folder; nothing but the batch in hand is kept in memory.

    What fields there are is known only at the end, so `close` writes them a second time, with their columns.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._types = FieldTypes()
        self._writer = pa.ipc.new_file(str(folder / _SEEN), _SCHEMA)

    def write(self, ids: list[str], payloads: list[dict[str, Any]]) -> None:
        """Append one batch.

        Raises:
            DataError: an id or a payload that no item can have (`check_ids`, `payload_texts`).
        """
        check_ids(ids, self._source)
        texts = payload_texts(ids, payloads, self._source)
        self._types.see([payload for payload in payloads if payload])
        for start in range(0, len(ids), BATCH):
            part = slice(start, start + BATCH)
            columns = [pa.array(ids[part], pa.string()), pa.array(texts[part], pa.string())]
            self._writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))

    def close(self, last: NDArray[np.bool_] | None = None) -> None:
        """Write the table, sort the ids, and refuse one that occurs twice.

        Args:
            last: (n,) which items come after all others, in their order; None for none.
        """
        self._writer.close()
        schema = pa.schema([*_SCHEMA, *self._types.schema()])
        with (
            pa.memory_map(str(self._folder / _SEEN)) as source,
            pa.ipc.new_file(str(self._folder / ITEMS), schema) as writer,
        ):
            seen = pa.ipc.open_file(source)
            for batch in _parted(seen, last):
                writer.write_batch(pa.record_batch([*batch.columns, *self._cells(batch)], schema=schema))
        (self._folder / _SEEN).unlink()
        self._sort()

    def _cells(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """What the payloads of a batch hold, column by column; nothing is parsed where none holds anything."""
        if not self._types.schema():
            return []
        return self._types.arrays([json.loads(text) for text in batch.column("payload").to_pylist()])

    def _sort(self) -> None:
        with pa.memory_map(str(self._folder / ITEMS)) as source, (self._folder / ORDER).open("wb") as file:
            ids = pa.ipc.open_file(source).read_all().column("id")
            dtype = np.dtype(np.uint32 if len(ids) < 1 << 32 else np.int64)
            header = {"shape": (len(ids),), "fortran_order": False, "descr": npy.dtype_to_descr(dtype)}
            npy.write_array_header_1_0(file, header)
            edges = _edges(ids)
            for low, high in zip([None, *edges], [*edges, None], strict=True):
                places, names = _between(ids, low, high)
                order = pc.sort_indices(names)
                names = names.take(order)
                same = pc.equal(names.slice(1), names.slice(0, max(0, len(names) - 1)))
                if pc.any(same).as_py():
                    twice = names[pc.index(same, True).as_py()].as_py()
                    raise DataError(
                        f"{self._source}, id {twice!r}", expected="ids that differ", found="it at least twice"
                    )
                file.write(places[order.to_numpy()].astype(dtype).tobytes())


def _edges(ids: pa.ChunkedArray) -> list[str]:
    """Ids, rising, that part all into shares of about SORTED."""
    shares = -(-len(ids) // SORTED)
    sample = sorted(ids[int(place)].as_py() for place in evenly(len(ids), shares * _SAMPLED))
    return [sample[number * len(sample) // shares] for number in range(1, shares)]


def _between(ids: pa.ChunkedArray, low: str | None, high: str | None) -> tuple[NDArray[np.int64], pa.Array]:
    """The ids from `low` on and below `high`, (m,), and their positions, (m,); None is no bound."""
    first, places, names = 0, [np.empty(0, np.int64)], [pa.array([], pa.string())]
    for part in ids.chunks:
        inside = pa.array(np.ones(len(part), np.bool_)) if low is None else pc.greater_equal(part, low)
        if high is not None:
            inside = pc.and_(inside, pc.less(part, high))
        names.append(part.filter(inside))
        places.append(first + np.flatnonzero(inside.to_numpy(zero_copy_only=False)))
        first += len(part)
    return np.concatenate(places), pa.concat_arrays(names)


class _Texts:
    """A column of texts, each decoded where it is mapped: pyarrow makes several objects on its way to one of them."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Raises TypeError where it is not of strings that are all there."""
        if column.type != pa.string() or column.null_count:
            raise TypeError(f"a column of {column.type} with {column.null_count} nulls")
        self._starts = [0, *accumulate(len(part) for part in column.chunks)]
        self._parts = [_ends_and_bytes(part) for part in column.chunks]

    def at(self, position: int) -> str:
        number = bisect.bisect_right(self._starts, position) - 1
        ends, content = self._parts[number]
        place = position - self._starts[number]
        return str(content[ends[place] : ends[place + 1]], "utf-8")

    def bytes_at(self, position: int) -> int:
        """How long it is as UTF-8; it is not decoded."""
        number = bisect.bisect_right(self._starts, position) - 1
        ends, _ = self._parts[number]
        place = position - self._starts[number]
        return ends[place + 1] - ends[place]

    def several(self, positions: Sequence[int]) -> list[str]:
        """The same of several, in less time than one by one."""
        starts, parts, texts = self._starts, self._parts, list[str]()
        for position in positions:
            number = bisect.bisect_right(starts, position) - 1
            ends, content = parts[number]
            place = position - starts[number]
            texts.append(str(content[ends[place] : ends[place + 1]], "utf-8"))
        return texts


def _ends_and_bytes(texts: pa.Array) -> tuple[memoryview, memoryview]:
    """Where each of (n,) texts ends, (n + 1,) int32 from the start of the first on, and the bytes of all of them."""
    _, ends, content = texts.buffers()
    return memoryview(ends or b"").cast("i")[texts.offset :], memoryview(content or b"")


class ItemTable:
    """A version's items, mapped from disk."""

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
        """The payload as the JSON text it is kept as."""
        return self._payloads.at(position)

    def payloads_json(self, positions: Sequence[int]) -> list[str]:
        """The payloads as the JSON texts they are kept as."""
        return self._payloads.several(positions)

    def payload_bytes(self, position: int) -> int:
        """How long that text is."""
        return self._payloads.bytes_at(position)

    def payload_at(self, position: int) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.payload_json(position))
        return payload

    def find(self, name: str) -> int | None:
        """The position of an id; None where no item has it."""
        place = bisect.bisect_left(range(len(self)), name, key=lambda i: self.id_at(int(self._order[i])))
        if place < len(self) and self.id_at(int(self._order[place])) == name:
            return int(self._order[place])
        return None

    def order_after(self, name: str) -> NDArray[np.uint32 | np.int64]:
        """(m,): the positions of the items whose ids come after one, in the order of their ids; not copied."""
        first = bisect.bisect_right(range(len(self)), name, key=lambda i: self.id_at(int(self._order[i])))
        return self._order[first:]

    def position(self, name: str) -> int:
        """The position of an id.

        Raises:
            UnknownItemError: no item has it.
        """
        place = self.find(name)
        if place is None:
            raise UnknownItemError("ids", expected="an item's id", found=repr(name[:MAX_ID]))
        return place

    def positions(self, names: Sequence[str]) -> NDArray[np.int64]:
        """(n,): the positions of ids, in their order. Raises as `position` does."""
        return np.array([self.position(name) for name in names], np.int64)

    @property
    def schema(self) -> pa.Schema:
        """The columns: what fields there are, and of which kinds."""
        return self._table.schema

    def check(self, folder: Path) -> None:
        """Check every value, which `read_items` of the folder does not.

        Raises:
            ArtifactError: invalid text or offsets, or an order without each item once.
        """
        try:
            self._table.validate(full=True)
        except pa.ArrowException as error:
            raise ArtifactError(str(folder / ITEMS), expected="whole columns", found=str(error)[:200]) from error
        if not is_permutation([self._order], len(self)):
            raise ArtifactError(str(folder / ORDER), expected="each position once", found="one missing or repeated")

    def allowed(self, given: Filter, beside: pa.Schema | None = None) -> NDArray[np.bool_]:
        """(items,): which items pass a filter; `beside`: the columns of other items, which may be asked for too.

        Raises:
            QueryError: no item has a field that it asks for, or not of a kind that has a range.
        """
        return allowed(self._table, given, beside=beside)


def payload_texts(ids: list[str], payloads: list[dict[str, Any]], source: str) -> list[str]:
    """Payloads as the JSON texts that they are kept as.

    Raises:
        DataError: one is not JSON, or has an integer that is out of bounds (index.items.integers).
    """
    return [_dump(payload, source, name) if payload else "{}" for name, payload in zip(ids, payloads, strict=True)]


def read_items(folder: Path) -> ItemTable:
    """Map the items of a folder that was verified.

    Raises:
        ArtifactError: the files are not what an ItemWriter leaves.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(folder / ITEMS))).read_all()
        order = load_array(folder / ORDER, mmap_mode="r")
        if order.dtype not in (np.uint32, np.int64) or order.shape != (len(table),):
            raise ArtifactError(
                str(folder / ORDER), expected=f"({len(table)},) positions", found=f"{order.dtype} {order.shape}"
            )
        return ItemTable(table, order)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, EOFError) as error:
        raise ArtifactError(str(folder / ITEMS), expected="a table of items", found=str(error)) from error


def _parted(seen: pa.ipc.RecordBatchFileReader, last: NDArray[np.bool_] | None) -> Iterator[pa.RecordBatch]:
    """All batches, without the rows that come last; and then those."""
    first = 0
    late: list[pa.RecordBatch] = []
    for number in range(seen.num_record_batches):
        batch = seen.get_batch(number)
        if last is not None:
            out = pa.array(last[first : first + len(batch)])
            late.append(batch.filter(out))
            batch, first = batch.filter(pc.invert(out)), first + len(batch)
        yield batch
    yield from late


def _dump(payload: dict[str, Any], source: str, name: str) -> str:
    place = f"{source}, payload of {name!r}"
    try:
        text = json.dumps(payload, allow_nan=False, default=str, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(place, expected="JSON values", found=str(error)) from error
    if may_hold_large(text) and (large := find_large(payload, place)):
        raise DataError(large[0], expected=INTEGERS, found=large[1], remedy=REMEDY)
    return text

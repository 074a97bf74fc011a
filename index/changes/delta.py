"""The changes since a version was built: new items in memory, and which items of the version are deleted.

The positions of new items follow those of the version. A position is never used twice, so the hits of a search can be
looked up after the next change. A replaced item gets a new position.
"""

import heapq
import itertools
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lookalike.index.errors import UnknownItemError
from lookalike.index.items.fields import FieldTypes
from lookalike.index.items.filters import Filter, allowed
from lookalike.index.items.ids import MAX_ID
from lookalike.index.items.table import ItemTable
from lookalike.training.array_types import Booleans, Floats, Positions

__all__ = ["Delta"]

MOST_TABLES = 64  # More than this many small tables of filter columns are joined
LOOKED_AT = 1 << 12  # Items of a version that are looked at together for a page


class Delta:
    """The new items in the order of their changes, and the positions of all items by id; not thread-safe.

    Where an item is deleted or replaced, its position stays, and `gone` marks it.
    """

    def __init__(self, base: ItemTable, base_vectors: Floats, base_local_scale: Floats) -> None:
        """Start without changes to (n,) items, their embeddings, (n, dim), and their `item_distances`, (n,)."""
        self._base = base
        self._base_vectors = base_vectors
        self._base_local_scale = base_local_scale
        self._ids: list[str] = []
        self._payloads: list[str] = []
        self._places: dict[str, int] = {}
        self._vectors = np.empty((16, base_vectors.shape[1]), np.float32)
        self._local_scale = np.empty(16, np.float32)
        self._gone = np.zeros(len(base) + 16, np.bool_)
        self._columns = _Columns(base.schema)
        self._present: tuple[Positions, Floats] | None = None
        self.gone_of_base = 0

    def __len__(self) -> int:
        """The number of positions, including those of deleted items."""
        return len(self._base) + len(self._ids)

    def vectors_at(self, positions: Positions) -> Floats:
        """(..., dim) float32: the embeddings at (...) positions; any embedding at -1."""
        return _joined_at(self._base_vectors, self._vectors, np.clip(positions, 0, len(self) - 1), len(self._base))

    @property
    def new(self) -> int:
        """The number of new items."""
        return len(self._places)

    @property
    def count(self) -> int:
        """The number of all items."""
        return len(self._base) - self.gone_of_base + len(self._places)

    @property
    def changed(self) -> int:
        """The number of rows that make a search slower than in a version of the current items."""
        return len(self._ids) + self.gone_of_base

    @property
    def gone(self) -> Booleans:
        """(positions,): which items were replaced or deleted; a view, valid until the next change."""
        return self._gone[: len(self)]

    def present(self) -> tuple[Positions, Floats]:
        """Return the present new items, (m,), counted from the first new item, and their embeddings, (m, dim)."""
        if self._present is None:
            places = np.flatnonzero(~self._gone[len(self._base) : len(self)])
            self._present = places, self._vectors[places]
        return self._present

    def local_scale_at(self, positions: Positions) -> Floats:
        """(...): the `item_distances` at (...) positions; any value at -1."""
        return _joined_at(self._base_local_scale, self._local_scale, positions, len(self._base))

    def id_at(self, position: int) -> str:
        new = position - len(self._base)
        return self._base.id_at(position) if new < 0 else self._ids[new]

    def ids_at(self, positions: Sequence[int]) -> list[str]:
        if max(positions, default=0) < len(self._base):
            return self._base.ids_at(positions)
        return [self.id_at(position) for position in positions]

    def payload_json(self, position: int) -> str:
        new = position - len(self._base)
        return self._base.payload_json(position) if new < 0 else self._payloads[new]

    def payload_bytes(self, position: int) -> int:
        """Return about how many bytes the JSON text has."""
        new = position - len(self._base)
        return self._base.payload_bytes(position) if new < 0 else len(self._payloads[new])

    def payloads_json(self, positions: Sequence[int]) -> list[str]:
        if max(positions, default=0) < len(self._base):
            return self._base.payloads_json(positions)
        return [self.payload_json(position) for position in positions]

    def find(self, name: str) -> int | None:
        """Return the current position of an item; None if there is no item of that id."""
        if (place := self._places.get(name)) is not None:
            return place
        place = self._base.find(name)
        return None if place is None or self._gone[place] else place

    def positions(self, ids: Sequence[str]) -> Positions:
        """(n,): the positions of ids, in their order. Raises UnknownItemError for an id that no item has."""
        places = [self.find(name) for name in ids]
        if None in places:
            name = ids[places.index(None)]
            raise UnknownItemError("ids", expected="an item's id", found=repr(name[:MAX_ID]))
        return np.array(places, np.int64)

    def passing(self, filter_: Filter | None = None) -> Positions:
        """(n,) rising: the positions of the present items that pass a filter. Raises QueryError as `allowed`."""
        return np.flatnonzero(self._passes(filter_))

    def page(self, after: str, most: int, filter_: Filter | None = None) -> list[int]:
        """Return the positions of the next `most` items that pass a filter, ordered by id, by code point.

        Items change between pages, but each item that stays is on exactly one page. `after` is the last id of the page
        before, "" for the first page. Raises QueryError as `allowed`.
        """
        passes, found, order = self._passes(filter_), list[int](), self._base.order_after(after)
        for start in range(0, len(order), LOOKED_AT):
            some = order[start : start + LOOKED_AT]
            found += some[passes[some]][: most - len(found)].tolist()
            if len(found) == most:
                break
        new = ((name, place) for name, place in self._places.items() if name > after and passes[place])
        both = heapq.merge(((self._base.id_at(place), place) for place in found), heapq.nsmallest(most, new))
        return [place for _, place in itertools.islice(both, most)]

    def put(self, name: str, vector: Floats, local_scale: float, payload: str) -> None:
        """Add or replace an item: its embedding, (dim,), its `item_distances`, its payload as JSON text."""
        self.drop(name)
        new = len(self._ids)
        if new == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._local_scale = np.concatenate([self._local_scale, np.empty_like(self._local_scale)])
        if len(self) == len(self._gone):
            self._gone = np.concatenate([self._gone, np.zeros(len(self._vectors), np.bool_)])
        self._vectors[new], self._local_scale[new], self._present = vector, local_scale, None
        self._places[name] = len(self)
        self._ids.append(name)
        self._payloads.append(payload)

    def drop(self, name: str) -> None:
        """Delete an item, if there is one."""
        place = self.find(name)
        if place is None:
            return
        self._gone[place], self._present = True, None
        if self._places.pop(name, None) is None:
            self.gone_of_base += 1

    def allowed(self, filter_: Filter) -> tuple[Booleans, Booleans]:
        """(n,) and (m,): which items of the version and which new items pass a filter, deleted or not.

        Raises QueryError if no item has a field that the filter names, or the field's kind has no range.
        """
        table = self._columns.upto(self._payloads)
        return self._base.allowed(filter_, beside=table.schema), allowed(table, filter_, beside=self._base.schema)

    def new_fields(self) -> pa.Table:
        """Return the fields of all new items, deleted or not, as columns of index.items.fields."""
        return self._columns.upto(self._payloads)

    def _passes(self, filter_: Filter | None) -> Booleans:
        """(positions,): which positions have a present item that passes a filter."""
        return ~self.gone if filter_ is None else ~self.gone & np.concatenate(self.allowed(filter_))


class _Columns:
    """The payloads of new items as columns for filters; each payload is converted once, when a filter first needs it.

    The number of columns is limited, counting the version's columns first, as in a version of all items.
    """

    def __init__(self, base: pa.Schema) -> None:
        self._names = dict.fromkeys(base.names)
        self._tables: list[pa.Table] = []
        self._rows = 0

    def upto(self, payloads: list[str]) -> pa.Table:
        """Return the columns of all payloads, to which new payloads were only appended since the last call."""
        if self._rows < len(payloads) or not self._tables:
            types = FieldTypes(self._names)
            cells = [json.loads(text) for text in payloads[self._rows :]]
            types.see(cells)
            place = pa.array(range(self._rows, len(payloads)), pa.int64())  # a table without a column has no rows
            schema = pa.schema([("", pa.int64()), *types.schema()])
            self._tables.append(pa.Table.from_arrays([place, *types.arrays(cells)], schema=schema))
            self._names |= dict.fromkeys(schema.names)
            self._rows = len(payloads)
        if len(self._tables) > MOST_TABLES:
            self._tables = [self._joined().combine_chunks()]
        return self._joined()

    def _joined(self) -> pa.Table:
        return pa.concat_tables(self._tables, promote_options="default")


def _joined_at(base: Floats, new: Floats, positions: Positions, count: int) -> Floats:
    """Return the values at positions of two arrays, of which the first `count` positions are those of `base`."""
    if count == 0:
        return new[positions]
    values: Floats = np.asarray(base[np.minimum(positions, count - 1)])
    late = positions >= count
    if late.any():
        values[late] = new[positions[late] - count]
    return values

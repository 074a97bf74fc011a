"""What has changed since a version was built: new items beside it, in memory, and which of its own are gone.

Positions go on where those of the version end, and none is ever given twice: so what a
search found can be looked up after the next change, too. An item that is replaced stands at a new position.
"""

import heapq
import itertools
import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lookalike.index.errors import UnknownItemError
from lookalike.index.items.filters import FieldTypes, Filter, allowed
from lookalike.index.items.ids import MAX_ID
from lookalike.index.items.table import ItemTable

__all__ = ["Delta"]

FEWEST_TABLES = 64
"""Tables of few rows each, as changes come, are joined once there are so many."""
LOOKED_AT = 1 << 12
"""Items of a version that are looked at together for a page."""

Vectors = NDArray[np.float32]
Positions = NDArray[np.int64]


class Delta:
    """New items, in the order in which they came, and the places of all items by their ids; not safe to share."""

    def __init__(self, base: ItemTable, base_vectors: Vectors, base_local_scale: Vectors) -> None:
        """Beside (n,) items, their embeddings (n, dim), and their distances (n,) to others (index.versions.novelty)."""
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
        self._there: tuple[Positions, Vectors] | None = None
        self.gone_of_base = 0

    def __len__(self) -> int:
        """The number of positions, of deleted items too."""
        return len(self._base) + len(self._ids)

    def vectors_at(self, positions: Positions) -> Vectors:
        """(..., dim) float32: the embeddings at (...) positions; any embedding at -1."""
        return _either(self._base_vectors, self._vectors, np.clip(positions, 0, len(self) - 1), len(self._base))

    @property
    def new(self) -> int:
        """How many new items there are."""
        return len(self._places)

    @property
    def count(self) -> int:
        """How many items there are in all."""
        return len(self._base) - self.gone_of_base + len(self._places)

    @property
    def changed(self) -> int:
        """How many rows a search looks at, or over, that it would not in a version of what there is now."""
        return len(self._ids) + self.gone_of_base

    @property
    def gone(self) -> NDArray[np.bool_]:
        """(positions,): which items were replaced or deleted; a view, which is not to be kept."""
        return self._gone[: len(self)]

    def there(self) -> tuple[Positions, Vectors]:
        """Which of the new items are there, (m,), counted from the first of them; and their embeddings, (m, dim)."""
        if self._there is None:
            places = np.flatnonzero(~self._gone[len(self._base) : len(self)])
            self._there = places, self._vectors[places]
        return self._there

    def local_scale_at(self, positions: Positions) -> Vectors:
        """(...): the `item_distances` at (...) positions; any value at -1."""
        return _either(self._base_local_scale, self._local_scale, positions, len(self._base))

    def id_at(self, position: int) -> str:
        new = position - len(self._base)
        return self._base.id_at(position) if new < 0 else self._ids[new]

    def ids_at(self, positions: Sequence[int]) -> list[str]:
        if max(positions, default=0) < len(self._base):
            return self._base.ids_at(positions)
        return [self.id_at(position) for position in positions]

    def payload_json(self, position: int) -> str:
        """The payload as the JSON text it is kept as."""
        new = position - len(self._base)
        return self._base.payload_json(position) if new < 0 else self._payloads[new]

    def payload_bytes(self, position: int) -> int:
        """How long that text is, about."""
        new = position - len(self._base)
        return self._base.payload_bytes(position) if new < 0 else len(self._payloads[new])

    def payloads_json(self, positions: Sequence[int]) -> list[str]:
        """The payloads as the JSON texts they are kept as."""
        if max(positions, default=0) < len(self._base):
            return self._base.payloads_json(positions)
        return [self.payload_json(position) for position in positions]

    def find(self, name: str) -> int | None:
        """Where an item stands now; None where there is none of that id."""
        place = self._places.get(name)
        if place is not None:
            return place
        place = self._base.find(name)
        return None if place is None or self._gone[place] else place

    def positions(self, names: Sequence[str]) -> Positions:
        """(n,): the positions of ids, in their order.

        Raises:
            UnknownItemError: no item has one of them.
        """
        places = [self.find(name) for name in names]
        if None in places:
            name = names[places.index(None)]
            raise UnknownItemError("ids", expected="an item's id", found=repr(name[:MAX_ID]))
        return np.array(places, np.int64)

    def passing(self, given: Filter | None = None) -> Positions:
        """(n,) rising: where the items stand that are there now, and pass a filter.

        Raises:
            QueryError: as `allowed`.
        """
        return np.flatnonzero(self._passes(given))

    def page(self, after: str, most: int, given: Filter | None = None) -> list[int]:
        """Where the next items stand in the order of their ids, by code point: those after one, "" for the first.

        Of items that come and go meanwhile, pages show each that stays exactly once. Raises as `passing`.
        """
        passes, found, order = self._passes(given), list[int](), self._base.order_after(after)
        for start in range(0, len(order), LOOKED_AT):
            some = order[start : start + LOOKED_AT]
            found += some[passes[some]][: most - len(found)].tolist()
            if len(found) == most:
                break
        new = ((name, place) for name, place in self._places.items() if name > after and passes[place])
        both = heapq.merge(((self._base.id_at(place), place) for place in found), heapq.nsmallest(most, new))
        return [place for _, place in itertools.islice(both, most)]

    def put(self, name: str, vector: Vectors, local_scale: float, payload: str) -> None:
        """Make or replace an item: its embedding (dim,), its `item_distances`, its payload as JSON text."""
        self.drop(name)
        new = len(self._ids)
        if new == len(self._vectors):
            self._vectors, self._local_scale = _doubled(self._vectors), _doubled(self._local_scale)
        if len(self) == len(self._gone):
            self._gone = np.concatenate([self._gone, np.zeros(len(self._vectors), np.bool_)])
        self._vectors[new], self._local_scale[new], self._there = vector, local_scale, None
        self._places[name] = len(self)
        self._ids.append(name)
        self._payloads.append(payload)

    def drop(self, name: str) -> None:
        """Delete an item; it is no error that there is none."""
        place = self.find(name)
        if place is None:
            return
        self._gone[place], self._there = True, None
        if self._places.pop(name, None) is None:
            self.gone_of_base += 1

    def allowed(self, given: Filter) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n,) and (m,): which items of the version and which new ones pass a filter, gone or not.

        Raises:
            QueryError: no item has a field that it asks for, or not of a kind that has a range.
        """
        table = self._columns.upto(self._payloads)
        return self._base.allowed(given, beside=table.schema), allowed(table, given, beside=self._base.schema)

    def _passes(self, given: Filter | None) -> NDArray[np.bool_]:
        """(positions,): which of them hold an item that is there now, and passes a filter."""
        return ~self.gone if given is None else ~self.gone & np.concatenate(self.allowed(given))


class _Columns:
    """The payloads as columns for filters, made when they are first asked for, and only of what is new since.

    How many fields become columns is limited over all, the version's own first, as in a version of both.
    """

    def __init__(self, base: pa.Schema) -> None:
        self._names = dict.fromkeys(base.names)
        self._tables: list[pa.Table] = []
        self._rows = 0

    def upto(self, payloads: list[str]) -> pa.Table:
        """Of all of them, of which those that were there before have not changed."""
        if self._rows < len(payloads) or not self._tables:
            types = FieldTypes(self._names)
            cells = [json.loads(text) for text in payloads[self._rows :]]
            types.see(cells)
            place = pa.array(range(self._rows, len(payloads)), pa.int64())  # a table without a column has no rows
            schema = pa.schema([("", pa.int64()), *types.schema()])
            self._tables.append(pa.Table.from_arrays([place, *types.arrays(cells)], schema=schema))
            self._names |= dict.fromkeys(schema.names)
            self._rows = len(payloads)
        if len(self._tables) > FEWEST_TABLES:
            self._tables = [self._joined().combine_chunks()]
        return self._joined()

    def _joined(self) -> pa.Table:
        return pa.concat_tables(self._tables, promote_options="default")


def _either(base: Vectors, new: Vectors, positions: Positions, count: int) -> Vectors:
    """What stands at positions of two arrays, one after the other."""
    if count == 0:
        return new[positions]
    values: Vectors = np.asarray(base[np.minimum(positions, count - 1)])
    late = positions >= count
    if late.any():
        values[late] = new[positions[late] - count]
    return values


def _doubled(values: Vectors) -> Vectors:
    return np.concatenate([values, np.empty_like(values)])

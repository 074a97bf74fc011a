"""Ids and payloads of a version's items, in the order of the index: written in batches, found by id.

items.arrow   Arrow IPC: id (string), payload (JSON text)
order.npy     int64 (n,): positions sorted by id, so that an id is found by bisection
"""

import bisect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from index.errors import UnknownItemError
from training.errors import ArtifactError, DataError

__all__ = ["ITEMS", "ORDER", "ItemTable", "ItemWriter", "read_items"]

ITEMS = "items.arrow"
ORDER = "order.npy"
MAX_ID = 256
_SCHEMA = pa.schema([("id", pa.large_string()), ("payload", pa.large_string())])


class ItemWriter:
    """Appends items to a folder; nothing but the batch in hand is kept in memory."""

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._file = pa.OSFile(str(folder / ITEMS), "wb")
        self._writer = pa.ipc.new_file(self._file, _SCHEMA)

    def write(self, ids: list[str], payloads: list[dict[str, Any]]) -> None:
        """Append one batch.

        Raises:
            DataError: an id is empty, too long or not printable, or a payload is not JSON.
        """
        for name in ids:
            if not (0 < len(name) <= MAX_ID and name.isprintable()):
                raise DataError(
                    f"{self._source}, id {name[:40]!r}",
                    expected=f"1 to {MAX_ID} printable characters",
                    found=f"{len(name)} characters",
                )
        texts = [_dump(payload, self._source, name) for name, payload in zip(ids, payloads, strict=True)]
        self._writer.write_batch(
            pa.record_batch([pa.array(ids, pa.large_string()), pa.array(texts, pa.large_string())], schema=_SCHEMA)
        )

    def close(self) -> None:
        """Finish the file, sort the ids and refuse one that occurs twice."""
        self._writer.close()
        self._file.close()
        with pa.memory_map(str(self._folder / ITEMS)) as source:
            ids = pa.ipc.open_file(source).read_all().column("id").combine_chunks()
        order = pc.sort_indices(ids)
        ordered = ids.take(order)
        same = pc.equal(ordered.slice(1), ordered.slice(0, max(0, len(ids) - 1)))
        if pc.any(same).as_py():
            twice = ordered[pc.index(same, True).as_py()].as_py()
            raise DataError(f"{self._source}, id {twice!r}", expected="ids that differ", found="it at least twice")
        np.save(self._folder / ORDER, order.to_numpy().astype(np.int64))


class ItemTable:
    """A version's items, in memory."""

    def __init__(self, table: pa.Table, order: NDArray[np.int64]) -> None:
        self._ids = table.column("id").combine_chunks()
        self._payloads = table.column("payload").combine_chunks()
        self._order = order

    def __len__(self) -> int:
        return len(self._ids)

    def id_at(self, position: int) -> str:
        return str(self._ids[position].as_py())

    def payload_json(self, position: int) -> str:
        """The payload as the JSON text it is kept as."""
        return str(self._payloads[position].as_py())

    def payload_at(self, position: int) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.payload_json(position))
        return payload

    def position(self, name: str) -> int:
        """The position of an id.

        Raises:
            UnknownItemError: no item has it.
        """
        place = bisect.bisect_left(range(len(self)), name, key=lambda i: self.id_at(int(self._order[i])))
        if place < len(self) and self.id_at(int(self._order[place])) == name:
            return int(self._order[place])
        raise UnknownItemError("ids", expected="an item's id", found=repr(name[:MAX_ID]))

    def positions(self, names: list[str]) -> NDArray[np.int64]:
        """(n,): the positions of ids, in their order. Raises as `position` does."""
        return np.array([self.position(name) for name in names], np.int64)


def read_items(folder: Path) -> ItemTable:
    """The items of a folder that was verified.

    Raises:
        ArtifactError: the files are not what an ItemWriter leaves.
    """
    try:
        table = pa.ipc.open_file(pa.BufferReader((folder / ITEMS).read_bytes())).read_all()
        order = np.load(folder / ORDER, allow_pickle=False)
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        raise ArtifactError(str(folder / ITEMS), expected="a table of items", found=str(error)) from error
    return ItemTable(table, order)


def _dump(payload: dict[str, Any], source: str, name: str) -> str:
    try:
        return json.dumps(payload, allow_nan=False, default=str, separators=(",", ":"))
    except (ValueError, TypeError) as error:
        raise DataError(f"{source}, payload of {name!r}", expected="JSON values", found=str(error)) from error

"""All items that there are now into a Parquet file, for other tools.

F.parquet                 id, payload (JSON text), embedding (float32, a list of fixed size); in its metadata under
                          "lookalike": the version, the sequence number of the last change, the metric
F.parquet.parts/          while it is made: the items of the version as they lie, gone or not, in parts

A version never changes, so parts that an interrupted export left are used by the next one, whatever was put or
deleted in between. What is new since the version is in memory anyway, and comes last.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.errors import JobError
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.choices import DeviceName
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.sealed import locked, replacing

__all__ = ["ExportResult", "export"]

ROWS = 1 << 15
"""Items of a part."""
BYTES = 1 << 25
"""Of a part's embeddings, at most."""

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class ExportResult:
    """How many items, of which version, and up to which change of the change log."""

    items: int
    version: int
    sequence: int


def export(store: Store, out: Path, *, device: DeviceName = "cpu") -> ExportResult:
    """Write all items to `out`, which appears whole or not at all, and replaces what is there only when it is whole.

    Interrupted, it goes on where it was when it is called again.

    Raises:
        StoreError: there is no champion.
        DataError: `out` is no path of a .parquet file to write.
        JobError: another export writes to it.
        ArtifactError: the version or the log is damaged.
    """
    _check_path(out)
    collection = open_collection(store, store.champion_number(), device)
    with _workplace(out, collection.version) as parts:
        base = len(collection.version.items)
        with progress_bar("exporting, the version's items", base, "items") as advance:
            for places in _spans(0, base, collection.encoder.latent_dim):
                known = _write_part(parts, collection, places)
                advance(len(places), "had before" if known else "")
        _join(parts, collection, out)
    return ExportResult(collection.items.count, collection.number, collection.applied)


def _check_path(out: Path) -> None:
    if out.suffix != ".parquet" or not out.parent.is_dir():
        raise DataError(str(out), expected="a .parquet file in a folder that exists", found="another path")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise DataError(str(out), expected="a new file, or a plain one to replace", found="something else")


@contextmanager
def _workplace(out: Path, version: Version) -> Iterator[Path]:
    """The folder for parts of a version, for one export at a time; removed unless it is interrupted."""
    folder = out.with_name(f"{out.name}.parts")
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder, wait=False):
            parts = folder / f"{version.number:06d}-{version.sealed.digest[:16]}"
            for other in folder.iterdir():
                if other != parts:
                    shutil.rmtree(other)
            parts.mkdir(exist_ok=True)
            yield parts
            shutil.rmtree(folder)
    except BlockingIOError:
        remedy = "Wait until it is done."
        raise JobError(str(out), expected="no other export to it", found="one at work", remedy=remedy) from None


def _spans(first: int, stop: int, dim: int) -> Iterator[Positions]:
    size = max(1, min(ROWS, BYTES // (4 * dim)))
    for start in range(first, stop, size):
        yield np.arange(start, min(stop, start + size))


def _part_at(parts: Path, places: Positions) -> Path:
    return parts / f"{places[0]}-{places[-1]}.parquet"


def _write_part(parts: Path, collection: Collection, places: Positions) -> bool:
    """Unless it is there already; returns whether it was."""
    path = _part_at(parts, places)
    if path.exists():
        return True
    with replacing(path) as new:
        pq.write_table(_table(collection, places), new, write_page_checksum=True)
    return False


def _read_part(parts: Path, collection: Collection, places: Positions) -> pa.Table:
    """What stands in it, or where that is damaged, should."""
    try:
        return pq.read_table(_part_at(parts, places), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return _table(collection, places)


def _join(parts: Path, collection: Collection, out: Path) -> None:
    """What is there of the parts, and what is new, in one file."""
    items, dim = collection.items, collection.encoder.latent_dim
    base = len(collection.version.items)
    told = {"version": collection.number, "sequence": collection.applied, "metric": collection.metric}
    schema = _schema(dim).with_metadata({"lookalike": json.dumps(told)})
    with (
        replacing(out) as new,
        progress_bar("exporting, all", items.count, "items") as advance,
        pq.ParquetWriter(new, schema) as writer,
    ):
        for places in _spans(0, base, dim):
            table = _read_part(parts, collection, places).filter(pa.array(~items.gone[places]))
            writer.write_table(table)
            advance(len(table))
        for places in _spans(base, len(items), dim):
            present = places[~items.gone[places]]
            writer.write_table(_table(collection, present))
            advance(len(present))


def _schema(dim: int) -> pa.Schema:
    return pa.schema([("id", pa.string()), ("payload", pa.string()), ("embedding", pa.list_(pa.float32(), dim))])


def _table(collection: Collection, places: Positions) -> pa.Table:
    items, schema = collection.items, _schema(collection.encoder.latent_dim)
    values = pa.array(collection.vectors_at(places).reshape(-1))
    columns = [
        pa.array([items.id_at(place) for place in places.tolist()], pa.string()),
        pa.array([items.payload_json(place) for place in places.tolist()], pa.string()),
        pa.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)

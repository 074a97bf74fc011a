"""Export all current items into a Parquet file, for other tools.

F.parquet                 id, payload (JSON text), embedding (float32, a list of fixed size), and a typed column
                          payload.FIELD for each field of the payloads whose values have one kind; its metadata contain
                          under "lookalike" the version, the sequence number of the last change, and the metric
F.parquet.parts/          during the export: all items of the version, deleted or not, in parts

A version never changes, so an export uses the parts that an interrupted one left, even if items were put or deleted in
between. The new items since the version are in memory, and are written last.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.errors import JobError
from lookalike.index.items.fields import SINGLE, TYPES, fields_in
from lookalike.index.versions.embed import check_output
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Positions
from lookalike.training.choices import DeviceName
from lookalike.training.errors import DataError
from lookalike.training.progress import progress_bar
from lookalike.training.sealed import locked, replacing

__all__ = ["ExportResult", "export"]

LISTS = [f"{kind}s" for kind in SINGLE]
ROWS = 1 << 15  # Items of a part
BYTES = 1 << 25  # At most this many bytes of embeddings in a part


@dataclass(frozen=True)
class ExportResult:
    """The number of items, their version, and the last change that is included."""

    items: int
    version: int
    sequence: int


def export(store: Store, out: Path, *, device: DeviceName = "cpu") -> ExportResult:
    """Write all items to `out`, which appears, or is replaced, only when it is whole.

    After an interruption, the next call continues. Raises StoreError if there is no champion, DataError if `out` is no
    .parquet file that can be written, JobError if another export writes to it, and ArtifactError if the version or the
    log is damaged.
    """
    if out.suffix != ".parquet":
        raise DataError(str(out), expected="a .parquet file in a folder that exists", found="another path")
    check_output(out)
    collection = open_collection(store, store.champion_number(), device)
    with _parts_folder(out, collection.version) as parts:
        base = len(collection.version.items)
        with progress_bar("exporting, the version's items", base, "items") as advance:
            for places in _spans(0, base, collection.encoder.latent_dim):
                part = _part_at(parts, places)
                if not (is_cached := part.exists()):
                    with replacing(part) as new:
                        pq.write_table(_table(collection, places), new, write_page_checksum=True)
                advance(len(places), "cached" if is_cached else "")
        _join(parts, collection, out)
    return ExportResult(collection.items.count, collection.number, collection.applied)


@contextmanager
def _parts_folder(out: Path, version: Version) -> Iterator[Path]:
    """Yield the folder for parts of a version, for one export at a time; it is removed unless it is interrupted."""
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
        raise JobError(str(out), "no other export to it", "one at work", remedy="Wait until it is done.") from None


def _spans(first: int, stop: int, dim: int) -> Iterator[Positions]:
    size = max(1, min(ROWS, BYTES // (4 * dim)))
    for start in range(first, stop, size):
        yield np.arange(start, min(stop, start + size))


def _part_at(parts: Path, places: Positions) -> Path:
    return parts / f"{places[0]}-{places[-1]}.parquet"


def _read_part(parts: Path, collection: Collection, places: Positions) -> pa.Table:
    """Read a part; if the file is damaged, make its table again."""
    try:
        return pq.read_table(_part_at(parts, places), page_checksum_verification=True)
    except (pa.ArrowException, OSError):
        return _table(collection, places)


def _join(parts: Path, collection: Collection, out: Path) -> None:
    """Write the present items of all parts, and the new items, to one file."""
    items, dim = collection.items, collection.encoder.latent_dim
    base = len(collection.version.items)
    metadata = {"version": collection.number, "sequence": collection.applied, "metric": collection.metric}
    kinds = _kinds([*collection.version.items.schema.names, *items.new_fields().schema.names])
    schema = _schema(dim, kinds).with_metadata({"lookalike": json.dumps(metadata)})
    with (
        replacing(out) as new,
        progress_bar("exporting, all", items.count, "items") as advance,
        pq.ParquetWriter(new, schema) as writer,
    ):
        for places in _spans(0, base, dim):
            table = _read_part(parts, collection, places).filter(pa.array(~items.gone[places]))
            writer.write_table(_cast(table, schema))
            advance(len(table))
        for places in _spans(base, len(items), dim):
            present = places[~items.gone[places]]
            writer.write_table(_cast(_table(collection, present), schema))
            advance(len(present))


def _kinds(names: list[str]) -> dict[str, str]:
    """Return the fields with one kind of values, by columns as index.items.fields names them.

    Integers and other numbers together are numbers; a field with values of other kinds is in the JSON text only.
    """
    kinds = {field: {kind for kind in TYPES if f"{kind}:{field}" in names} for field in fields_in(names)}
    for seen in kinds.values():
        if "number" in seen:
            seen.discard("integer")
        if len(seen) == 2 and "other" in seen and any(kind in seen for kind in LISTS):
            seen.discard("other")
    return {field: next(iter(seen)) for field, seen in kinds.items() if len(seen) == 1 and seen != {"other"}}


def _schema(dim: int, kinds: dict[str, str]) -> pa.Schema:
    fields = [(f"payload.{field}", TYPES[kind]) for field, kind in kinds.items()]
    head = [("id", pa.string()), ("payload", pa.string())]
    return pa.schema([*head, *fields, ("embedding", pa.list_(pa.float32(), dim))])


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns of the schema: cast, and null if the table lacks one."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _table(collection: Collection, places: Positions) -> pa.Table:
    """Return some items, either all of the version or all new, with the fields that their payloads have."""
    items, positions = collection.items, places.tolist()
    fields, base = collection.version.items.fields, len(collection.version.items)
    if len(places) and places[0] >= base:
        fields, places_in = items.new_fields(), places - base
    else:
        places_in = places
    kinds = _kinds(fields.column_names)
    schema = _schema(collection.encoder.latent_dim, kinds)
    values = pa.array(collection.vectors_at(places).reshape(-1))
    typed = [_field(fields, field, kind).take(pa.array(places_in)) for field, kind in kinds.items()]
    columns = [
        pa.array(items.ids_at(positions), pa.string()),
        pa.array(items.payloads_json(positions), pa.string()),
        *typed,
        pa.FixedSizeListArray.from_arrays(values, type=schema.field("embedding").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _field(table: pa.Table, field: str, kind: str) -> pa.ChunkedArray:
    """Return the values of a field; integers among other numbers are numbers, too."""
    values = table.column(f"{kind}:{field}")
    if kind == "number" and f"integer:{field}" in table.column_names:
        return pc.coalesce(values, table.column(f"integer:{field}").cast(pa.float64(), safe=False))
    return values

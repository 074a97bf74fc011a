"""Files of `lookalike export`, read again."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.exporting import export
from lookalike.index.changes.importing import import_rows
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.config import load_config
from lookalike.training.errors import DataError
from lookalike.training.fit.job import train
from lookalike.training.rows import Chunk, Rows, open_rows
from tests.mixed import mixed, write_csv
from tests.photos import photo_store

QUICK = ["fit.epochs=1", "fit.device=cpu", "data.text=['note']", "data.id=key", "data.label=animal"]


def all_of(rows: Rows) -> Chunk:
    chunks = list(rows.chunks(100))
    payloads = [payload for chunk in chunks for payload in chunk.payloads]
    return Chunk([name for c in chunks for name in c.ids], np.concatenate([c.inputs for c in chunks]), payloads)


@pytest.mark.slow
def test_an_exported_table_is_read_and_imported_as_the_table_was(tmp_path: Path) -> None:
    columns = mixed(240)
    columns["key"] = columns.pop("id")
    del columns["label"]
    columns["since"] = [f"2024-03-{1 + n % 31:02d} {n % 24:02d}:30" for n in range(240)]
    columns["empty"] = [None] * 240
    table, config = write_csv(tmp_path / "t.csv", columns), load_config(None, QUICK)
    run = train(open_rows(str(table), config.data), config, tmp_path / "run")
    spec, store = run.encoder.inputs, Store(tmp_path / "store")
    assert {"since", "note", "weight", "tame", "colour"} <= {column.field for column in spec.columns}
    store.promote(build(open_rows(str(table), spec=spec), run.folder, store, target=Target(key="Flat"), device="cpu"))
    export(store, tmp_path / "e.parquet")

    first, again = open_rows(str(table), spec=spec), open_rows(str(tmp_path / "e.parquet"), spec=spec)
    told, expected = all_of(again), all_of(first)
    order = [told.ids.index(name) for name in expected.ids]
    assert np.array_equal(told.inputs[order], expected.inputs, equal_nan=True)
    assert [told.payloads[place] for place in order] == list(expected.payloads)
    done = import_rows(again, store)
    assert (done.rows, done.replaced) == (240, 240)
    chosen = open_rows(str(tmp_path / "e.parquet"), config.data)
    assert {column.field for column in chosen.columns} == {column.field for column in spec.columns}


def test_the_fields_are_those_of_the_payloads(tmp_path: Path) -> None:
    payloads = ['{"a": 1, "b": "x"}', None, '{"a": 2.5, "c": [1, 2], "id": "other"}']
    columns = {"id": list("pqr"), "payload": payloads, "payload.b": ["x", None, None], "embedding": [[1.0]] * 3}
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    chunk = all_of(open_rows(str(tmp_path / "e.parquet"), spec=None))
    assert chunk.ids == list("pqr")
    assert chunk.payloads == [
        {"a": 1.0, "b": "x", "c": None},
        {"a": None, "b": None, "c": None},
        {"a": 2.5, "b": None, "c": [1, 2]},
    ]
    pq.write_table(pa.table({**columns, "payload": ['{"a": 1}', "{}", '{"a": "x"}']}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="row 2: expected one JSON object per line, each field with one type"):
        open_rows(str(tmp_path / "f.parquet"))


def test_an_export_has_no_inputs_for_an_encoder_of_photos(tmp_path: Path) -> None:
    store = photo_store(tmp_path)
    export(store, tmp_path / "e.parquet")
    assert json.loads(pq.read_table(tmp_path / "e.parquet")["payload"][0].as_py())["width"] == 12
    with pytest.raises(
        DataError, match=r"found a file of `lookalike export`, .* Import the data that the items come from"
    ):
        open_rows(str(tmp_path / "e.parquet"), spec=store.open_champion().encoder.inputs)

"""An export contains the items that a search can find; its file is replaced only when it is whole."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lookalike.index.ann.target import Target
from lookalike.index.changes import exporting
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.exporting import export
from lookalike.index.errors import JobError, StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.errors import DataError
from lookalike.training.sealed import locked
from tests.factories import cloud, encoder_at, flip, log_changes, made_rows

COUNT, WIDTH = 50, 4
ROW = np.array([4, 3, 2, 1], np.float32)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The champion does not change a row; a part holds seven items."""
    monkeypatch.setattr(exporting, "ROWS", 7)
    made = Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32))
    build(made_rows(cloud(COUNT, WIDTH)), encoder, made, metric="l2", target=Target(key="Flat"), device="cpu")
    made.promote(1)
    yield made
    assert not list(tmp_path.glob(".lookalike-*"))


def wanted() -> dict[str, tuple[NDArray[np.float32], dict[str, Any]]]:
    """The row, which is its embedding, and the payload of each item by id."""
    return {f"row-{i}": (row, {"number": i}) for i, row in enumerate(cloud(COUNT, WIDTH))}


def assert_exported(path: Path, items: dict[str, tuple[NDArray[np.float32], dict[str, Any]]]) -> None:
    table = pq.read_table(path)
    kinds = {name: str(table.schema.field(name).type) for name in ("id", "payload", "embedding")}
    assert kinds == {"id": "string", "payload": "string", "embedding": f"fixed_size_list<element: float>[{WIDTH}]"}
    fields = [name.removeprefix("payload.") for name in table.column_names if name.startswith("payload.")]
    for row in table.to_pylist():
        payload = json.loads(row["payload"])
        assert {name: row[f"payload.{name}"] for name in fields} == {name: payload.get(name) for name in fields}
        assert payload.keys() <= set(fields)
    ids = table["id"].to_pylist()
    assert sorted(ids) == sorted(items)
    assert [json.loads(text) for text in table["payload"].to_pylist()] == [items[name][1] for name in ids]
    embeddings = np.array(table["embedding"].to_pylist(), np.float32).reshape(-1, WIDTH)
    expected = np.array([items[name][0] for name in ids], np.float32).reshape(-1, WIDTH)
    np.testing.assert_allclose(embeddings, expected, rtol=1e-6)


def test_fields_of_one_kind_are_typed_columns(tmp_path: Path) -> None:
    made, out = Store(tmp_path / "store"), tmp_path / "F.parquet"
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32))
    payloads: list[dict[str, Any]] = [
        {"n": 1, "x": 0.5, "kind": "a", "on": True, "tags": ["u", "v"], "mixed": 1, "size": 3, "in": {"deep": 1}},
        {"n": None, "x": 2, "kind": None, "on": False, "tags": [], "mixed": "one", "id": "other"},
    ]
    build(
        made_rows(cloud(2, WIDTH), None, payloads), encoder, made, metric="l2", target=Target(key="Flat"), device="cpu"
    )
    made.promote(1)
    log_changes(made.folder, Change("new", ROW, '{"n": 7, "size": "XL", "late": 1.5, "x": 4}'))
    export(made, out)
    table = pq.read_table(out)
    typed = {field.name.removeprefix("payload."): str(field.type) for field in table.schema if "payload." in field.name}
    # mixed and size have numbers and texts, and in is an object: they are in the JSON text only.
    assert typed == {
        "n": "int64",
        "x": "double",
        "kind": "string",
        "on": "bool",
        "tags": "list<element: string>",
        "in.deep": "int64",
        "id": "string",
        "late": "double",
    }
    columns = {name: table[f"payload.{name}"].to_pylist() for name in typed}
    assert columns["n"] == [1, None, 7]
    assert columns["x"] == [0.5, 2.0, 4.0]
    assert columns["kind"] == ["a", None, None]
    assert columns["tags"] == [["u", "v"], None, None]
    assert (columns["in.deep"], columns["id"], columns["late"]) == (
        [1, None, None],
        [None, "other", None],
        [None, None, 1.5],
    )
    assert json.loads(table["payload"][1].as_py()) == payloads[1]


def test_exports_all_current_items(store: Store, tmp_path: Path) -> None:
    items, out = wanted(), tmp_path / "F.parquet"
    done = export(store, out)
    assert (done.items, done.version, done.sequence) == (COUNT, 1, 0)
    assert_exported(out, items)

    log_changes(
        store.folder,
        Change("row-3", ROW, '{"a": "ü\\n"}'),
        Change("row-9"),
        Change("new", ROW, "{}"),
        Change("gone", ROW, "{}"),
    )
    log_changes(store.folder, Change("gone"), Change("row-9", 2 * ROW, "{}"), Change("row-9"), Change("none such"))
    items |= {"row-3": (ROW, {"a": "ü\n"}), "new": (ROW, {})}
    del items["row-9"]
    done = export(store, out)
    assert (done.items, done.version, done.sequence) == (COUNT, 1, 8)
    assert_exported(out, items)
    told = json.loads(pq.read_schema(out).metadata[b"lookalike"])
    assert told == {"version": 1, "sequence": 8, "metric": "l2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F.parquet", "encoder", "store"]


def test_exports_the_embeddings_of_a_search(store: Store, tmp_path: Path) -> None:
    """For the metric cosine, unit vectors."""
    encoder = encoder_at(tmp_path / "other", 3 * np.eye(WIDTH, dtype=np.float32))
    build(made_rows(cloud(COUNT, WIDTH)), encoder, store, target=Target(key="Flat"), device="cpu")
    store.promote(2)
    export(store, tmp_path / "F.parquet")
    assert_exported(
        tmp_path / "F.parquet", {name: (row / np.linalg.norm(row), told) for name, (row, told) in wanted().items()}
    )


def test_exports_no_items_if_all_are_deleted(store: Store, tmp_path: Path) -> None:
    log_changes(store.folder, *(Change(name) for name in wanted()))
    assert export(store, tmp_path / "F.parquet").items == 0
    assert_exported(tmp_path / "F.parquet", {})


def interrupted(store: Store, out: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Interrupt an export after a number of parts."""
    table = exporting._table
    with monkeypatch.context() as patched:
        left = iter(range(after))

        def stop(*given: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return table(*given)

        patched.setattr(exporting, "_table", stop)
        with pytest.raises(KeyboardInterrupt):
            export(store, out)


def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows of each table that is made from now on."""
    counts, table = [], exporting._table

    def counted(collection: Any, places: NDArray[np.int64]) -> Any:
        counts.append(len(places))
        return table(collection, places)

    monkeypatch.setattr(exporting, "_table", counted)
    return counts


def test_an_interrupted_export_continues_with_the_current_items(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, out = wanted(), tmp_path / "F.parquet"
    out.write_bytes(b"before")
    interrupted(store, out, monkeypatch, after=5)
    assert out.read_bytes() == b"before"
    # an item of a part that is written, and an item of a part that is not
    log_changes(store.folder, Change("row-3"), Change("row-40", ROW, "{}"))
    del items["row-3"]
    items["row-40"] = ROW, {}
    counts = written(monkeypatch)
    export(store, out)
    assert counts == [7, 7, 1, 1]  # 35 of the version's 50 items were written before; the last one is the new item
    assert_exported(out, items)
    assert not (tmp_path / "F.parquet.parts").exists()


def test_parts_of_another_store_are_not_used(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, other = tmp_path / "F.parquet", Store(tmp_path / "other")
    encoder = tmp_path / "encoder"
    build(made_rows(1 + cloud(COUNT, WIDTH)), encoder, other, metric="l2", target=Target(key="Flat"), device="cpu")
    other.promote(1)
    interrupted(other, out, monkeypatch, after=5)
    export(store, out)
    assert_exported(out, wanted())
    shutil.rmtree(other.folder)


def test_a_damaged_part_is_made_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "F.parquet"
    interrupted(store, out, monkeypatch, after=5)
    cut, *others = sorted((tmp_path / "F.parquet.parts").glob("*/*.parquet"))
    cut.write_bytes(b"")
    for part in others:
        flip(part, part.stat().st_size // 3)
    export(store, out)
    assert_exported(out, wanted())


def test_a_second_export_at_the_same_time_is_refused(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "F.parquet.parts"
    folder.mkdir()
    with locked(folder), pytest.raises(JobError, match="no other export to it"):
        export(store, tmp_path / "F.parquet")
    export(store, tmp_path / "F.parquet")  # the lock of a killed process is released


@pytest.mark.parametrize("name", ["F.csv", "none/F.parquet", "folder.parquet", "link.parquet"])
def test_a_path_that_cannot_be_written_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "link.parquet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=name):
        export(store, tmp_path / name)


def test_without_a_champion_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a promoted version"):
        export(Store(tmp_path), tmp_path / "F.parquet")


def test_a_compaction_exports_the_same_items(store: Store, tmp_path: Path) -> None:
    from lookalike.index.changes.compact import compact

    log_changes(store.folder, Change("row-3"), Change("new", ROW, '{"n":1}'))
    export(store, tmp_path / "before.parquet")
    assert compact(store) == 2
    export(store, tmp_path / "after.parquet")
    before, after = (pq.read_table(tmp_path / f"{name}.parquet").sort_by("id") for name in ("before", "after"))
    assert before.equals(after)
    assert open_collection(store, 2).items.count == COUNT

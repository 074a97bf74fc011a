"""A manifest that was changed and sealed again: the version opens with the change, or the error names the field."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.index.ann.spec import MAX_KEY
from lookalike.index.changes.change import Change
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.retention import prune
from lookalike.index.errors import StoreError
from lookalike.index.items.table import ITEMS, ORDER
from lookalike.index.versions.build import build
from lookalike.index.versions.manifest import FORMAT, VersionManifest, read_version
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import CANARY, HELD, LOCAL_SCALE
from lookalike.training.artifact.fields import MAX_SAFE_INTEGER, check_fields
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import Sealed, read_manifest
from tests.factories import ROOT, cloud, encoder_at, made_rows, reseal, retrained
from tests.training.helpers import changed_fields, error_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Version 1 of a build. Read only."""
    folder = tmp_path_factory.mktemp("made")
    store = Store(folder / "store")
    build(made_rows(cloud(40, 6)), encoder_at(folder / "encoder", cloud(6, 3)), store, device="cpu")
    return store


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    """A copy to change."""
    return Store(Path(shutil.copytree(made.folder, tmp_path / "store")))


def changed(store: Store, **fields: Any) -> None:
    reseal(store.path(1), FORMAT, {**read_version(store.path(1)).to_json(), **fields})


def written(folder: Path, text: bytes) -> None:
    """Replace fields of the manifest, with a matching digest."""
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  manifest.json\n")


def refused(store: Store, name: str) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        store.promote(1)
    assert name in str(caught.value)
    assert store.champion() is None
    return caught.value


def test_any_field_of_any_other_type_or_size_is_refused_by_its_name_or_does_no_harm(store: Store) -> None:
    whole, refused, others = read_manifest(store.path(1), FORMAT), set[str](), 0
    for name, other in changed_fields({**whole.header, **retrained(1)}):
        text = json.dumps(other | {"files": whole.files}).encode()
        sealed = Sealed(store.path(1), text)
        if error := error_of(partial(check_fields, sealed, VersionManifest)):
            assert name in str(error)
            refused.add(name)
            continue
        others += 1
        if others % 6 and name in {"data", "evidence", "tuning", "lineage"}:
            continue  # these fields are only shown: a few are enough
        written(store.path(1), text)
        error = error_of(lambda: store.promote(1))
        if isinstance(error, ArtifactError):
            assert name in str(error)
        elif error:  # the canary answer or the version differs
            assert isinstance(error, StoreError)
            assert "known" in str(error) or name == "version"
    assert refused == VersionManifest.model_fields.keys() - {"format"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("held", [-1]),
        ("held", [40, 1, 2, 3]),
        ("held", [1, 1, 2, 3]),
        ("held", [2**70]),
        ("canary", {"ids": ["row-1"], "scores": []}),
        ("canary", {"ids": ["row-1"] * 4, "scores": [1.0] * 4}),
        ("sequence", 2**70),
        ("sequence", MAX_SAFE_INTEGER + 1),
        ("sequence", -1),
        ("items", 0),
        ("columns", [{"name": "size"}]),
        ("lineage", {"parent": 1}),
        ("more", 1),
        ("index", {"key": "x" * (MAX_KEY + 1), "metric": "cosine"}),
        ("index", {"key": "IVF999999999,Flat", "metric": "cosine"}),
        ("index", {"key": "PQ3x24", "metric": "cosine"}),
        ("index", {"key": "(" * MAX_KEY, "metric": "cosine"}),
        ("index", {"key": "HNSW32", "metric": "cosine", "search": "efSearch=2147483647"}),
    ],
)
def test_refuses_contradictory_fields_and_names_them(store: Store, field: str, value: Any) -> None:
    changed(store, **{field: value})
    refused(store, field)


def test_an_empty_canary_answer_must_stay_empty(store: Store) -> None:
    """A compaction may publish an empty answer; this version finds something."""
    changed(store, canary={"ids": [], "scores": []})
    with pytest.raises(StoreError, match="expected the known answer to its canary query, found another"):
        store.promote(1)


@pytest.mark.parametrize(
    "lineage",
    [{"compacted": True}, {"parent": 1, "compacted": False}, retrained(1, gate=None)["lineage"]],
    ids=["no parent", "not retrained", "no verdict"],
)
def test_refuses_an_incomplete_lineage(store: Store, lineage: dict[str, Any]) -> None:
    changed(store, lineage=lineage)
    refused(store, "lineage")


def test_an_impossible_sequence_does_not_block_writes(store: Store) -> None:
    changed(store, sequence=2**70)
    log = ChangeLog(store.folder)
    assert log.append([Change("a", np.ones(6, np.float32), "{}")]) == 1
    with pytest.raises(ArtifactError, match="sequence"):
        prune(store, 1)
    log.close()


def test_writes_continue_after_the_largest_sequence(store: Store) -> None:
    changed(store, sequence=MAX_SAFE_INTEGER)
    store.promote(1)
    log = ChangeLog(store.folder)
    assert log.append([Change("a", np.ones(6, np.float32), "{}")]) == MAX_SAFE_INTEGER + 1
    log.close()


@pytest.mark.parametrize(
    "order",
    [
        np.arange(39, dtype=np.uint32),
        np.arange(40, dtype=np.float32),
        np.arange(40, dtype=np.uint32).reshape(40, 1),
        np.full(40, 7, np.uint32),
        np.arange(1, 41, dtype=np.uint32),
        np.arange(-1, 39),
    ],
    ids=["too few", "no integers", "columns", "one again and again", "beyond the last", "before the first"],
)
def test_an_order_that_is_no_permutation_is_refused(store: Store, order: np.ndarray) -> None:
    np.save(store.path(1) / ORDER, order)
    changed(store)
    refused(store, ORDER)


def written_badly(path: Path, name: str, content: bytes, ends: list[int]) -> None:
    """The same items, but a column has invalid offsets, or bytes that are no text."""
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    right = np.arange(41, dtype=np.int32).tobytes()
    column = pa.Array.from_buffers(pa.string(), 40, [None, pa.py_buffer(right), pa.py_buffer(content)])
    table = table.set_column(table.column_names.index(name), name, column)
    path.unlink()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    whole = path.read_bytes()
    assert whole.count(right) == 1
    path.write_bytes(whole.replace(right, np.array(ends, np.int32).tobytes()))


@pytest.mark.parametrize("name", ["id", "payload"])
@pytest.mark.parametrize(
    ("content", "ends"),
    [
        (b"x" * 40, [0, 30, *range(2, 41)]),
        (b"x" * 40, [*range(40), 1 << 30]),
        (b"x" * 40, [-4, *range(1, 41)]),
        (b"\xff" * 40, list(range(41))),
    ],
    ids=["falling", "beyond the end", "before the start", "no text"],
)
def test_refuses_invalid_offsets_and_text(store: Store, name: str, content: bytes, ends: list[int]) -> None:
    written_badly(store.path(1) / ITEMS, name, content, ends)
    changed(store)
    refused(store, ITEMS)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        (CANARY, np.zeros((2, 6), np.float32)),
        (CANARY, np.zeros((1, 6))),
        (CANARY, np.full((1, 6), np.nan, np.float32)),
        (HELD, np.zeros((4, 6))),
        (LOCAL_SCALE, np.full(40, np.inf, np.float32)),
        ("embeddings.npy", np.full((40, 3), np.nan, np.float32)),
        ("embeddings.npy", np.full((40, 3), 1e30, np.float32)),
    ],
)
def test_an_array_of_another_shape_type_or_of_no_numbers_is_refused(store: Store, name: str, array: np.ndarray) -> None:
    np.save(store.path(1) / name, array)
    changed(store)
    refused(store, name)


def test_an_array_needs_no_more_memory_than_its_file(store: Store) -> None:
    header = {"shape": (1, 1 << 40), "fortran_order": False, "descr": "<f4"}
    with (store.path(1) / CANARY).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    changed(store)
    refused(store, "000001")


@pytest.mark.parametrize("content", [b"NaN", b"-Infinity", b"1e400", b"9" * 5_000])
def test_refuses_numbers_that_json_does_not_have(store: Store, content: bytes) -> None:
    changed(store, sequence=123456789)
    text = (store.path(1) / "manifest.json").read_bytes()
    written(store.path(1), text.replace(b"123456789", content))
    refused(store, "manifest.json")


def test_a_refused_version_is_verified_again(store: Store) -> None:
    """A receipt is written only for a version that can be opened."""
    np.save(store.path(1) / ORDER, np.full(40, 7, np.uint32))
    changed(store)
    for _ in range(2):
        with pytest.raises(ArtifactError, match=ORDER):
            store.open(1)


def test_the_documented_schema_equals_the_schema_of_the_model() -> None:
    committed = json.loads((ROOT / "docs" / "version-manifest.schema.json").read_text(encoding="utf-8"))
    assert committed == VersionManifest.model_json_schema()

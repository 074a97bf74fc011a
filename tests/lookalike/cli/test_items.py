"""The item commands, also killed in the middle of their work."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.store import Store
from lookalike.training.rows import open_rows
from tests.factories import ROOT, cloud
from tests.lookalike.helpers import refused, run, save

ROWS = 30_000
TIMEOUT = 60.0


def table(path: Path, rows: NDArray[np.float32], ids: list[str], labels: list[str]) -> Path:
    """A file of rows of 64 values with ids and labels."""
    np.savez(path, inputs=rows, ids=np.array(ids), labels=np.array(labels))
    return path


def exported(path: Path) -> dict[str, tuple[dict[str, Any], list[float]]]:
    table = pq.read_table(path)
    columns = (table[name].to_pylist() for name in ("id", "payload", "embedding"))
    return {name: (json.loads(payload), row) for name, payload, row in zip(*columns, strict=True)}


def last(store: Store) -> int:
    with closing(ChangeLog(store.folder)) as log:
        return log.last()


@contextlib.contextmanager
def started(*arguments: object, lines: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run `lookalike ARGUMENTS` in a separate process, after some lines of Python."""
    program = f"{lines}\nfrom lookalike.__main__ import main\nmain()"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "timed out"
        time.sleep(0.001)


def test_import_reports_values_that_the_encoder_clips(store_copy: Store, tmp_path: Path) -> None:
    rows = np.zeros((3, 64), np.float32)
    rows[2, 5] = 3e38
    np.save(tmp_path / "new.npy", rows)
    done = run("import", tmp_path / "new.npy", "--store", store_copy.folder)
    assert done.code == 0, done.err
    assert "outside its known range: 1 (row 2, column 5: 3e+38 (known: " in done.err


def test_imported_items_are_searched_and_exported(store_copy: Store, tmp_path: Path) -> None:
    store, out = store_copy.folder, tmp_path / "F.parquet"
    done = run("import", "digits:test", "--store", store)
    assert (done.code, done.out) == (0, "360 rows imported, 0 were imported before\n"), done.err
    assert run("import", "digits:test", "--store", store).out.startswith(
        "0 rows imported, 360 were imported before; nothing"
    )
    again = run("import", "digits:test", "--store", store, "--again").out
    assert again == "360 rows imported, 0 were imported before; 360 replaced an item\n"

    (chunk,) = open_rows("digits:test").chunks(1_000)
    (line,) = run("search", "--store", store, "--id", chunk.ids[0], "--limit", 1_000).out.splitlines()
    assert set(chunk.ids[1:]) & {hit["id"] for hit in json.loads(line)["hits"]}
    hits = [json.loads(line)["hits"][0] for line in run("search", "digits:test", "--store", store).out.splitlines()]
    assert [hit["score"] for hit in hits] == pytest.approx([1.0] * 360, abs=1e-5)

    done = run("export", "--store", store, "--out", out)
    assert (done.code, done.out) == (0, "1,797 items: version 1 with all later changes\n"), done.err
    items = exported(out)
    assert set(items) == {str(i) for i in range(1_797)}
    embeddings = store_copy.open_champion().embed(chunk.inputs)
    for name, payload, embedding in zip(chunk.ids, chunk.payloads, embeddings, strict=True):
        assert items[name][0] == payload
        assert items[name][1] == pytest.approx(embedding.tolist(), abs=1e-6)


def test_compact_builds_a_version_with_all_changes(store_copy: Store) -> None:
    assert run("import", "digits:test", "--store", store_copy.folder).code == 0
    for printed in ("champion: version 2\n", "champion: version 2, no item has changed\n"):
        with started("compact", "--store", store_copy.folder) as process:  # separate, because it lowers its priority
            out, err = process.communicate()
            assert (process.returncode, out) == (0, printed), err
    assert len(store_copy.open(2).items) == 1_797


def test_duplicates_include_imported_items(store_copy: Store, tmp_path: Path) -> None:
    (chunk,) = open_rows("digits").chunks(2_000)
    names = [chunk.ids[0], "twin/ of ?it"]
    run("import", table(tmp_path / "R.npz", chunk.inputs[[0, 0]], names, ["a", "b"]), "--store", store_copy.folder)
    groups = [json.loads(line) for line in run("duplicates", "--store", store_copy.folder).out.splitlines()]
    assert any(set(names) <= set(group["ids"]) for group in groups)


@pytest.mark.slow
def test_a_killed_import_continues_without_loss_or_duplicates(store_copy: Store, tmp_path: Path) -> None:
    rows = 8 + cloud(ROWS, 64, seed=1)
    data = table(tmp_path / "R.npz", rows, [f"new/{i}" for i in range(ROWS)], [str(i % 7) for i in range(ROWS)])
    seen = 0
    for sent in (signal.SIGKILL, signal.SIGINT):
        with started("import", data, "--store", store_copy.folder) as process:
            wait_until(lambda: last(store_copy) > seen + 2_000, process)  # noqa: B023
            process.send_signal(sent)
            _, err = process.communicate()
        assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[sent], err
        seen = last(store_copy)
        assert 0 < seen < ROWS
        assert seen % 1_000 == 0  # whole transactions
    done = run("import", data, "--store", store_copy.folder)
    assert done.out == f"{ROWS - seen:,} rows imported, {seen:,} were imported before\n", done.err
    assert last(store_copy) == ROWS
    with closing(ChangeLog(store_copy.folder)) as log:
        changes = [change for batch in log.current() for change in batch]
    assert [change.id for change in changes] == [f"new/{i}" for i in range(ROWS)]
    np.testing.assert_array_equal([change.input for change in changes], rows)


@pytest.mark.slow
def test_a_killed_export_keeps_the_old_file_and_continues(store_copy: Store, tmp_path: Path) -> None:
    out, parts = tmp_path / "F.parquet", tmp_path / "F.parquet.parts"
    run("import", "digits:test", "--store", store_copy.folder)
    out.write_bytes(b"before")
    small, seen = "import lookalike.index.changes.exporting\nlookalike.index.changes.exporting.ROWS = 8", 0
    for sent in (signal.SIGKILL, signal.SIGINT):
        with started("export", "--store", store_copy.folder, "--out", out, lines=small) as process:
            wait_until(lambda: len(list(parts.glob("*/*.parquet"))) > seen + 5, process)  # noqa: B023
            process.send_signal(sent)
            process.communicate()
        assert process.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[sent]
        assert out.read_bytes() == b"before"
        seen = len(list(parts.glob("*/*.parquet")))
    with started("export", "--store", store_copy.folder, "--out", out, lines=small) as process:
        printed, err = process.communicate()
    assert (process.returncode, printed[:12]) == (0, "1,797 items:"), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["F.parquet", "store-copy"]
    whole = tmp_path / "G.parquet"
    run("export", "--store", store_copy.folder, "--out", whole)
    assert exported(out) == exported(whole)


def test_import_matches_table_columns_by_name_and_keeps_others_as_payload(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=300), "b": rng.normal(size=300), "colour": ["red", "blue", "green"] * 100}
    pq.write_table(pa.table({**columns, "id": [f"old-{i}" for i in range(300)]}), tmp_path / "T.parquet")
    quick = ("--set", "model.hidden=[8]", "--set", "model.latent_dim=2", "--set", "fit.epochs=1")
    assert run("train", tmp_path / "T.parquet", "--run", tmp_path / "run", *quick).code == 0
    assert run("build", tmp_path / "T.parquet", "--encoder", tmp_path / "run", "--store", store.folder).code == 0
    assert run("promote", 1, "--store", store.folder).code == 0
    (tmp_path / "N.csv").write_text('colour,note,b,a,id\nred,"mild, new",0.5,-1,ö 1\nmauve,,1,,ö 2\n')
    done = run("import", tmp_path / "N.csv", "--store", store.folder)
    assert done.out == "2 rows imported, 0 were imported before\n", done.err
    items = open_collection(store, 1).items
    payloads = [json.loads(items.payload_json(int(p))) for p in items.positions(["ö 1", "ö 2"])]
    assert [payload.get("note") or "" for payload in payloads] == ["mild, new", ""]
    (tmp_path / "B.csv").write_text("colour,a,id\nred,1,x\n")
    refused(run("import", tmp_path / "B.csv", "--store", store.folder), "B.csv")
    assert last(store) == 2


def test_item_commands_report_user_errors_in_one_line(store_copy: Store, tmp_path: Path) -> None:
    store = store_copy.folder
    rows = cloud(1_500, 64)
    rows[1_234, 5] = np.nan
    refused(run("import", save(tmp_path / "B.npy", rows), "--store", store), "row 1234, column 5")
    assert last(store_copy) == 1_000
    refused(run("import", save(tmp_path / "W.npy", cloud(3, 65)), "--store", store), "(65 values)")
    refused(run("import", tmp_path / "none.npy", "--store", store), "expected a file, found no file")
    refused(run("import", "digits", "--store", tmp_path / "none"), "expected a promoted version")
    refused(run("export", "--store", store, "--out", tmp_path / "F.csv"), "F.csv: expected a .parquet file")
    refused(run("export", "--store", tmp_path / "none", "--out", tmp_path / "F.parquet"), "expected a promoted version")
    assert not (tmp_path / "none").exists()

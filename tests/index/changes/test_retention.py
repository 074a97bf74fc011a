import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lookalike.cli.app import app
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.compact import compact
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.retention import JOB, prune, reclaim
from lookalike.index.errors import StoreError
from lookalike.index.versions.store import Alias, Store
from lookalike.retraining.job import Job, begin, end
from lookalike.training.errors import ConfigError
from lookalike.training.sealed import seal
from tests.factories import cloud, log_changes, put, retrained

ROWS = cloud(20, 64)


def put_all(store: Store, *names: str, row: int = 0) -> None:
    log_changes(store.folder, *(put(name, ROWS[row]) for name in names))


def copies(store: Store, count: int) -> None:
    """Add the versions 2, 3, ... as copies of version 1."""
    for number in range(2, count + 2):
        at = store.versions / f"{number:06d}"
        shutil.copytree(store.path(1), at)
        header = {**store.manifest(1).to_json(), "version": number}
        for name in ("manifest.json", "manifest.sha256"):
            (at / name).unlink()
        seal(at, header.pop("format"), header)


def test_keeps_the_newest_the_champion_and_the_targets_of_rollback(store_copy: Store) -> None:
    copies(store_copy, 8)
    for number in (3, 2, 5):
        store_copy.promote(number)
    done = prune(store_copy, 2, dry_run=True)
    assert (done.kept, done.removed) == ((2, 3, 5, 8, 9), (1, 4, 6, 7))
    assert store_copy.numbers() == list(range(1, 10))
    assert prune(store_copy, 2) == done
    assert store_copy.numbers() == [2, 3, 5, 8, 9]
    assert [store_copy.rollback().version, store_copy.rollback().version] == [2, 3]
    with pytest.raises(StoreError, match="no version to go back to"):
        store_copy.rollback()
    assert not (store_copy.folder / "verified" / "000001").exists()
    assert (store_copy.folder / "verified" / "000003").exists()
    assert prune(store_copy, 2).kept == (3, 8, 9)  # 3 serves now


def test_keeps_the_ancestors_of_the_champion(store_copy: Store) -> None:
    for round_ in range(3):
        put_all(store_copy, f"n{round_}", row=round_)
        assert compact(store_copy) == round_ + 2
    (store_copy.folder / "champion").write_text('{"version": 4, "replaced": []}')
    assert prune(store_copy, 1).kept == (3, 4)
    assert store_copy.open_champion().answers_canary()


def test_keeps_earlier_encoders_however_often_a_version_is_compacted(store_copy: Store) -> None:
    copies(store_copy, 2)
    store_copy.promote(2)  # 3 is a challenger
    for round_ in range(4):
        put_all(store_copy, f"n{round_}", row=round_)
        assert compact(store_copy, keep=2) == round_ + 4
    assert store_copy.champion() == Alias(7, (1,))
    assert store_copy.numbers() == [1, 3, 5, 6, 7]
    assert store_copy.rollback() == Alias(1)


def sequences(store: Store) -> list[int]:
    log = ChangeLog(store.folder)
    found = [change.sequence for change in log.read(0)]
    log.close()
    return found


def test_drops_superseded_changes_and_every_version_finds_the_same(store_copy: Store) -> None:
    put_all(store_copy, "a", "b", "a", row=1)
    assert compact(store_copy) == 2
    assert sequences(store_copy) == [2, 3]
    put_all(store_copy, "a", "b", row=2)
    put_all(store_copy, "a", row=3)
    before = [open_collection(store_copy, number) for number in (1, 2)]
    assert prune(store_copy, 2).changes == 3
    assert sequences(store_copy) == [5, 6]
    after = [open_collection(store_copy, number) for number in (1, 2)]
    for mine, its in zip(before, after, strict=True):
        assert (mine.applied, its.applied) == (6, 6)
        one, other = (each.vectors_at(each.items.positions(["a", "b"])) for each in (mine, its))
        np.testing.assert_array_equal(one, other)


def test_keeps_changes_that_an_encoder_was_trained_on(store_copy: Store) -> None:
    copies(store_copy, 1)
    header = {**store_copy.manifest(2).to_json(), **retrained(1, sequence=3)}
    put_all(store_copy, "a", "b", "a", "b", "a")
    for name in ("manifest.json", "manifest.sha256"):
        (store_copy.path(2) / name).unlink()
    seal(store_copy.path(2), header.pop("format"), header)
    assert reclaim(store_copy) == 1
    assert sequences(store_copy) == [2, 3, 4, 5]  # up to change 3, b and a are changes 2 and 3
    store_copy.remove([2])
    assert reclaim(store_copy) == 2
    assert sequences(store_copy) == [4, 5]


def test_keeps_changes_that_an_interrupted_retraining_reads(store_copy: Store) -> None:
    put_all(store_copy, "a", "a", "a")
    begin(store_copy, Job(encoder="", data="", config={}, sequence=2))
    assert compact(store_copy) == 2
    assert sequences(store_copy) == [2, 3]
    end(store_copy)
    assert compact(store_copy) is None  # nothing has changed, and one change is superseded
    assert sequences(store_copy) == [3]


@pytest.mark.parametrize(
    "told", ["{", "[]", '{"sequence": "two"}', f'{{"sequence": {2**70}}}', f'{{"sequence": -{2**70}}}']
)
def test_an_unreadable_job_keeps_no_changes(store_copy: Store, told: str) -> None:
    put_all(store_copy, "a", "a", "b")
    (store_copy.folder / JOB).parent.mkdir(exist_ok=True)
    (store_copy.folder / JOB).write_text(told)
    assert reclaim(store_copy) == 1
    assert sequences(store_copy) == [2, 3]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB; the test is skipped if this user cannot mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "full").open("ab", buffering=0) as file:
        while file.write(b"x" * 4_096):
            pass


def test_a_full_disk_has_room_again_once_it_is_pruned(store_copy: Store, small_disk: Path) -> None:
    shutil.copytree(store_copy.folder, small_disk / "store")
    store = Store(small_disk / "store")
    copies(store, 4)
    for number in range(2, 6):
        store.promote(number)
        put_all(store, "a", "b", "a")
    fill(small_disk)
    assert shutil.disk_usage(small_disk).free == 0
    done = CliRunner().invoke(app, ["prune", "--store", str(store.folder), "--keep", "1"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [1, 2, 3])
    assert store.numbers() == [4, 5]
    assert sequences(store) == [11, 12]
    assert shutil.disk_usage(small_disk).free > 100_000
    assert open_collection(store, 5).items.find("a") is not None


def test_a_removed_version_that_is_open_still_answers(store_copy: Store) -> None:
    copies(store_copy, 3)
    store_copy.promote(2)
    store_copy.promote(3)
    version = store_copy.open(1)
    row = version.embeddings.at(np.array([0]))
    prune(store_copy, 1)
    assert store_copy.numbers() == [2, 3, 4]
    assert version.searcher.search(row, 1).positions.tolist() == [[0]]


def test_the_next_removal_finishes_an_interrupted_one(store_copy: Store) -> None:
    copies(store_copy, 3)
    store_copy.promote(4)
    left = store_copy.versions / ".lookalike-making-left"
    left.mkdir()
    store_copy.path(2).rename(left / "removed")
    assert prune(store_copy, 1).kept == (1, 4)
    assert sorted(path.name for path in store_copy.versions.iterdir()) == ["000001", "000004"]


def test_never_removes_the_champion_and_ignores_unknown_numbers(store_copy: Store) -> None:
    store_copy.remove([1, 7])
    assert store_copy.numbers() == [1]


def test_refuses_to_keep_no_version(store_copy: Store) -> None:
    with pytest.raises(ConfigError, match="--keep: expected 1 at least, found 0"):
        prune(store_copy, 0)


def test_an_empty_store_has_nothing_to_remove(tmp_path: Path) -> None:
    assert prune(Store(tmp_path), 3).removed == ()

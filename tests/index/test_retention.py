import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index.change import Change
from index.collection import open_collection
from index.compact import compact
from index.errors import StoreError
from index.log import ItemLog
from index.retention import prune
from index.store import Alias, Store
from tests.index.made import cloud
from training.errors import ConfigError
from training.sealed import seal

ROWS = cloud(20, 64)


def put(store: Store, *names: str, row: int = 0) -> None:
    log = ItemLog(store.folder)
    log.append([Change(name, ROWS[row], json.dumps({})) for name in names])
    log.close()


def copies(store: Store, count: int) -> None:
    """Versions 2, 3, ... that are as version 1."""
    for number in range(2, count + 2):
        at = store.versions / f"{number:06d}"
        shutil.copytree(store.path(1), at)
        header = {**store.manifest(1), "version": number}
        for name in ("manifest.json", "manifest.sha256"):
            (at / name).unlink()
        seal(at, header.pop("format"), header)


def test_the_newest_stay_and_the_champion_with_what_rollback_reaches(store_copy: Store) -> None:
    copies(store_copy, 8)
    for number in (3, 2, 5):
        store_copy.promote(number)
    done = prune(store_copy, 2, dry_run=True)
    assert (done.kept, done.removed) == ((2, 3, 5, 8, 9), (1, 4, 6, 7))
    assert store_copy.numbers() == list(range(1, 10))
    assert prune(store_copy, 2) == done
    assert store_copy.numbers() == [2, 3, 5, 8, 9]
    assert [store_copy.rollback().version, store_copy.rollback().version] == [2, 3]
    with pytest.raises(StoreError, match="none to go back to"):
        store_copy.rollback()
    assert not (store_copy.folder / "verified" / "000001").exists()
    assert (store_copy.folder / "verified" / "000003").exists()
    assert prune(store_copy, 2).kept == (3, 8, 9)  # 3 serves now


def test_the_ancestors_of_the_champion_stay(store_copy: Store) -> None:
    for round_ in range(3):
        put(store_copy, f"n{round_}", row=round_)
        assert compact(store_copy) == round_ + 2
    (store_copy.folder / "champion").write_text('{"version": 4, "replaced": []}')
    assert prune(store_copy, 1).kept == (3, 4)
    assert store_copy.open_champion().answers_its_question()


def test_however_often_a_version_is_compacted_the_encoders_before_it_stay(store_copy: Store) -> None:
    copies(store_copy, 2)
    store_copy.promote(2)  # 3 is a challenger, say
    for round_ in range(4):
        put(store_copy, f"n{round_}", row=round_)
        assert compact(store_copy, keep=2) == round_ + 4
    assert store_copy.champion() == Alias(7, (1,))
    assert store_copy.numbers() == [1, 3, 5, 6, 7]
    assert store_copy.rollback() == Alias(1)


def test_of_the_log_goes_what_no_version_that_stays_asks_for(store_copy: Store) -> None:
    put(store_copy, "a", "b", "a", row=1)
    compact(store_copy)
    put(store_copy, "a", "b", row=2)
    compact(store_copy)
    put(store_copy, "a", row=3)
    before = open_collection(store_copy, 3)
    assert prune(store_copy, 2).changes == 0  # version 1 stays, which has none of it
    assert prune(store_copy, 1).changes == 1  # version 2 has three changes, of which one was replaced
    after = open_collection(store_copy, 3)
    log = ItemLog(store_copy.folder)
    assert [change.sequence for change in log.read(0)] == [2, 3, 4, 5, 6]
    log.close()
    mine, its = (one.embeddings.at(one.items.positions(["a", "b"])) for one in (before, after))
    np.testing.assert_array_equal(mine, its)


def test_what_is_open_goes_on(store_copy: Store) -> None:
    copies(store_copy, 3)
    store_copy.promote(2)
    store_copy.promote(3)
    version = store_copy.open(1)
    row = version.embeddings.at(np.array([0]))
    prune(store_copy, 1)
    assert store_copy.numbers() == [2, 3, 4]
    assert version.search(row, 1).positions.tolist() == [[0]]


def test_a_removal_that_was_cut_off_is_finished_by_the_next(store_copy: Store) -> None:
    copies(store_copy, 3)
    store_copy.promote(4)
    left = store_copy.versions / ".lookalike-making-left"
    left.mkdir()
    store_copy.path(2).rename(left / "removed")
    assert prune(store_copy, 1).kept == (1, 4)
    assert sorted(path.name for path in store_copy.versions.iterdir()) == ["000001", "000004"]


def test_the_champion_is_never_removed_nor_one_that_is_not_there(store_copy: Store) -> None:
    store_copy.remove([1, 7])
    assert store_copy.numbers() == [1]


def test_one_version_at_least_stays(store_copy: Store) -> None:
    with pytest.raises(ConfigError, match="--keep: expected 1 at least, found 0"):
        prune(store_copy, 0)


def test_an_empty_store_has_nothing_to_remove(tmp_path: Path) -> None:
    assert prune(Store(tmp_path), 3).removed == ()

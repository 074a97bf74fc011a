"""The change log opens only if its files belong together, and writes only to files that are at their paths."""

import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest

from lookalike.index.changes.inputs import Input
from lookalike.index.changes.log import LOG, ChangeLog
from lookalike.index.errors import LogError
from lookalike.training.errors import ArtifactError
from tests.factories import put

WAL, SHM = f"{LOG}-wal", f"{LOG}-shm"
FILES = (LOG, WAL, SHM)
ROW = np.ones(3, np.float32)


def ids(folder: Path) -> list[str]:
    log = ChangeLog(folder)
    found = [change.id for change in log.read(0)]
    log.close()
    return found


def killed(folder: Path, to: Path) -> Path:
    """A store like a killed process leaves it: "a" to "d" are only in items.db-wal."""
    log = ChangeLog(folder)
    for name in "abcd":
        log.append([put(name, ROW)])
    to.mkdir()
    for name in FILES:
        shutil.copy(folder / name, to / name)
    log.close()
    return to


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("left", [(WAL,), (SHM,), (WAL, SHM), (f"{LOG}-journal",)])
def test_does_not_write_to_the_rest_of_a_lost_log(tmp_path: Path, left: tuple[str, ...]) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    (store / f"{LOG}-journal").write_bytes(b"of a rollback")
    for name in {path.name for path in store.iterdir()} - set(left):
        (store / name).rename(tmp_path / name)
    before = contents(store)
    asked: list[Callable[[], int]] = [ChangeLog(store).last, lambda: ChangeLog(store).append([put("new", ROW)])]
    for ask in asked:
        with pytest.raises(
            LogError, match=f"{LOG}: expected {LOG} beside .*{left[-1]}, found no {LOG}. Put {LOG} back"
        ):
            ask()
    assert contents(store) == before


def test_a_restored_log_has_all_acknowledged_changes(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    (store / LOG).rename(tmp_path / LOG)
    with pytest.raises(LogError):
        ChangeLog(store).append([put("new", ROW)])
    (tmp_path / LOG).rename(store / LOG)
    assert ids(store) == ["a", "b", "c", "d"]


def test_a_new_log_begins_when_the_rest_of_the_lost_log_is_removed(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    for name in FILES:
        (store / name).unlink()
    log = ChangeLog(store)
    assert log.append([put("new", ROW)]) == 1
    log.close()
    assert ids(store) == ["new"]


def test_a_log_whose_wal_alone_was_lost_is_refused(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    (store / WAL).rename(tmp_path / WAL)
    before = contents(store)
    with pytest.raises(LogError, match=f"expected {WAL} beside {SHM}, found no {WAL}"):
        ChangeLog(store).append([put("new", ROW)])
    assert contents(store) == before
    (tmp_path / WAL).rename(store / WAL)
    assert ids(store) == ["a", "b", "c", "d"]


def test_the_index_of_the_wal_is_made_again(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    (store / SHM).unlink()
    assert ids(store) == ["a", "b", "c", "d"]


def test_an_empty_log_is_refused_before_its_wal_is_deleted(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "store")
    (store / LOG).write_bytes(b"")
    before = contents(store)
    with pytest.raises(ArtifactError, match="an empty file"):
        ChangeLog(store).append([put("new", ROW)])
    assert contents(store) == before


@pytest.mark.parametrize("name", FILES)
def test_does_not_acknowledge_while_a_file_is_missing(tmp_path: Path, name: str) -> None:
    log, store = ChangeLog(tmp_path / "store"), tmp_path / "store"
    assert log.append([put("a", ROW)]) == 1
    (store / name).rename(tmp_path / "aside")
    for ask in (lambda: log.append([put("b", ROW)]), log.moved, lambda: log.find("a"), log.last, log.prune):
        with pytest.raises(LogError, match=rf"{name}: expected the file .* opened, found no file.* Move it back"):
            ask()
    (tmp_path / "aside").rename(store / name)
    assert log.append([put("c", ROW)]) == 2
    log.close()
    assert ids(store) == ["a", "c"]


@pytest.mark.parametrize("names", [(LOG,), (WAL,), (SHM,), (WAL, SHM), FILES])
def test_nothing_is_acknowledged_into_a_deleted_file(tmp_path: Path, names: tuple[str, ...]) -> None:
    log = ChangeLog(tmp_path)
    log.append([put("a", ROW)])
    for name in names:
        (tmp_path / name).unlink()
    for _ in range(2):
        with pytest.raises(LogError, match="found no file: it was moved or deleted"):
            log.append([put("b", ROW)])
    log.close()


def test_a_file_removed_during_a_write_is_noticed_before_the_acknowledgement(tmp_path: Path) -> None:
    log = ChangeLog(tmp_path)
    log.append([put("a", ROW)])

    class Removing:
        """A change whose input, which is read inside the transaction, removes the log."""

        id, payload, preview, seen, is_delete = "b", "{}", None, None, False

        @property
        def input(self) -> Input:
            (tmp_path / LOG).unlink(missing_ok=True)
            return np.ones(3, np.float32)

    with pytest.raises(LogError, match="found no file"):
        log.append([Removing()])  # type: ignore[list-item]


def test_a_log_that_replaces_the_open_log_is_not_written(tmp_path: Path) -> None:
    log, store = ChangeLog(tmp_path / "store"), tmp_path / "store"
    log.append([put("a", ROW)])
    backing_up = apsw.Connection(str(store / LOG))
    backing_up.execute("VACUUM INTO ?", (str(tmp_path / "copy"),))
    backing_up.close()
    log.append([put("b", ROW)])
    (store / LOG).rename(tmp_path / "old")
    (tmp_path / "copy").rename(store / LOG)
    for _ in range(2):
        with pytest.raises(LogError, match=f"{LOG}: expected the file .* opened, found another file"):
            log.append([put("c", ROW)])
    log.close()
    assert ids(store) == ["a"]
    for name in (WAL, SHM):
        (store / name).unlink(missing_ok=True)
    (tmp_path / "old").rename(store / LOG)
    assert ids(store)[:2] == ["a", "b"]


def point_elsewhere(link: Path, real: Path) -> None:
    shutil.copy(real, real.with_name("other.db"))
    link.unlink()
    link.symlink_to(real.with_name("other.db"))


def remove_wal(link: Path, real: Path) -> None:
    real.with_name(f"{real.name}-wal").unlink()


@pytest.mark.parametrize("change", [point_elsewhere, remove_wal, lambda link, real: real.unlink()])
def test_a_log_behind_a_link_is_watched_at_both_ends(tmp_path: Path, change: Callable[[Path, Path], object]) -> None:
    store, real = tmp_path / "store", tmp_path / "disk" / "of.db"
    log = ChangeLog(store)
    log.append([put("a", ROW)])
    log.close()
    real.parent.mkdir()
    (store / LOG).rename(real)
    (store / LOG).symlink_to(real)
    log = ChangeLog(store)
    assert log.append([put("b", ROW)]) == 2
    change(store / LOG, real)
    with pytest.raises(LogError, match="expected the file that this process opened"):
        log.append([put("c", ROW)])
    log.close()


def test_a_link_whose_log_is_lost_is_refused_if_a_wal_is_left(tmp_path: Path) -> None:
    store = killed(tmp_path / "whole", tmp_path / "disk")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / LOG).symlink_to(store / LOG)
    (store / LOG).unlink()
    with pytest.raises(LogError, match=f"found no {LOG}"):
        ChangeLog(tmp_path / "store").append([put("new", ROW)])

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.index.errors import StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Alias, Store
from lookalike.training import sealed
from lookalike.training.errors import ArtifactError
from tests.factories import cloud, encoder_at, flip, made_rows


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Versions 1, 2 and 3, none promoted. Read only."""
    folder = tmp_path_factory.mktemp("three-versions")
    encoder = encoder_at(folder / "encoder", np.eye(4, dtype=np.float32))
    store = Store(folder / "store")
    assert [build(made_rows(cloud(20, 4, seed)), encoder, store, device="cpu") for seed in range(3)] == [1, 2, 3]
    return store


@pytest.fixture
def store(three_versions: Store, tmp_path: Path) -> Store:
    """A copy to change."""
    return Store(Path(shutil.copytree(three_versions.folder, tmp_path / "store")))


def test_versions_are_listed_by_number_and_nothing_else_is_one(store: Store) -> None:
    for name in (".lookalike-making-x", "12", "abcdef", "000004.bak"):
        (store.versions / name).mkdir()
    (store.path(2)).rename(store.versions / "1000000")
    assert store.numbers() == [1, 3, 1_000_000]
    assert store.path(1_000_000).name == "1000000"


@pytest.mark.parametrize("number", [0, 4, -1, 10**12])
def test_an_unknown_version_is_refused_with_a_list_of_versions(store: Store, number: int) -> None:
    for act in (store.path, store.open, store.promote):
        with pytest.raises(StoreError, match=rf": \[1, 2, 3\], found {number}\."):
            act(number)
    assert store.champion() is None


def test_without_a_champion_the_error_says_how_to_promote(store: Store, tmp_path: Path) -> None:
    for empty in (store, Store(tmp_path / "nowhere")):
        assert empty.champion() is None
        for ask in (empty.open_champion, empty.rollback):
            with pytest.raises(StoreError, match="lookalike promote N"):
                ask()
    assert not (tmp_path / "nowhere").exists()


def test_promote_and_rollback_by_hand(store: Store) -> None:
    assert store.promote(1) == Alias(1)
    assert store.promote(3) == Alias(3, (1,))
    assert store.promote(3) == Alias(3, (1,))
    assert store.promote(2) == Alias(2, (1, 3))
    assert store.open_champion().number == 2
    assert store.rollback() == Alias(3, (1,))
    assert store.rollback() == Alias(1)
    assert store.open_champion().number == 1
    with pytest.raises(StoreError, match="no version to go back to"):
        store.rollback()
    assert store.champion() == Alias(1)


def test_rollback_skips_the_parent_of_a_compaction(store: Store) -> None:
    assert store.promote(1, renews=True) == Alias(1)
    store.promote(2)
    assert store.promote(3, instead_of=2, renews=True) == Alias(3, (1,))
    assert store.promote(3, instead_of=2, renews=True) == Alias(3, (1,))
    assert store.rollback() == Alias(1)


def test_the_champions_number_is_the_aliass_whether_or_not_it_can_be_opened(store: Store) -> None:
    with pytest.raises(StoreError, match="lookalike promote N"):
        store.champion_number()
    store.promote(2)
    flip(store.path(2) / "index.faiss", 40)
    assert store.champion_number() == 2
    (store.folder / "champion").write_text('{"version": 9, "replaced": [2]}')
    assert store.champion_number() == 9
    (store.folder / "champion").write_text("{")
    with pytest.raises(ArtifactError, match="champion"):
        store.champion_number()


def test_the_aliass_stamp_changes_whenever_it_is_written_and_only_then(store: Store) -> None:
    seen = [store.alias_stamp()]
    assert seen == [()]
    acts: list[Callable[[], object]] = [
        lambda: store.promote(1),
        lambda: store.promote(2),
        store.rollback,
        lambda: (store.folder / "champion").write_text("{"),
        (store.folder / "champion").unlink,
    ]
    for act in acts:
        act()
        assert store.alias_stamp() == store.alias_stamp() != seen[-1]
        seen.append(store.alias_stamp())
    assert seen[-1] == ()
    store.promote(2)
    before = store.alias_stamp()
    for quiet in (store.champion, store.open_champion, lambda: store.promote(2), store.champion_number):
        quiet()
        assert store.alias_stamp() == before


@settings(max_examples=25)
@given(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=8))
def test_the_champion_is_the_top_of_a_stack(three_versions: Store, acts: list[int]) -> None:
    """Each step promotes the version of that number; 0 rolls back."""
    three_versions.folder.joinpath("champion").unlink(missing_ok=True)
    stack: list[int] = []
    for act in acts:
        if act:
            three_versions.promote(act)
            stack += [act] if stack[-1:] != [act] else []
        elif len(stack) < 2:
            with pytest.raises(StoreError):
                three_versions.rollback()
        else:
            three_versions.rollback()
            stack.pop()
        alias = three_versions.champion()
        assert [*alias.replaced, alias.version] == stack if alias else not stack
    three_versions.folder.joinpath("champion").unlink(missing_ok=True)


def test_a_rollback_to_a_damaged_version_is_refused_and_the_champion_stays(store: Store) -> None:
    store.promote(1)
    store.promote(2)
    flip(store.path(1) / "index.faiss", 40)
    with pytest.raises(ArtifactError, match=r"index\.faiss"):
        store.rollback()
    assert store.champion() == Alias(2, (1,))
    assert store.open_champion().number == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"1",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"version": "one", "replaced": []}',
        b'{"version": null, "replaced": []}',
        b'{"version": 1, "replaced": 2}',
        b'{"version": 1, "replaced": [[]]}',
        b'{"version": 1e999, "replaced": []}',
    ],
)
def test_an_alias_that_cannot_be_read_is_refused_by_name(store: Store, content: bytes) -> None:
    (store.folder / "champion").write_bytes(content)
    for act in (store.champion, store.open_champion, store.rollback, lambda: store.promote(1)):
        with pytest.raises(ArtifactError, match=f"{store.folder}/champion"):
            act()
    assert (store.folder / "champion").read_bytes() == content


def test_refuses_an_alias_of_a_removed_version(store: Store) -> None:
    (store.folder / "champion").write_text('{"version": 9, "replaced": []}')
    with pytest.raises(StoreError, match="found 9"):
        store.open_champion()


def test_the_alias_is_one_line_that_all_who_may_read_the_store_can_read(store: Store) -> None:
    store.promote(2)
    store.promote(1)
    path = store.folder / "champion"
    (store.folder / "usual").touch()
    assert json.loads(path.read_text()) == {"version": 1, "replaced": [2]}
    assert path.stat().st_mode == (store.folder / "usual").stat().st_mode
    assert not list(store.folder.glob(".lookalike-making-*"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the version files that are read to verify them, without the files of encoders."""
    names: list[str] = []
    check = sealed._check

    def noting(path: Path, entry: dict[str, Any]) -> None:
        if path.parent.name != "encoder":
            names.append(path.name)
        check(path, entry)

    monkeypatch.setattr(sealed, "_check", noting)
    return names


@pytest.fixture
def settled(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that was not written for a while."""
    monkeypatch.setattr(sealed, "TICK_NS", 0)
    return store


def test_a_version_that_was_verified_once_is_not_read_again(settled: Store, read: list[str]) -> None:
    settled.open(2)
    assert {"index.faiss", "embeddings.npy", "items.arrow"} <= set(read)
    assert (settled.folder / "verified" / "000002").is_file()
    read.clear()
    settled.open(2)
    assert read == []
    settled.open(1)
    assert "index.faiss" in read  # each version is verified separately


def test_a_version_just_written_is_read_again(store: Store, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system shows only one of two changes in one clock tick."""
    monkeypatch.setattr(sealed, "TICK_NS", 10**18)
    for _ in range(2):
        read.clear()
        store.open(2)
        assert "index.faiss" in read


def test_only_what_changed_is_read_again_and_a_changed_byte_is_seen_whatever_the_clock_says(
    settled: Store, read: list[str]
) -> None:
    settled.open(2)
    path = settled.path(2) / "index.faiss"
    before = path.stat()
    read.clear()
    flip(path, 40)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(ArtifactError, match=r"index\.faiss"):
        settled.open(2)
    assert set(read) == {"index.faiss"}
    flip(path, 40)
    assert settled.open(2).answers_canary()


def test_a_replaced_file_is_read_again(settled: Store, read: list[str]) -> None:
    settled.open(2)
    path = settled.path(2) / "items.arrow"
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    read.clear()
    settled.open(2)
    assert read == ["items.arrow"]


def test_promotion_and_rollback_read_all_files_again(settled: Store, read: list[str]) -> None:
    acts: list[Callable[[], Alias]] = [lambda: settled.promote(1), lambda: settled.promote(2), settled.rollback]
    for act in acts:
        for number in settled.numbers():
            settled.open(number)
        read.clear()
        act()
        assert {"index.faiss", "embeddings.npy", "items.arrow", "order.npy", "canary.npy"} <= set(read)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"manifest": 1, "stamps": []}', b"\xff"])
def test_ignores_an_unreadable_receipt(settled: Store, read: list[str], content: bytes) -> None:
    settled.open(2)
    (settled.folder / "verified" / "000002").write_bytes(content)
    read.clear()
    assert settled.open(2).number == 2
    assert "index.faiss" in read


def test_ignores_the_receipt_of_a_replaced_version(settled: Store, read: list[str]) -> None:
    settled.open(1)
    settled.open(2)
    receipts = settled.folder / "verified"
    shutil.copy(receipts / "000001", receipts / "000002")
    read.clear()
    settled.open(2)
    assert "index.faiss" in read


def test_a_version_is_never_numbered_over_another(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(store.path(2))
    encoder = encoder_at(tmp_path / "encoder", np.eye(4, dtype=np.float32))
    assert build(made_rows(cloud(5, 4)), encoder, store, device="cpu") == 4
    assert store.numbers() == [1, 3, 4]


def test_no_promotion_is_lost_among_many_at_once(store: Store) -> None:
    for _ in range(5):
        (store.folder / "champion").unlink(missing_ok=True)
        start = threading.Barrier(3)

        def promote(number: int, start: threading.Barrier = start) -> None:
            start.wait()
            Store(store.folder).promote(number)

        threads = [threading.Thread(target=promote, args=(number,)) for number in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alias = store.champion()
        assert alias is not None
        assert sorted((*alias.replaced, alias.version)) == [1, 2, 3]

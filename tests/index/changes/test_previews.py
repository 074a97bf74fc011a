"""Previews of items from a build over the change log to a compaction and a retraining."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.compact import compact
from lookalike.index.changes.importing import import_rows
from lookalike.index.changes.log import LOG, ChangeLog
from lookalike.index.changes.training_snapshot import ChampionRows, take_snapshot, with_previews
from lookalike.index.items.previews import CONTENT, PLACES
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import open_rows
from tests.factories import flip, log_changes, put
from tests.photos import COLORS, photo, photo_encoder, photo_rows, photo_store, row_of, size_of

RED = row_of((200, 0, 0))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return photo_store(tmp_path)


def previews_of(version: Version) -> dict[str, bytes]:
    assert version.previews is not None
    return {version.items.id_at(place): version.previews.at(place) for place in range(len(version.items))}


def test_a_build_keeps_the_preview_of_each_item(store: Store) -> None:
    found = previews_of(store.open(1))
    assert found.keys() == COLORS.keys()
    assert {size_of(preview) for preview in found.values()} == {("WEBP", (12, 8))}
    assert len(set(found.values())) == len(COLORS)


def test_a_build_without_previews_has_no_files_for_them(tmp_path: Path) -> None:
    encoder, store = photo_encoder(tmp_path / "encoder"), Store(tmp_path / "store")
    rows = replace(photo_rows(tmp_path / "photos", encoder), read_with_previews=None)
    number = build(rows, encoder, store, target=Target(key="Flat"), device="cpu")
    assert store.open(number).previews is None
    assert not {CONTENT, PLACES} & {path.name for path in store.path(number).iterdir()}


@pytest.mark.parametrize("name", [CONTENT, PLACES])
def test_previews_are_sealed(store: Store, name: str) -> None:
    flip(store.path(1) / name, -1)
    with pytest.raises(ArtifactError, match=name):
        store.open(1)


def test_the_log_keeps_a_preview_and_notices_a_changed_byte(tmp_path: Path) -> None:
    log_changes(tmp_path, Change("a", RED, "{}", preview=b"small"), Change("b", RED, "{}"), Change("a"))
    with closing(ChangeLog(tmp_path)) as log:
        assert [change.preview for change in log.read(0)] == [b"small", None, None]
        first, last, none = log.find("a", 2), log.find("a"), log.find("a", 0)
        assert first is not None
        assert last is not None
        assert (first.sequence, first.preview, last.is_delete, none) == (1, b"small", True, None)
    with closing(sqlite3.connect(tmp_path / LOG)) as database, database:
        database.execute("UPDATE changes SET preview = ? WHERE sequence = 1", (b"smalL",))
    with closing(ChangeLog(tmp_path)) as log, pytest.raises(ArtifactError, match="another digest"):
        log.read(0)


def test_a_compaction_keeps_the_previews_of_all_items(store: Store) -> None:
    before = previews_of(store.open(1))
    log_changes(
        store.folder,
        Change("new", RED, "{}", preview=b"first"),
        Change("new", RED, "{}", preview=b"second"),
        Change("00.png", RED, "{}", preview=b"replaced"),
        put("01.png", RED),
        put("plain", RED),
        Change("02.png"),
    )
    compact(store)
    wanted = before | {"new": b"second", "00.png": b"replaced", "01.png": b"", "plain": b""}
    del wanted["02.png"]
    assert previews_of(store.open_champion()) == wanted
    log_changes(store.folder, Change("03.png"))
    compact(store)
    del wanted["03.png"]
    assert previews_of(store.open_champion()) == wanted


def test_a_version_without_previews_gets_none_by_a_compaction(store_copy: Store) -> None:
    row = store_copy.open_champion().canary[0]
    log_changes(store_copy.folder, Change("new", row, "{}", preview=b"small"))
    compact(store_copy)
    assert store_copy.open_champion().previews is None


def test_an_import_of_photos_keeps_their_previews(store: Store, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "new.png").write_bytes(photo((1, 2, 3), size=(200, 100)))
    import_rows(open_rows(str(more), spec=store.open(1).encoder.inputs), store)
    with closing(ChangeLog(store.folder)) as log:
        change = log.find("new.png")
    assert change is not None
    assert size_of(change.preview or b"") == ("WEBP", (96, 48))


def test_a_retraining_takes_previews_from_the_champion_and_the_log(store: Store, tmp_path: Path) -> None:
    champion = store.open(1)
    log_changes(store.folder, Change("new", RED, "{}", preview=b"new"), put("01.png", RED), Change("02.png"))
    manifest = champion.manifest.data
    rows = open_rows(str(tmp_path / "photos"), spec=champion.encoder.inputs)
    source = ChampionRows(rows, manifest.name, manifest.rows, manifest.sha256)
    taken = take_snapshot(
        source, store.folder, 3, lambda puts: np.ones(len(puts), np.bool_), champion.encoder.preprocess
    )
    chunks = list(with_previews(taken.rows, champion).chunks(5))
    found = {name: small for chunk in chunks for name, small in zip(chunk.ids, chunk.previews, strict=True)}
    wanted = previews_of(champion) | {"new": b"new", "01.png": b""}
    del wanted["02.png"]
    assert found == wanted
    assert taken.rows.transform == champion.encoder.transform

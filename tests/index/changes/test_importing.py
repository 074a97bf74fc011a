"""Imports into the change log: whole transactions, each with its place, and no row twice."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import open_collection
from lookalike.index.changes.importing import MOST, import_rows
from lookalike.index.changes.log import ChangeLog
from lookalike.index.errors import JobError, StoreError
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.errors import DataError
from lookalike.training.rows import Chunk, Rows
from tests.factories import cloud, encoder_at, made_rows

WIDTH = 4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The champion does not change a row."""
    made = Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32))
    build(made_rows(cloud(20, WIDTH)), encoder, made, metric="l2", target=Target(key="Flat"), device="cpu")
    made.promote(1)
    return made


def logged(store: Store) -> list[Change]:
    with closing(ChangeLog(store.folder)) as log:
        return log.read(0, 1 << 20)


def stopping(rows: Rows, after: int) -> Rows:
    """The same rows, but reading is interrupted after a number of rows."""

    def read(size: int) -> Iterator[Chunk]:
        seen = 0
        for chunk in rows.read(size):
            if seen >= after:
                raise KeyboardInterrupt
            seen += len(chunk.ids)
            yield chunk

    return replace(rows, read=read)


def test_each_row_becomes_an_item_with_its_id_input_and_payload(store: Store) -> None:
    inputs = cloud(3, WIDTH, seed=1)
    payloads: list[dict[str, Any]] = [{"label": 3}, {}, {"text": 'naïve\n"quoted"', "list": [1, None]}]
    done = import_rows(made_rows(inputs, ["row-1", "new/ ?#%", "ключ 鍵 🔑"], payloads), store)
    assert (done.rows, done.before, done.sequence) == (3, 0, 3)
    changes = logged(store)
    assert [change.id for change in changes] == ["row-1", "new/ ?#%", "ключ 鍵 🔑"]
    np.testing.assert_array_equal([change.input for change in changes], inputs)
    assert [json.loads(change.payload or "") for change in changes] == payloads
    collection = open_collection(store, 1)
    assert (done.replaced, collection.items.count) == (1, 22)  # one of the 20 was replaced
    found = collection.searcher.search_rows(inputs, 1)
    assert [collection.items.id_at(int(p)) for p in found.positions[:, 0]] == ["row-1", "new/ ?#%", "ключ 鍵 🔑"]


def test_an_interrupted_import_continues_and_writes_no_row_twice(store: Store) -> None:
    rows = made_rows(cloud(3 * MOST + 7, WIDTH, seed=1))
    with pytest.raises(KeyboardInterrupt):
        import_rows(stopping(rows, 2 * MOST), store)
    assert len(logged(store)) == 2 * MOST
    done = import_rows(rows, store)
    assert (done.rows, done.before, done.sequence) == (MOST + 7, 2 * MOST, 3 * MOST + 7)
    changes = logged(store)
    assert [change.id for change in changes] == [f"row-{i}" for i in range(3 * MOST + 7)]


def test_a_finished_import_has_nothing_to_do_until_it_is_asked_for_again(store: Store) -> None:
    rows = made_rows(cloud(30, WIDTH, seed=1))
    import_rows(rows, store)
    done = import_rows(rows, store)
    assert (done.rows, done.before, done.sequence) == (0, 30, 30)
    done = import_rows(rows, store, again=True)
    assert (done.rows, done.before, done.sequence) == (30, 0, 60)


def test_imports_only_the_new_rows_of_a_longer_source(store: Store) -> None:
    inputs = cloud(50, WIDTH, seed=1)
    for count, batch, before in ((20, 7, 0), (35, 50, 20), (50, 3, 35)):
        done = import_rows(made_rows(inputs[:count], batch=batch), store)
        assert (done.rows, done.before) == (count - before, before)
    np.testing.assert_array_equal([change.input for change in logged(store)], inputs)


@pytest.mark.parametrize("what", ["an input", "an id", "a payload", "fewer rows"])
def test_imports_all_rows_of_a_changed_source(store: Store, what: str) -> None:
    inputs, ids = cloud(30, WIDTH, seed=1), [f"new-{i}" for i in range(30)]
    payloads = [{"n": str(i)} for i in range(30)]
    import_rows(made_rows(inputs, ids, payloads), store)
    if what == "an input":
        inputs[11, 2] += 1
    elif what == "an id":
        ids[11] = "other"
    elif what == "a payload":
        payloads[11] = {"n": "other"}
    else:
        inputs, ids, payloads = inputs[:29], ids[:29], payloads[:29]
    done = import_rows(made_rows(inputs, ids, payloads), store)
    assert (done.rows, done.before, done.sequence) == (len(ids), 0, 30 + len(ids))


def test_each_source_name_has_its_own_place(store: Store) -> None:
    inputs = cloud(10, WIDTH, seed=1)
    import_rows(made_rows(inputs), store)
    other = replace(made_rows(inputs), name="other")
    assert import_rows(other, store).rows == 10
    assert import_rows(made_rows(inputs), store).rows == 0


def test_the_second_of_two_imports_at_once_is_refused(store: Store) -> None:
    rows = made_rows(cloud(2 * MOST, WIDTH))

    def read(size: int) -> Iterator[Chunk]:
        """Another process imports all the rows before this process reads the second part."""
        first, *others = rows.read(size)
        yield first
        assert import_rows(rows, store, again=True).rows == 2 * MOST
        yield from others

    with pytest.raises(JobError, match="import made: expected one job at a time"):
        import_rows(replace(rows, read=read), store)
    assert len(logged(store)) == 3 * MOST
    assert import_rows(rows, store).rows == 0


def test_a_later_row_replaces_a_row_of_the_same_id(store: Store) -> None:
    import_rows(made_rows(cloud(2, WIDTH), ["one", "one"], [{"n": 1}, {"n": 2}]), store)
    items = open_collection(store, 1).items
    place = items.find("one")
    assert place is not None
    assert items.payload_json(place) == '{"n":2}'


@pytest.mark.parametrize(
    ("bad", "about"),
    [
        (np.nan, f"made, row {MOST + 5}, column 2: expected a finite number"),
        (np.inf, f"made, row {MOST + 5}, column 2: expected a finite number"),
        (3e38, f"made, row {MOST + 5}, id 'row-{MOST + 5}': expected a row that the champion's encoder can embed"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_nothing_of_its_transaction_written(
    store: Store, bad: float, about: str
) -> None:
    inputs = cloud(MOST + 50, WIDTH, seed=1)
    inputs[MOST + 5, 2] = bad
    with pytest.raises(DataError) as told:
        import_rows(made_rows(inputs), store)
    assert str(told.value).startswith(about)
    assert len(logged(store)) == MOST
    inputs[MOST + 5, 2] = 0.5
    done = import_rows(made_rows(inputs), store)  # with a corrected row, the import continues
    assert (done.rows, done.before) == (50, MOST)


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x00b", "a\ud800b"])
def test_an_id_that_no_item_can_have_is_refused(store: Store, name: str) -> None:
    with pytest.raises(DataError, match=r"made, id .*expected 1 to 256 characters, none of them a control"):
        import_rows(made_rows(cloud(3, WIDTH), ["first", name, "last"]), store)
    assert not logged(store)


def test_a_payload_that_is_no_json_is_refused(store: Store) -> None:
    with pytest.raises(DataError, match="payload of 'one': expected JSON values"):
        import_rows(made_rows(cloud(1, WIDTH), ["one"], [{"n": float("nan")}]), store)


def test_rows_of_another_width_are_refused(store: Store) -> None:
    with pytest.raises(DataError, match=r"expected rows of shape \(4,\)"):
        import_rows(made_rows(cloud(3, WIDTH + 1)), store)


def test_needs_a_champion(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a promoted version"):
        import_rows(made_rows(cloud(3, WIDTH)), Store(tmp_path / "none"))


def test_rows_for_an_encoder_with_an_origin_are_logged_as_the_source_holds_them(tmp_path: Path) -> None:
    far, made = cloud(20, WIDTH) + np.array([1.76e9, 0, 0, 0]), Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32), origin=[1.76e9, 0, 0, 0])
    build(made_rows(far), encoder, made, metric="l2", target=Target(key="Flat"), device="cpu")
    made.promote(1)
    inputs = cloud(3, WIDTH, seed=1) + np.array([1.76e9, 0, 0, 0])
    assert import_rows(made_rows(inputs, ["a", "b", "c"]), made).sequence == 3
    np.testing.assert_array_equal([change.input for change in logged(made)], inputs)
    assert import_rows(made_rows(inputs, ["a", "b", "c"]), made).before == 3  # the source is recognized
    collection = open_collection(made, 1)
    found = collection.searcher.search_rows((inputs - [1.76e9, 0, 0, 0]).astype(np.float32), 1)
    assert [collection.items.id_at(int(p)) for p in found.positions[:, 0]] == ["a", "b", "c"]
    np.testing.assert_allclose(found.scores[:, 0], 0, atol=1e-6)


def test_clipped_values_are_reported_and_imported(tmp_path: Path) -> None:
    """An encoder that was fitted on -1 to 1 knows -21 to 21."""
    store = Store(tmp_path / "store")
    encoder = encoder_at(tmp_path / "encoder", np.eye(WIDTH, dtype=np.float32), fitted=1)
    build(made_rows(cloud(20, WIDTH)), encoder, store, metric="l2", target=Target(key="Flat"), device="cpu")
    store.promote(1)
    inputs = cloud(MOST + 2, WIDTH, seed=1)
    inputs[[1, MOST + 1], [0, 3]] = [3e38, -22]
    done = import_rows(made_rows(inputs), store)
    assert (done.rows, done.clipped.count) == (MOST + 2, 2)
    assert [(one.id, one.column, one.value) for one in done.clipped.values] == [
        ("row-1", 0, 3e38),
        (f"row-{MOST + 1}", 3, -22),
    ]
    assert import_rows(made_rows(inputs), store).clipped.count == 0


def test_counts_the_items_that_were_replaced(store: Store) -> None:
    # row-1 is an item of the version, new comes twice, and gone was deleted before.
    with closing(ChangeLog(store.folder)) as log:
        log.append([Change("gone", cloud(1, WIDTH)[0], "{}"), Change("row-2")])
        log.append([Change("gone")])
    ids = ["row-1", "row-2", "new", "gone", "new"]
    assert import_rows(made_rows(cloud(5, WIDTH, seed=1), ids), store).replaced == 2
    assert import_rows(made_rows(cloud(5, WIDTH, seed=1), ids), store, again=True).replaced == 5

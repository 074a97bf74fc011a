"""Pages of a collection compared with a sorted dictionary, after random changes."""

import json
from typing import Any

import numpy as np
import pytest

from lookalike.index.ann.target import Target
from lookalike.index.changes import delta as live_module
from lookalike.index.changes.change import Change
from lookalike.index.changes.collection import Collection, embedded
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import read_filter
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from tests.factories import cloud, encoder_at, made_rows

COUNT, WIDTH = 90, 3
EVEN = {"field": "even", "equal": True}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("live")
    store = Store(folder / "store")
    rows = made_rows(cloud(COUNT, WIDTH), [f"n{i}" for i in range(COUNT)], [{"even": i % 2 == 0} for i in range(COUNT)])
    encoder = encoder_at(folder / "encoder", np.eye(WIDTH, dtype=np.float32))
    store.promote(build(rows, encoder, store, metric="l2", target=Target(key="Flat"), device="cpu"))
    return store


def changed(store: Store, seed: int) -> tuple[Collection, dict[str, dict[str, Any]]]:
    """A collection after random changes, and its expected payloads by id."""
    collection, random = Collection(store.open_champion()), np.random.default_rng(seed)
    holds: dict[str, dict[str, Any]] = {f"n{i}": {"even": i % 2 == 0} for i in range(COUNT)}
    for sequence in range(1, 120):
        name = f"n{random.integers(150)}" if random.random() < 0.7 else f"ü{random.integers(9)}/"
        if random.random() < 0.4:
            holds.pop(name, None)
            change = Change(name, sequence=sequence)
        else:
            holds[name] = {"even": bool(random.random() < 0.5)}
            row = random.standard_normal(WIDTH).astype(np.float32)
            change = Change(name, row, json.dumps(holds[name]), sequence)
        collection.apply([change], embedded(collection.version, [change]))
    return collection, holds


def test_batch_accessors_equal_single_accessors(store: Store) -> None:
    items = changed(store, 0)[0].items
    for places in (range(0), range(COUNT), range(len(items)), [len(items) - 1, 0]):
        assert items.ids_at(places) == [items.id_at(place) for place in places]
        assert items.payloads_json(places) == [items.payload_json(place) for place in places]
        assert [items.payload_bytes(place) for place in places] == list(map(len, items.payloads_json(places)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 7, 200])
@pytest.mark.parametrize("given", [None, EVEN, {"not": EVEN}], ids=["all", "some", "the others"])
def test_pages_have_each_item_once_in_the_order_of_ids(
    store: Store, monkeypatch: pytest.MonkeyPatch, seed: int, most: int, given: dict[str, Any] | None
) -> None:
    monkeypatch.setattr(live_module, "LOOKED_AT", 16)
    collection, holds = changed(store, seed)
    passing = None if given is None else read_filter(given)
    expected = sorted(name for name, held in holds.items() if given is None or held["even"] == (given == EVEN))
    found, after = list[str](), ""
    while places := collection.items.page(after, most, passing):
        assert len(places) == min(most, len(expected) - len(found))
        found += [collection.items.id_at(place) for place in places]
        after = found[-1]
    assert found == expected
    assert sorted(map(collection.items.id_at, collection.items.passing(passing).tolist())) == expected


def test_a_page_starts_after_an_unknown_id_and_refuses_unknown_fields(store: Store) -> None:
    items = Collection(store.open_champion()).items
    assert [items.id_at(place) for place in items.page("n88x", 5)] == ["n89", "n9"]
    assert items.page("x", 5) == []
    with pytest.raises(QueryError):
        items.page("", 5, read_filter({"field": "none", "exists": True}))

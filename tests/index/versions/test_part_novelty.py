"""The novelty of parts of rows, with rows that no encoder has seen."""

import numpy as np
import pytest

from lookalike.index.versions.build import build
from lookalike.index.versions.part_novelty import PartNovelty
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.training.array_types import Floats
from lookalike.training.config import load_config
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.mixed import INPUTS, QUICK, mixed, write_csv

PARTS = (["weight", "colour"], ["legs"], ["animal", "tame", "price"])


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("parts")
    rows = open_rows(str(write_csv(folder / "a.csv", mixed(3_000))))
    train(rows, load_config(None, [*QUICK, "fit.epochs=12"]), folder / "run")
    store = Store(folder / "store")
    return store.open(build(rows, folder / "run", store))


@pytest.fixture(scope="module")
def rows(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Floats:
    """(400, 8): whole rows of the same kind that the version does not have."""
    path = write_csv(tmp_path_factory.mktemp("other") / "b.csv", mixed(400, seed=1))
    (chunk,) = open_rows(str(path), spec=version.encoder.inputs).chunks(400)
    return chunk.inputs


def only(rows: Floats, names: list[str]) -> Floats:
    """The rows without the columns that are not named."""
    part = rows.copy()
    part[:, [name not in names for name in INPUTS]] = np.nan
    return part


@pytest.mark.parametrize("names", PARTS)
def test_parts_of_usual_rows_are_usual(version: Version, rows: Floats, names: list[str]) -> None:
    novelty = version.searcher.search_rows(only(rows, names), 3).novelty
    assert ((novelty > 0) & (novelty <= 1)).all()
    for level in (0.01, 0.05, 0.2):
        assert (novelty <= level).mean() <= level + 0.05
    as_whole = version.searcher.search(version.embed(only(rows, names)), 3, errors=None).novelty
    assert np.median(novelty) > np.median(as_whole)


def test_a_part_with_an_unusual_value_is_novel(version: Version, rows: Floats) -> None:
    part = only(rows, ["weight", "price"])
    part = part[~np.isnan(part[:, INPUTS.index("price")])][:20]
    usual = version.searcher.search_rows(part, 3).novelty
    part[:, INPUTS.index("weight")] = 40.0  # the greatest weight is some 11
    novel = version.searcher.search_rows(part, 3).novelty
    assert (novel < 0.1).all()
    assert np.median(usual) > 0.2


def test_whole_rows_keep_their_novelty(version: Version, rows: Floats) -> None:
    """Property: parts in the same search change nothing; a row may lack as many columns as nearly all held-out rows."""
    alone = version.searcher.search_rows(rows, 3).novelty
    mixed_in = version.searcher.search_rows(np.concatenate([rows, only(rows, PARTS[0])]), 3).novelty
    np.testing.assert_allclose(mixed_in[: len(rows)], alone, atol=0.01)
    assert version.part_novelty is not None
    assert not version.part_novelty.is_part(rows[np.isnan(rows).sum(axis=1) <= 1]).any()
    assert version.part_novelty.is_part(only(rows, PARTS[0])).all()


def test_many_sets_of_columns_have_smaller_samples(version: Version, rows: Floats) -> None:
    parts = np.repeat(rows[:1], 140, axis=0)
    parts[:, :] = np.where((np.arange(140)[:, None] >> np.arange(8)) % 2, np.nan, np.arange(8) * 0.0)
    parts = parts[np.isnan(parts).sum(axis=1) > 2]
    assert version.part_novelty is not None
    few, many = version.part_novelty.of(parts[:20]), version.part_novelty.of(parts)
    assert {len(novelty.rows) for _, novelty in few} == {256}
    assert {len(novelty.rows) for _, novelty in many} == {64}
    assert sorted(np.concatenate([numbers for numbers, _ in many]).tolist()) == list(range(len(parts)))


def test_without_held_out_rows_no_row_is_a_part(version: Version, rows: Floats) -> None:
    none = PartNovelty(version.encoder, version.base, version.held[:0], np.empty(0, np.int64))
    assert none.of(only(rows, ["legs"])) == []

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.training.errors import DataError
from lookalike.training.fit.split import hold_out, split_rows
from lookalike.training.rows import Chunk, Rows
from lookalike.training.tables.columns import Column
from tests.factories import array_rows, blobs, intervals, quick

ROWS = array_rows(blobs())


def kinds(rows: NDArray[np.float32]) -> set[bytes]:
    return {row.tobytes() for row in rows}


def repeated(*counts: int) -> NDArray[np.float32]:
    """`counts[0]` rows of the value 0, `counts[1]` rows of the value 1, ..."""
    return np.repeat(np.arange(len(counts), dtype=np.float32), counts)[:, None]


def test_splits_rows_and_labels_together() -> None:
    inputs = np.repeat(np.arange(40, dtype=np.float32)[:, None], 2, axis=1)
    rows = array_rows(inputs, [f"label {i}" for i in range(40)])
    split = split_rows(rows, quick("data.validation=0.25"))
    assert (len(split.train), len(split.validation)) == (30, 10)
    assert sorted([*split.train[:, 0], *split.validation[:, 0]]) == list(range(40))
    for part, labels in ((split.train, split.train_labels), (split.validation, split.validation_labels)):
        assert labels == [f"label {int(row[0])}" for row in part]
    other = split_rows(rows, quick("data.validation=0.25", "fit.seed=1"))
    assert not np.array_equal(split.validation, other.validation)


@pytest.mark.parametrize(("count", "share", "held"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.01, 1), (10, 0.99, 9)])
def test_each_part_has_at_least_one_row(count: int, share: float, held: int) -> None:
    split = split_rows(array_rows(blobs(count)), quick(f"data.validation={share}"))
    assert (len(split.train), len(split.validation)) == (count - held, held)


def test_samples_rows_beyond_the_memory_limit() -> None:
    split = split_rows(ROWS, quick("data.max_bytes=480"))  # 20 rows of 6 values of 4 bytes
    assert len(split.train) + len(split.validation) == 20


def test_counts_the_memory_of_all_values_of_a_category() -> None:
    words = Column("color", "categorical", tuple(map(str, range(15))))
    rows = dataclasses.replace(array_rows(np.zeros((60, 6), np.float32)), columns=(words, *map(Column, "abcde")))
    split = split_rows(rows, quick("data.max_bytes=480"))  # 6 rows of 15 + 5 features of 4 bytes
    assert len(split.train) + len(split.validation) == 6


def test_refuses_a_single_row() -> None:
    with pytest.raises(DataError, match="memory: expected at least 2 rows"):
        split_rows(array_rows(blobs(1)), quick())


def test_the_digest_identifies_a_split() -> None:
    one, same, other = (split_rows(ROWS, quick(f"fit.seed={seed}")).digest() for seed in (0, 0, 1))
    assert one == same != other


def test_shows_no_progress_if_not_asked_to(capsys: pytest.CaptureFixture[str]) -> None:
    split_rows(ROWS, quick(), shown=False)
    assert capsys.readouterr().err == ""


def test_the_choice_among_distinct_rows_depends_only_on_count_and_seed() -> None:
    # The first five positions of numpy's permutation of twenty: the same for any twenty distinct rows.
    first = np.random.default_rng(7).permutation(20)[:5]
    for rows in (blobs(20), blobs(20, seed=1)):
        assert np.flatnonzero(hold_out(rows, 0.25, 7)).tolist() == sorted(first)


@pytest.mark.parametrize("seed", range(20))
def test_equal_rows_stay_in_one_part(seed: int) -> None:
    rows = repeated(*[1] * 50, *[2] * 20, *[5] * 2)  # 100 rows
    held = hold_out(rows, 0.1, seed)
    assert held.sum() == 10
    assert not kinds(rows[held]) & kinds(rows[~held])


@pytest.mark.parametrize("seed", range(5))
def test_trains_on_a_group_of_equal_rows_larger_than_the_share(seed: int) -> None:
    rows = repeated(60, *[1] * 40)
    held = hold_out(rows, 0.1, seed)
    assert held.sum() == 10
    assert not held[:60].any()


@pytest.mark.parametrize(
    ("counts", "share", "count"),
    [
        ((10, 10), 0.05, 10),  # one group must be held out, although the share is one row
        ((30, 10), 0.5, 10),  # the smaller group, because the larger is too large
        ((10, 10, 10, 10), 0.49, 20),  # the target is 20
        ((10, 10, 10, 10), 0.45, 20),  # the target is 18: 20 is nearer than 10
        ((10, 10, 10, 10), 0.35, 10),  # the target is 14: 10 is nearer than 20
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_takes_the_number_of_rows_nearest_to_the_share(
    counts: tuple[int, ...], share: float, count: int, seed: int
) -> None:
    held = hold_out(repeated(*counts), share, seed)
    assert held.sum() == count


def test_splits_rows_that_are_all_equal() -> None:
    assert hold_out(repeated(20), 0.25, 0).sum() == 5


@given(
    values=st.lists(st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, math.nan])] * 3), min_size=2, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 1 << 31),
)
def test_held_out_rows_do_not_occur_among_the_training_rows(values: Any, share: float, seed: int) -> None:
    rows = np.array(values, np.float32)
    held = hold_out(rows, share, seed)
    assert np.array_equal(held, hold_out(rows, share, seed))
    assert 0 < held.sum() < len(rows)
    plain = np.nan_to_num(rows + 0, nan=9)  # -0 is 0
    sizes = np.unique(plain, axis=0, return_counts=True)[1]
    if len(sizes) > 1:
        assert not kinds(plain[held]) & kinds(plain[~held])
        cut = min(len(rows) - 1, max(1, round(len(rows) * share)))
        assert abs(int(held.sum()) - cut) < max(sizes)


def test_holds_out_exactly_the_given_rows() -> None:
    inputs = np.repeat(np.arange(40, dtype=np.float32)[:, None], 2, axis=1)
    rows = array_rows(inputs, [f"label {i}" for i in range(40)])
    split = split_rows(rows, quick(), held=np.array([3, 17, 39]))
    assert split.validation[:, 0].tolist() == [3, 17, 39]
    assert split.validation_labels == ["label 3", "label 17", "label 39"]
    assert split.train[:, 0].tolist() == [i for i in range(40) if i not in (3, 17, 39)]


def test_reads_all_given_rows_if_the_others_are_sampled() -> None:
    inputs = np.arange(1_000, dtype=np.float32)[:, None]
    split = split_rows(array_rows(inputs), quick("data.max_bytes=400"), held=np.array([0, 500, 999]))
    assert split.validation.ravel().tolist() == [0, 500, 999]
    assert 97 <= len(split.train) <= 100
    assert not {0, 500, 999} & set(split.train.ravel().tolist())


@pytest.mark.parametrize(("held", "about"), [(range(0), "found no rows held out"), (range(60), "found all rows")])
def test_refuses_to_hold_out_no_rows_or_all_rows(held: range, about: str) -> None:
    with pytest.raises(DataError, match=about):
        split_rows(array_rows(blobs(60)), quick(), held=np.array(held, np.int64))


EPOCH = 1_760_000_000.0


def times(step: float = 0.25) -> NDArray[np.float64]:
    """(60, 2): times, `step` seconds apart, and a small number."""
    return np.stack([EPOCH + step * np.arange(60), np.arange(60) / 8], axis=1)


def test_subtracts_the_origin_of_each_column() -> None:
    split = split_rows(array_rows(times()), quick())
    assert split.origin is not None
    assert split.origin.tolist() == [EPOCH + 10, 0]  # the times are EPOCH + 0 to EPOCH + 14.75
    assert sorted([*split.train[:, 0], *split.validation[:, 0]]) == [0.25 * i - 10 for i in range(60)]
    assert split.blurred == ()
    near = split_rows(array_rows(times() - split.origin), quick())
    assert near.origin is None
    np.testing.assert_array_equal(near.train, split.train)
    assert near.digest() != split.digest()


def test_keeps_the_origin_of_rows_that_have_one() -> None:
    rows = array_rows(times()).measured_from(np.array([EPOCH - 5, 0]))
    split = split_rows(rows, quick())
    assert split.origin is not None
    assert split.origin.tolist() == [EPOCH - 5, 0]
    assert min(split.train[:, 0].min(), split.validation[:, 0].min()) == 5


def test_unscaled_rows_have_no_origin_and_report_lost_resolution() -> None:
    split = split_rows(array_rows(times()), quick("data.scale=none"))
    assert (split.origin, split.blurred) == (None, ("0",))
    assert set(split.train[:, 0].tolist()) == {EPOCH}


def test_reports_columns_that_lost_resolution_in_the_source() -> None:
    rows = array_rows(times(100).astype(np.float32))
    assert split_rows(rows, quick()).blurred == ("0",)
    table = dataclasses.replace(rows, columns=(Column("when"), Column("b")))
    assert split_rows(table, quick()).blurred == ("when",)
    assert split_rows(ROWS, quick()).blurred == ()


def test_does_not_report_lost_resolution_if_only_some_values_are_close() -> None:
    kelvin = np.random.default_rng(0).normal(293, 2, (200_000, 1))
    assert len(np.unique(kelvin.astype(np.float32))) < 0.9 * len(kelvin)
    split = split_rows(array_rows(kelvin), quick())
    assert (split.origin, split.blurred) == (None, ())


def test_reports_positions_and_leaves_out_the_given_rows() -> None:
    inputs = np.arange(40, dtype=np.float32)[:, None]
    for held in (None, np.array([3, 30])):
        split = split_rows(array_rows(inputs), quick(), held=held, without=np.array([0, 7, 39]))
        assert sorted(np.concatenate(split.places)) == sorted({*range(40)} - {0, 7, 39})
        for part, places in zip((split.train, split.validation), split.places, strict=True):
            assert part[:, 0].tolist() == places.tolist()


def window_rows(*counts: int, hop: int = 2, values: NDArray[np.float32] | None = None) -> Rows:
    places = intervals(*counts, hop=hop)
    inputs = np.arange(float(len(places)), dtype=np.float32)[:, None] if values is None else values
    payloads = [s._asdict() for s in places if s]

    def read(size: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), size):
            part = slice(first, first + size)
            yield Chunk([str(i) for i in range(len(inputs))[part]], inputs[part], payloads[part])

    return dataclasses.replace(array_rows(inputs), read=read, group="recording")


@pytest.mark.parametrize("counts", [(40,), (9,) * 12])
def test_no_training_window_overlaps_a_held_out_window(counts: tuple[int, ...]) -> None:
    split = split_rows(window_rows(*counts), quick("data.validation=0.2"))
    places = intervals(*counts)
    train, validation = ([places[place] for place in part] for part in split.places)
    assert not any(a and b and a.overlaps(b) for a in train for b in validation)
    left_out = sum(counts) - len(train) - len(validation)
    assert left_out == (1 if len(counts) == 1 else 0)  # the window before the end overlaps the first one that is held
    assert split.train[:, 0].tolist() == split.places[0].tolist()


def test_training_windows_that_overlap_given_held_out_windows_are_left_out() -> None:
    split = split_rows(window_rows(10), quick(), held=np.array([4, 5]))
    assert [part.tolist() for part in split.places] == [[0, 1, 2, 7, 8, 9], [4, 5]]


def test_held_out_windows_that_equal_training_windows_are_left_out() -> None:
    values = np.arange(20, dtype=np.float32)[:, None]
    values[[0, 19]] = 7  # as silence, in the first and in the last recording
    split = split_rows(window_rows(*[1] * 20, values=values), quick("data.validation=0.5"))
    assert kinds(split.train).isdisjoint(kinds(split.validation))
    assert len(split.train) == 10


def test_refuses_two_windows_that_overlap() -> None:
    with pytest.raises(DataError, match="all rows held out"):
        split_rows(window_rows(2), quick())


def test_reports_integers_that_become_equal_in_float64() -> None:
    nano = 1_700_000_000_000_000_000 + np.arange(100)[:, None]
    assert split_rows(array_rows(nano), quick()).blurred == ("0",)
    assert split_rows(array_rows(nano * 1_000 // 1_000_000), quick()).blurred == ()

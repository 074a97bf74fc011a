"""Five columns, worked out by hand: a (sometimes missing), c (three values, the last in no training row), b, s, d."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nan

from lookalike.training.tables.columns import BOOLEANS, Column, FittedColumn
from lookalike.training.tables.features import Table, build_table

A = FittedColumn(Column("a"), 2, (), low=1.0, high=9.0, mean=4.0)
B = FittedColumn(Column("b"), 0, (), low=-1.0, high=1.0, mean=0.5)
C = FittedColumn(Column("c", "categorical", ("x", "y", "z")), 0, (5, 4, 0))
S = FittedColumn(Column("s", "boolean", BOOLEANS), 0, (8, 1))
D = FittedColumn(Column("d", "categorical", ("u", "v")), 3, (1, 5))
FITTED = (A, C, B, S, D)

#                 b    a  a?   c: x y z   s: f t   d: u v missing
ROW = [1.0, 1.0, 0.5, 0.0, 0.0]
FEATURES = [0.5, 1.0, 0.0, 0, 1, 0, 1, 0, 1, 0, 0]


@pytest.fixture(scope="module")
def table() -> Table:
    return build_table(FITTED)


def features_of(table: Table, row: list[float]) -> list[float]:
    features: list[float] = table.to_features(torch.tensor([row]))[0].tolist()
    return features


def raw_of(table: Table, features: list[float]) -> Tensor:
    return table.to_rows(torch.tensor([features]))[0]


def same(actual: Tensor, expected: list[float]) -> bool:
    return torch.allclose(actual, torch.tensor(expected, dtype=torch.float32), equal_nan=True)


def test_a_row_becomes_features_and_comes_back(table: Table) -> None:
    assert features_of(table, ROW) == FEATURES
    assert same(raw_of(table, FEATURES), ROW)


def test_a_missing_number_becomes_the_mean_and_sets_its_indicator(table: Table) -> None:
    features = features_of(table, [nan, *ROW[1:]])
    assert features[:3] == [0.5, 4.0, 1.0]
    assert same(raw_of(table, features), [nan, *ROW[1:]])


def test_a_missing_number_without_an_indicator_becomes_the_mean(table: Table) -> None:
    assert features_of(table, [1.0, 1.0, nan, 0.0, 0.0])[:3] == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("code", [nan, 2.0, 7.0, -1.0, 0.5])
def test_an_unknown_category_sets_the_slot_for_missing_values(table: Table, code: float) -> None:
    features = features_of(table, [*ROW[:4], code])
    assert features[8:] == [0, 0, 1]
    assert same(raw_of(table, features), [*ROW[:4], nan])


@pytest.mark.parametrize("code", [nan, 2.0, 3.0])
def test_an_unknown_category_without_such_a_slot_sets_no_slot(table: Table, code: float) -> None:
    assert features_of(table, [1.0, code, *ROW[2:]])[3:6] == [0, 0, 0]


def test_logits_decode_to_the_most_likely_value(table: Table) -> None:
    assert same(raw_of(table, [0.0, 3.0, -0.1, 9, -9, 0, -5, -4, 1, 2, 1.5]), [3, 0, 0, 1, 1])
    assert same(raw_of(table, [0.0, 3.0, 0.1, -3, -2, -1, 0, -1, -1, -2, 0]), [nan, 2, 0, 0, nan])


def test_shares_decode_to_the_most_likely_value(table: Table) -> None:
    features = torch.tensor([[0.0, 3.0, 0.4, 0.2, 0.5, 0.3, 0.4, 0.6, 0.1, 0.2, 0.7]])
    assert same(table.to_rows(features, shares=True)[0], [3, 1, 0, 1, nan])
    assert same(table.to_rows(features)[0], [nan, 1, 0, 1, nan])


def test_a_number_that_never_varied_becomes_the_constant() -> None:
    table = build_table((replace(B, low=0.5, high=0.5), A))
    assert features_of(table, [1e9, 2.0]) == [0.5, 2.0, 0.0]


def test_a_masked_column_is_missing_if_training_had_gaps(table: Table) -> None:
    assert same(table.masked, [nan, 4.0, 1.0, 0, 0, 0, 0, 0, 0, 0, 1])


def test_combines_the_numbers_of_one_row_with_the_categories_of_another(table: Table) -> None:
    one, other = torch.tensor([[7.0, 8.0, 1.0, *FEATURES[3:]]]), torch.arange(11.0)[None]
    assert table.with_categories(one, other)[0].tolist() == [7, 8, 0, 3, 4, 5, 6, 7, 8, 9, 10]


def test_knows_which_features_are_numbers_and_their_columns(table: Table) -> None:
    assert table.numeric.tolist() == [True, True] + [False] * 9
    assert table.owner.tolist() == [2, 0, 0, 1, 1, 1, 3, 3, 4, 4, 4]
    assert [column.name for column in table.columns] == ["a", "c", "b", "s", "d"]


def test_plain_numbers_do_not_change() -> None:
    table, rows = build_table((B, replace(B, column=Column("e")))), torch.tensor([[1.0, -2.0]])
    assert torch.equal(table.to_features(rows), rows)
    assert torch.equal(table.to_rows(rows), rows)


@given(
    st.lists(
        st.tuples(
            st.floats(1, 9, width=32) | st.just(nan),
            st.sampled_from([0.0, 1.0]),
            st.floats(-1, 1, width=32),
            st.sampled_from([0.0, 1.0]),
            st.sampled_from([0.0, 1.0, nan]),
        ),
        min_size=1,
    )
)
def test_training_values_survive_a_round_trip(rows: list[tuple[float, ...]]) -> None:
    table, raw = build_table(FITTED), torch.tensor(rows)
    features = table.to_features(raw)
    assert bool(features.isfinite().all())
    assert torch.allclose(table.to_rows(features), raw, equal_nan=True)


@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=5, max_size=5))
def test_a_finite_row_has_finite_features(row: list[float]) -> None:
    features = build_table(FITTED).to_features(torch.tensor([row]))
    assert bool(features.isfinite().all())
    assert bool(((features[:, 2:] == 0) | (features[:, 2:] == 1)).all())

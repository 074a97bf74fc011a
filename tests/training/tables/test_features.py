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

ROW = [1.0, 1.0, 0.5, 0.0, 0.0]
#           a    b    a? b?  c: x y z ?  s: f t ?  d: u v ?
FEATURES = [1.0, 0.5, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0]


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
    assert features[:4] == [4.0, 0.5, 1.0, 0.0]
    assert same(raw_of(table, features), [nan, *ROW[1:]])


def test_a_number_may_be_missing_although_no_training_row_lacked_it(table: Table) -> None:
    features = features_of(table, [1.0, 1.0, nan, 0.0, 0.0])
    assert features[:4] == [1.0, 0.5, 0.0, 1.0]
    assert same(raw_of(table, features), [1.0, 1.0, nan, 0.0, 0.0])


@pytest.mark.parametrize("code", [nan, 2.0, 7.0, -1.0, 0.5])
def test_an_unknown_category_sets_the_slot_for_missing_values(table: Table, code: float) -> None:
    features = features_of(table, [*ROW[:4], code])
    assert features[11:] == [0, 0, 1]
    assert same(raw_of(table, features), [*ROW[:4], nan])


@pytest.mark.parametrize("code", [nan, 2.0, 3.0])
def test_a_value_that_no_training_row_had_sets_the_slot_for_missing_values(table: Table, code: float) -> None:
    assert features_of(table, [1.0, code, *ROW[2:]])[4:8] == [0, 0, 0, 1]


def test_logits_decode_to_the_most_likely_value(table: Table) -> None:
    assert same(raw_of(table, [3.0, 0.0, -0.1, -1, 9, -9, 0, -9, -5, -4, -6, 1, 2, 1.5]), [3, 0, 0, 1, 1])
    assert same(raw_of(table, [3.0, 0.0, 0.1, 0.2, -3, -2, -1, 0, 0, -1, -1, -1, -2, 0]), [nan, nan, nan, 0, nan])


def test_shares_decode_to_the_most_likely_value(table: Table) -> None:
    features = torch.tensor([[3.0, 0.0, 0.4, 0.6, 0.2, 0.5, 0.2, 0.1, 0.4, 0.6, 0, 0.1, 0.2, 0.7]])
    assert same(table.to_rows(features, shares=True)[0], [3, 1, nan, 1, nan])
    assert same(table.to_rows(features)[0], [nan, 1, nan, 1, nan])


def test_the_features_of_known_columns_are_present(table: Table) -> None:
    features = table.to_features(torch.tensor([[nan, 2.0, 0.5, 1.0, nan]]))
    assert table.present(features)[0].tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_columns_of_one_field_are_one_group() -> None:
    parts = [Column(f"when.{part}", "numeric", (), "when", part) for part in ("age", "hour_sin")]
    table = build_table((S, *(replace(A, column=part) for part in parts)))
    assert table.fields == 2
    assert table.group.tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_a_number_that_never_varied_becomes_the_constant() -> None:
    table = build_table((replace(B, low=0.5, high=0.5), A))
    assert features_of(table, [1e9, 2.0]) == [0.5, 2.0, 0.0, 0.0]


def test_a_masked_column_is_missing(table: Table) -> None:
    assert same(table.masked, [4.0, 0.5, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 1])


def test_combines_the_numbers_of_one_row_with_the_categories_of_another(table: Table) -> None:
    one, other = torch.tensor([[7.0, 8.0, 1.0, 1.0, *FEATURES[4:]]]), torch.arange(14.0)[None]
    assert table.with_categories(one, other)[0].tolist() == [7, 8, 0, 0, *range(4, 14)]


def test_knows_which_features_are_numbers_and_their_columns(table: Table) -> None:
    assert table.numeric.tolist() == [True, True] + [False] * 12
    assert table.owner.tolist() == [0, 2, 0, 2, 1, 1, 1, 1, 3, 3, 3, 4, 4, 4]
    assert [column.name for column in table.columns] == ["a", "c", "b", "s", "d"]


@given(
    st.lists(
        st.tuples(
            st.floats(1, 9, width=32) | st.just(nan),
            st.sampled_from([0.0, 1.0]),
            st.floats(-1, 1, width=32) | st.just(nan),
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

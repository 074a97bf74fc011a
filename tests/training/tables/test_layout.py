import pytest

from lookalike.training.tables.columns import BOOLEANS, Column, FittedColumn
from lookalike.training.tables.layout import Layout, Slots, lay_out


def number(name: str, missing: int = 0) -> FittedColumn:
    return FittedColumn(Column(name), missing)


def category(name: str, count: int, missing: int = 0) -> FittedColumn:
    values = tuple(f"{name}{i}" for i in range(count))
    return FittedColumn(Column(name, "categorical", values), missing, (1,) * count)


MIXED = (
    number("a", missing=3),
    category("c", 3),
    number("b"),
    FittedColumn(Column("s", "boolean", BOOLEANS), 0, (4, 5)),
    category("d", 2, missing=1),
)


def test_numbers_come_first_then_indicators_then_categories() -> None:
    # b | a | is a missing? | c: 3 slots | s: 2 slots | d: 2 slots and one for missing
    layout = lay_out(MIXED)
    assert layout == Layout(
        width=5,
        numbers=(2, 0),
        indicators=1,
        categories=(Slots(1, 3, 3, False), Slots(3, 6, 2, False), Slots(4, 8, 3, True)),
    )
    assert (layout.first_slot, layout.features, layout.numbers_only) == (3, 11, False)
    assert layout.owners == (2, 0, 0, 1, 1, 1, 3, 3, 4, 4, 4)


def test_numbers_that_were_never_missing_keep_their_order() -> None:
    layout = lay_out([number("a"), number("b"), number("c")])
    assert (layout.numbers_only, layout.features, layout.owners) == (True, 3, (0, 1, 2))


@pytest.mark.parametrize("fitted", [[number("a", 1)], [category("c", 1)]])
def test_indicators_and_categories_are_not_numbers_only(fitted: list[FittedColumn]) -> None:
    assert not lay_out(fitted).numbers_only


def test_a_table_may_have_only_categories() -> None:
    layout = lay_out([category("c", 2), category("d", 1, missing=2)])
    assert (layout.numbers, layout.first_slot, layout.features) == ((), 0, 4)
    assert layout.owners == (0, 0, 1, 1)

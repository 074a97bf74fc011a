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
    # a b | a? b? | c: 3 slots and missing | s: 2 slots and missing | d: 2 slots and missing
    layout = lay_out(MIXED)
    assert layout == Layout(width=5, numbers=(0, 2), categories=(Slots(1, 4, 4), Slots(3, 8, 3), Slots(4, 11, 3)))
    assert (layout.first_slot, layout.features) == (4, 14)
    assert layout.owners == (0, 2, 0, 2, 1, 1, 1, 1, 3, 3, 3, 4, 4, 4)


def test_each_feature_knows_the_feature_that_says_whether_its_column_is_missing() -> None:
    assert lay_out(MIXED).missing_at == (2, 3, 2, 3, 7, 7, 7, 7, 10, 10, 10, 13, 13, 13)


def test_every_number_has_an_indicator() -> None:
    layout = lay_out([number("a"), number("b", missing=2), number("c")])
    assert (layout.features, layout.owners, layout.first_slot) == (6, (0, 1, 2, 0, 1, 2), 6)


def test_a_table_may_have_only_categories() -> None:
    layout = lay_out([category("c", 2), category("d", 1, missing=2)])
    assert (layout.numbers, layout.first_slot, layout.features) == ((), 0, 5)
    assert layout.owners == (0, 0, 0, 1, 1)

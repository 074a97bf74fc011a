import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lookalike.index.errors import QueryError
from lookalike.index.items.fields import FieldTypes
from lookalike.index.items.filters import allowed, read_filter

BIG = 2**53
LAST = 2**63 - 1
ENDS = [LAST, -LAST - 1, 2.0**64]
ITEMS: list[dict[str, Any]] = [
    {"label": 3, "price": 1.5, "tags": ["red", "new"], "sold": True, "day": "2026-01-02"},
    {"label": "3", "price": 2, "tags": [], "sold": False, "day": "2026-01-10"},
    {"label": 3.0, "price": -0.0, "tags": ["blue", 7, None, [1]], "sold": 1, "day": "2025-12-31"},
    {"label": True, "price": None, "tags": "red", "shop": {"name": "x", "at": {"floor": 2}}},
    {"label": 1, "price": BIG + 1, "tags": None, "shop": {}},
    {"label": [3, "x"], "price": 2.0**63, "day": "é"},
]


def mapped(folder: Path, *batches: list[dict[str, Any]]) -> pa.Table:
    """The columns of the batches, after a round trip through a memory-mapped file with one record batch for each."""
    types = FieldTypes()
    for payloads in batches:
        types.see(payloads)
    schema = pa.schema([("id", pa.string()), *types.schema()])
    with pa.OSFile(str(folder / "made.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for payloads in batches:
            ids = pa.array(["text:id"] * len(payloads), pa.string())
            writer.write_batch(pa.record_batch([ids, *types.arrays(payloads)], schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(folder / "made.arrow"))).read_all()


def matching_rows(table: pa.Table, given: Any) -> list[int]:
    mask = allowed(table, read_filter(given))
    assert (mask.shape, mask.dtype) == ((table.num_rows,), np.dtype(bool))
    return np.flatnonzero(mask).tolist()


@pytest.fixture
def table(tmp_path: Path) -> pa.Table:
    return mapped(tmp_path, ITEMS[:2], [], ITEMS[2:5], ITEMS[5:])


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"field": "label", "equal": 3}, [0, 2, 5]),
        ({"field": "label", "equal": 3.0}, [0, 2, 5]),
        ({"field": "label", "in": [3.5, -3]}, []),
        ({"field": "label", "equal": "3"}, [1]),
        ({"field": "label", "equal": True}, [3]),
        ({"field": "label", "equal": 1}, [4]),
        ({"field": "label", "in": [True, "3", "x", 1e300]}, [1, 3, 5]),
        ({"field": "label", "range": {"gt": 1, "lte": 3}}, [0, 2, 5]),
        ({"field": "label", "range": {"lt": "4"}}, [1]),
        ({"field": "price", "equal": 0}, [2]),
        ({"field": "price", "in": [-0.0, 2.0, 7]}, [1, 2]),
        ({"field": "price", "range": {"gte": -0.0, "lt": 2}}, [0, 2]),
        ({"field": "price", "range": {"gt": 1.2, "gte": 1.5, "lt": 2.5, "lte": 2}}, [0, 1]),
        ({"field": "price", "exists": True}, [0, 1, 2, 4, 5]),
        ({"field": "price", "exists": False}, [3]),
        ({"field": "tags", "equal": "red"}, [0, 3]),
        ({"field": "tags", "in": ["new", 7]}, [0, 2]),
        ({"field": "tags", "equal": True}, []),
        ({"field": "tags", "range": {"gt": "blue", "lt": "red"}}, [0]),
        ({"field": "tags", "exists": True}, [0, 1, 2, 3]),
        ({"field": "sold", "in": [True, False]}, [0, 1]),
        ({"field": "day", "range": {"gte": "2026-01-01", "lte": "2026-01-09"}}, [0]),
        ({"field": "day", "range": {"gt": "z"}}, [5]),
        ({"field": "shop.name", "equal": "x"}, [3]),
        ({"field": "shop.at.floor", "range": {"gt": 1}}, [3]),
        ({"field": "shop", "exists": True}, [3, 4]),
        ({"not": {"field": "label", "equal": 3}}, [1, 3, 4]),
        ({"not": {"field": "sold", "equal": True}}, [1, 2, 3, 4, 5]),
        ({"and": [{"field": "label", "equal": 3}, {"not": {"field": "tags", "equal": "red"}}]}, [2, 5]),
        ({"or": [{"field": "label", "equal": "3"}, {"field": "sold", "equal": True}]}, [0, 1]),
    ],
)
def test_a_filter_matches_the_expected_rows(table: pa.Table, condition: dict[str, Any], rows: list[int]) -> None:
    assert matching_rows(table, condition) == rows


def test_all_bounds_of_a_range_apply_to_the_same_element(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{"x": [1, 9]}, {"x": [5]}])
    assert matching_rows(table, {"field": "x", "range": {"gt": 2, "lt": 8}}) == [1]


@pytest.mark.parametrize(
    ("values", "condition", "rows"),
    [
        ([BIG, BIG + 1, 0.5], {"equal": BIG + 1}, [1]),
        ([BIG, BIG + 1, 0.5], {"equal": float(BIG)}, [0]),
        ([BIG, BIG + 1, 0.5], {"range": {"gt": BIG}}, [1]),
        ([float(BIG), float(BIG + 2)], {"in": [BIG + 1, BIG + 2]}, [1]),
        ([float(BIG), float(BIG + 2)], {"range": {"gt": BIG + 1}}, [1]),
        ([float(BIG), float(BIG + 2)], {"range": {"lt": BIG + 1}}, [0]),
        ([float(BIG + 2), float(BIG + 4)], {"range": {"lte": BIG + 3}}, [0]),
        ([float(BIG + 2), float(BIG + 4)], {"range": {"gte": BIG + 3}}, [1]),
        (ENDS, {"equal": 2**63 - 1}, [0]),
        (ENDS, {"equal": 2.0**64}, [2]),
        (ENDS, {"in": [2.0**63, -(2**63)]}, [1]),
        (ENDS, {"range": {"gte": 2.0**63}}, [2]),
        (ENDS, {"range": {"gt": 2**63 - 1}}, [2]),
        (ENDS, {"range": {"lt": 2.0**63}}, [0, 1]),
        (ENDS, {"range": {"lt": -(2**63)}}, []),
        (ENDS, {"range": {"gte": -1e300, "lt": 1e300}}, [0, 1, 2]),
        ([1, 2.5], {"range": {"gt": 1e300}}, []),
        ([1, 2, 3], {"range": {"gt": 1.5, "lt": 2.5}}, [1]),
        ([-2, -1, 0], {"range": {"gte": -1.5}}, [1, 2]),
        ([-2, -1, 0], {"range": {"lte": -1.5}}, [0]),
    ],
)
def test_numbers_compare_exactly(tmp_path: Path, values: list[Any], condition: Any, rows: list[int]) -> None:
    table = mapped(tmp_path, [{"x": value} for value in values])
    assert matching_rows(table, {"field": "x", **condition}) == rows


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 2**64 + 1, 10**400])
def test_names_the_path_of_an_integer_out_of_bounds(value: int) -> None:
    each: list[tuple[dict[str, Any], str]] = [
        ({"equal": value}, "equal"),
        ({"in": [1, value]}, "in[1]"),
        ({"range": {"lt": value}}, "range.lt"),
        ({"range": {"gte": 1.5, "lte": value}}, "range.lte"),
    ]
    for condition, path in each:
        with pytest.raises(QueryError, match=r"integers from -2\^63 to 2\^63 - 1") as caught:
            read_filter({"not": {"field": "x", **condition}})
        assert caught.value.field == f"filter.not.{path}"


def test_columns_have_names_and_types_by_kind_and_field() -> None:
    types = FieldTypes()
    types.see(ITEMS)
    found = {column.name: str(column.type) for column in types.schema()}
    assert found["integer:label"] == "int64"
    assert found["number:price"] == "double"
    assert found["text:shop.name"] == "string"
    assert found["flag:sold"] == found["other:shop"] == "bool"
    assert found["texts:tags"] == "list<item: string>"
    assert " ".join(found) == (
        "integer:label number:label text:label flag:label integers:label texts:label other:label integer:price "
        "number:price text:tags integers:tags texts:tags other:tags integer:sold flag:sold text:day other:shop "
        "text:shop.name other:shop.at integer:shop.at.floor"
    )
    columns = dict(zip(found, types.arrays(ITEMS[:3]), strict=True))
    assert columns["integer:label"].to_pylist() == [3, None, None]
    assert columns["texts:tags"].to_pylist() == [["red", "new"], None, ["blue"]]
    assert columns["text:shop.name"].to_pylist() == [None, None, None]


@pytest.mark.parametrize(
    ("payload", "condition"),
    [
        ({"a.b": 1, "a": {"b": 2}}, {"field": "a.b", "equal": 1}),
        ({"": {"": "e"}}, {"field": ".", "equal": "e"}),
        ({"a:b\0c": "\0"}, {"field": "a:b\0c", "equal": "\0"}),
        ({"day": date(2026, 1, 2)}, {"field": "day", "equal": "2026-01-02"}),
        ({"size": np.float64(0.5)}, {"field": "size", "equal": 0.5}),
        ({"pair": (1, 2)}, {"field": "pair", "equal": 2}),
        ({"half": "\ud800"}, {"field": "half", "exists": True}),
        ({"x" * 256: 1}, {"field": "x" * 256, "exists": True}),
    ],
)
def test_matches_unusual_names_and_values(tmp_path: Path, payload: dict[str, Any], condition: dict[str, Any]) -> None:
    assert matching_rows(mapped(tmp_path, [{"other": 1}], [payload]), condition) == [1]


def test_uses_the_first_of_two_values_with_one_name_and_kind(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 2}, "a.b": 1}])
    assert matching_rows(table, {"field": "a.b", "equal": 2}) == [1]


def test_the_first_256_fields_become_columns(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{f"f{i}": i for i in range(200)}], [{f"f{i}": "x" for i in range(300)}])
    assert table.num_columns == 1 + 200 + 256
    assert matching_rows(table, {"field": "f255", "equal": "x"}) == [1]
    with pytest.raises(QueryError, match=r"filter.field: .*'f0', .*found 'f256'\. Only the first 256"):
        matching_rows(table, {"field": "f256", "equal": "x"})


def test_no_columns_for_long_or_invalid_names_and_deep_objects() -> None:
    deep: dict[str, Any] = {"end": 1}
    for _ in range(100_000):
        deep = {"d": deep}
    types = FieldTypes()
    types.see([{"x" * 257: 1, "x" * 256: {"y": 1}, "\ud800": 1, "n": None}, deep])
    depths = [".".join("d" * depth) for depth in range(1, 17)]
    assert types.schema().names == [f"other:{name}" for name in ["x" * 256, *depths]]


def test_no_column_for_a_value_that_the_first_pass_did_not_see() -> None:
    types = FieldTypes()
    types.see([{"a": 1}])
    assert [column.to_pylist() for column in types.arrays([{"a": "x", "b": 2}, {"a": 5}])] == [[None, 5]]


SAME = {"field": "label", "equal": 3}
MALFORMED: list[Any] = [
    *(None, 3, {}, {1: 2}, {"field": "label"}, {"xor": [SAME]}, {"and": [SAME], "or": [SAME]}),
    *({"field": "label", **more} for more in ({"and": [SAME]}, {"like": "x"}, {"equal": 3, "exists": True})),
    {"x" * 10**6: 1, **{str(i): 1 for i in range(1000)}},
]
TOO_MANY = {"or": [{"and": [SAME] * 128}, {"and": [SAME] * 129}]}
GTE: list[Any] = [None, True, []]
INVALID: dict[str, list[Any]] = {
    "filter": [*MALFORMED, TOO_MANY],
    "filter.field": [{"field": name, "equal": 3} for name in (None, ["label"], "\ud800", 10**5000)],
    "filter.equal": [{"field": "x", "equal": v} for v in (None, [3], float("nan"), "\udfff", object())],
    "filter.in": [{"field": "x", "in": values} for values in (3, "abc", [], [1] * 10_001)],
    "filter.in[0]": [{"field": "x", "in": [[1]]}],
    "filter.in[2]": [{"field": "x", "in": [1, "x", float("inf")]}],
    "filter.range": [{"field": "x", "range": bounds} for bounds in (3, {}, {"gt": 1, "below": 2})],
    "filter.range.gte": [{"field": "x", "range": {"gte": bound}} for bound in GTE],
    "filter.range.lt": [
        {"field": "x", "range": {"gte": low, "lt": high}} for low, high in ((1e300, False), (1, "2"), (0, 10**5000))
    ],
    "filter.exists": [{"field": "x", "exists": 1}],
    "filter.and": [{"and": []}, {"and": [SAME] * 257}],
    "filter.or": [{"or": {}}],
    "filter.not": [{"not": [SAME]}],
    "filter.not.not.or[1]": [{"not": {"not": {"or": [SAME, 3]}}}],
    "filter.and[1].range.gte": [{"and": [SAME, {"field": "x", "range": {"gt": 1, "gte": "0"}}]}],
}


@pytest.mark.parametrize(("path", "invalid"), [(path, invalid) for path, each in INVALID.items() for invalid in each])
def test_names_the_path_of_an_invalid_filter(path: str, invalid: Any) -> None:
    with pytest.raises(QueryError) as caught:
        read_filter(invalid)
    assert caught.value.field == path
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_errors_contain_the_value_that_was_found() -> None:
    with pytest.raises(QueryError, match=r"expected only finite numbers \(.*\), or only texts, found 'x'"):
        read_filter({"field": "label", "range": {"gte": 1, "lt": "x"}})
    with pytest.raises(QueryError, match="found an object of 'field', 'like'"):
        read_filter({"field": "label", "like": "x"})
    with pytest.raises(QueryError, match="found a number of 16,610 bits"):
        read_filter({"field": 10**5000, "equal": 1})


@pytest.mark.parametrize(
    ("condition", "path"),
    [
        ({"field": "lable", "equal": 3}, "filter.field"),
        ({"field": "lable", "exists": False}, "filter.field"),
        ({"field": "id", "equal": "text:id"}, "filter.field"),
        ({"or": [SAME, {"not": {"field": "integer:label", "equal": 3}}]}, "filter.or[1].not.field"),
        ({"field": "price", "range": {"lt": "2"}}, "filter.range"),
        ({"and": [SAME, {"field": "day", "range": {"lt": 2}}]}, "filter.and[1].range"),
        ({"field": "shop", "range": {"lt": 2}}, "filter.range"),
    ],
)
def test_names_the_path_of_an_unknown_field_or_kind(table: pa.Table, condition: Any, path: str) -> None:
    with pytest.raises(QueryError) as caught:
        matching_rows(table, condition)
    assert caught.value.field == path


def test_an_unknown_field_lists_the_known_fields(table: pa.Table) -> None:
    with pytest.raises(QueryError, match=r"expected a field of the items \('label', 'price', 'tags', .*found 'lable'"):
        matching_rows(table, {"field": "lable", "equal": 3})
    with pytest.raises(QueryError, match=r"a range of the kind of the values of 'day' \(text\), found numbers"):
        matching_rows(table, {"field": "day", "range": {"lt": 2}})


def nested(word: str, depth: int) -> Any:
    inner: Any = SAME
    for _ in range(depth):
        inner = {word: inner if word == "not" else [inner]}
    return inner


@pytest.mark.parametrize("word", ["and", "or", "not"])
def test_filters_nest_at_most_sixteen_levels(table: pa.Table, word: str) -> None:
    assert matching_rows(table, nested(word, 16)) == [0, 2, 5]
    with pytest.raises(QueryError, match="at most 16"):
        read_filter(nested(word, 17))


def test_refuses_huge_and_deep_objects_quickly() -> None:
    lists: Any = []
    for _ in range(200_000):
        lists = [lists]
    invalid = [
        nested("not", 200_000),
        nested("and", 200_000),
        {"field": "x", "equal": lists},
        {"field": lists, "equal": 1},
        {"and": lists},
        {"and": [SAME] * 2_000_000},
        {"field": "x", "in": [0] * 2_000_000},
        {"field": "x", "range": dict.fromkeys(range(1_000_000))},
    ]
    start = time.process_time()
    for one in invalid:
        with pytest.raises(QueryError) as caught:
            read_filter(one)
        assert len(str(caught.value)) < 400
    assert time.process_time() - start < 1


def test_accepts_the_largest_filters() -> None:
    read_filter({"or": [SAME] * 256})
    read_filter({"and": [{"or": [SAME] * 128}] * 2})
    read_filter({"field": "x", "in": list(range(10_000))})


TEXT = "t" * (1 << 10)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ([{"field": "x", "in": list(range(5_000))}] * 2, ""),
        (
            [{"field": "x", "in": list(range(5_000))}, {"not": {"field": "x", "in": list(range(5_001))}}],
            "10,000 values",
        ),
        ([{"field": "x", "in": list(range(9_999))}, SAME], ""),
        ([{"field": "x", "in": list(range(9_999))}, SAME, SAME], "10,000 values"),
        ([{"field": "x", "in": [TEXT + str(i) for i in range(1_000)]}], ""),
        ([{"field": "x", "in": [TEXT + str(i) for i in range(500)]}] * 3, "1,048,576 characters"),
        ([{"field": "x" * (1 << 20), "equal": "y"}], "1,048,576 characters"),
        ([{"field": "x", "range": {"gt": TEXT * 600, "lt": TEXT * 600}}], "1,048,576 characters"),
    ],
)
def test_limits_apply_to_the_whole_filter(parts: list[Any], what: str) -> None:
    if not what:
        read_filter({"and": parts})
        return
    with pytest.raises(QueryError, match=f"filter: expected at most {what}"):
        read_filter({"and": parts})


def test_equivalent_filters_are_equal_and_others_are_not() -> None:
    same = [{"field": "a", "in": [1, 2.0]}, {"field": "a", "in": [2, 1, 1.0]}]
    assert len({read_filter(one) for one in same}) == 1
    distinct = [{"field": "a", "equal": value} for value in (1, True, "1", 0, False)]
    assert len({read_filter(one) for one in distinct}) == 5
    reordered = [{"gt": 1, "lt": 2}, {"lt": 2, "gt": 1}]
    assert len({read_filter({"field": "a", "range": one}) for one in reordered}) == 1


def test_filters_empty_tables_and_a_table_of_one_row(tmp_path: Path) -> None:
    one = mapped(tmp_path, [{"x": 1, "y": ["a"], "z": True}])
    every = {
        "or": [{"field": "x", "range": {"gt": 0}}, {"field": "y", "equal": "b"}, {"not": {"field": "z", "in": [1]}}]
    }
    assert matching_rows(one, every) == [0]
    assert matching_rows(one.slice(0, 0), every) == []
    assert matching_rows(pa.Table.from_batches([], one.schema), every) == []
    with pytest.raises(QueryError, match="no filter, because no item has a field"):
        matching_rows(mapped(tmp_path, [{}, {"x": None}]), every)


# A reference implementation of filters in plain Python.

SPECIAL = [0, 1, -1, True, False, 0.0, -0.0, 1.0, 0.5, BIG, BIG + 1, float(BIG), LAST, -LAST - 1, 2.0**63]
INTEGERS = st.integers(-LAST - 1, LAST)
SCALARS = (
    st.sampled_from([*SPECIAL, "", "0", "1", "a", "é", "\U0001f600", "\uffff"])
    | INTEGERS
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
PAYLOADS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
FIELDS = st.sampled_from(["a", "b", "c", "a.a", "a.b", "b.c", "c.a.b"])
NUMBERS = st.sampled_from([x for x in SPECIAL if not isinstance(x, bool)]) | INTEGERS | st.floats(-1e30, 1e30)
WORDS = st.sampled_from(["gt", "gte", "lt", "lte"])
CONDITIONS = (
    st.fixed_dictionaries({"field": FIELDS, "equal": SCALARS})
    | st.fixed_dictionaries({"field": FIELDS, "in": st.lists(SCALARS, min_size=1, max_size=4)})
    | st.fixed_dictionaries({"field": FIELDS, "exists": st.booleans()})
    | st.fixed_dictionaries({"field": FIELDS, "range": st.dictionaries(WORDS, NUMBERS, min_size=1)})
    | st.fixed_dictionaries({"field": FIELDS, "range": st.dictionaries(WORDS, st.text(max_size=2), min_size=1)})
)
FILTERS: st.SearchStrategy[Any] = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"and": parts})
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"or": parts})
        | inner.map(lambda part: {"not": part})
    ),
    max_leaves=4,
)


def value_at(payload: Any, field: str) -> Any:
    """Return the payload's value at a path, or None. (No name here contains a dot.)"""
    for name in field.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def type_of(value: Any) -> str:
    """Return the type with which a value compares."""
    return {float: "number", int: "number", str: "text", bool: "flag"}.get(type(value), "other")


def same(actual: Any, value: Any) -> bool:
    return type_of(actual) == type_of(value) != "other" and bool(actual == value)


def within_bound(actual: Any, word: str, bound: Any) -> bool:
    if type_of(actual) != ("text" if isinstance(bound, str) else "number"):
        return False
    return bool({"gt": actual > bound, "gte": actual >= bound, "lt": actual < bound, "lte": actual <= bound}[word])


def passes(payload: dict[str, Any], filter_: Any) -> bool:
    match filter_:
        case {"and": parts}:
            return all(passes(payload, part) for part in parts)
        case {"or": parts}:
            return any(passes(payload, part) for part in parts)
        case {"not": part}:
            return not passes(payload, part)
    found = value_at(payload, filter_["field"])
    elements = found if isinstance(found, list) else [found]
    match filter_:
        case {"exists": present}:
            return (found is not None) is present
        case {"equal": value}:
            return any(same(element, value) for element in elements)
        case {"in": values}:
            return any(same(element, value) for element in elements for value in values)
    return any(all(within_bound(element, *bound) for bound in filter_["range"].items()) for element in elements)


# Items in which every field of FIELDS has values of every kind, so that no filter uses an unknown field.
ALL_KINDS: list[dict[str, Any]] = [
    {"a": {"a": value, "b": value}, "b": {"c": value}, "c": {"a": {"b": value}}} for value in (1, 0.5, "a")
] + [dict.fromkeys("abc", value) for value in (1, 0.5, "a")]


@given(st.lists(st.lists(PAYLOADS, max_size=4), max_size=4), FILTERS)
@example([[{"a": -0.0}], [{"a": [-0.0, None]}]], {"field": "a", "in": [0, 1]})
@example([[{"a": [[1]]}, {"a": [{}]}, {"a": {}}]], {"field": "a", "exists": True})
def test_a_filter_agrees_with_plain_python(batches: list[list[dict[str, Any]]], condition: Any) -> None:
    rows = [payload for batch in [*batches, ALL_KINDS] for payload in batch]
    with TemporaryDirectory() as folder:
        found = matching_rows(mapped(Path(folder), *batches, ALL_KINDS), condition)
    assert found == [i for i, payload in enumerate(rows) if passes(payload, condition)]


@given(st.lists(st.lists(PAYLOADS, max_size=4), max_size=3), FILTERS, FILTERS)
def test_de_morgan(batches: list[list[dict[str, Any]]], one: Any, two: Any) -> None:
    with TemporaryDirectory() as folder:
        table = mapped(Path(folder), *batches, ALL_KINDS)
        neither = matching_rows(table, {"not": {"or": [one, two]}})
        assert neither == matching_rows(table, {"and": [{"not": one}, {"not": two}]})
        not_both = matching_rows(table, {"not": {"and": [one, two]}})
        assert not_both == matching_rows(table, {"or": [{"not": one}, {"not": two}]})


WORD = st.sampled_from(["field", "equal", "in", "range", "exists", "gt", "lt", "and", "not"])
JUNK = st.recursive(
    SCALARS | st.none() | st.floats() | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=8,
)


@given(JUNK)
def test_any_json_is_a_filter_or_a_query_error(junk: Any) -> None:
    try:
        hash(read_filter(junk))
    except QueryError as error:
        assert error.field.startswith("filter")  # noqa: PT017

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
from lookalike.index.items.filters import FieldTypes, allowed, read_filter

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
    """The batches' columns after a round trip through a memory-mapped file of as many record batches."""
    types = FieldTypes()
    for payloads in batches:
        types.see(payloads)
    schema = pa.schema([("id", pa.string()), *types.schema()])
    with pa.OSFile(str(folder / "made.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for payloads in batches:
            ids = pa.array(["text:id"] * len(payloads), pa.string())
            writer.write_batch(pa.record_batch([ids, *types.arrays(payloads)], schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(folder / "made.arrow"))).read_all()


def passing(table: pa.Table, given: Any) -> list[int]:
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
def test_a_filter_lets_pass_what_it_says(table: pa.Table, condition: dict[str, Any], rows: list[int]) -> None:
    assert passing(table, condition) == rows


def test_a_range_holds_for_one_element_of_a_list_not_for_two_between_them(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{"x": [1, 9]}, {"x": [5]}])
    assert passing(table, {"field": "x", "range": {"gt": 2, "lt": 8}}) == [1]


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
    assert passing(table, {"field": "x", **condition}) == rows


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64, 2**64 + 1, 10**400])
def test_an_integer_out_of_bounds_is_refused_by_its_path(value: int) -> None:
    each: list[tuple[dict[str, Any], str]] = [
        ({"equal": value}, "equal"),
        ({"in": [1, value]}, "in[1]"),
        ({"range": {"lt": value}}, "range.lt"),
        ({"range": {"gte": 1.5, "lte": value}}, "range.lte"),
    ]
    for condition, place in each:
        with pytest.raises(QueryError, match=r"integers from -2\^63 to 2\^63 - 1") as caught:
            read_filter({"not": {"field": "x", **condition}})
        assert caught.value.field == f"filter.not.{place}"


def test_columns_are_named_by_kind_and_field_and_typed() -> None:
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
def test_odd_names_and_values_are_found(tmp_path: Path, payload: dict[str, Any], condition: dict[str, Any]) -> None:
    assert passing(mapped(tmp_path, [{"other": 1}], [payload]), condition) == [1]


def test_of_two_values_of_one_kind_under_one_name_the_first_counts(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 2}, "a.b": 1}])
    assert passing(table, {"field": "a.b", "equal": 2}) == [1]


def test_the_first_256_fields_become_columns(tmp_path: Path) -> None:
    table = mapped(tmp_path, [{f"f{i}": i for i in range(200)}], [{f"f{i}": "x" for i in range(300)}])
    assert table.num_columns == 1 + 200 + 256
    assert passing(table, {"field": "f255", "equal": "x"}) == [1]
    with pytest.raises(QueryError, match=r"filter.field: .*'f0', .*found 'f256'\. Only the first 256"):
        passing(table, {"field": "f256", "equal": "x"})


def test_names_that_are_too_long_or_no_utf8_and_objects_too_deep_become_no_columns() -> None:
    deep: dict[str, Any] = {"end": 1}
    for _ in range(100_000):
        deep = {"d": deep}
    types = FieldTypes()
    types.see([{"x" * 257: 1, "x" * 256: {"y": 1}, "\ud800": 1, "n": None}, deep])
    depths = [".".join("d" * depth) for depth in range(1, 17)]
    assert types.schema().names == [f"other:{name}" for name in ["x" * 256, *depths]]


def test_a_value_that_the_first_pass_was_not_shown_has_no_column() -> None:
    types = FieldTypes()
    types.see([{"a": 1}])
    assert [column.to_pylist() for column in types.arrays([{"a": "x", "b": 2}, {"a": 5}])] == [[None, 5]]


SAME = {"field": "label", "equal": 3}
SHAPELESS: list[Any] = [
    *(None, 3, {}, {1: 2}, {"field": "label"}, {"xor": [SAME]}, {"and": [SAME], "or": [SAME]}),
    *({"field": "label", **more} for more in ({"and": [SAME]}, {"like": "x"}, {"equal": 3, "exists": True})),
    {"x" * 10**6: 1, **{str(i): 1 for i in range(1000)}},
]
TOO_MANY = {"or": [{"and": [SAME] * 128}, {"and": [SAME] * 129}]}
GTE: list[Any] = [None, True, []]
WRONG: dict[str, list[Any]] = {
    "filter": [*SHAPELESS, TOO_MANY],
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


@pytest.mark.parametrize(("path", "wrong"), [(path, wrong) for path, each in WRONG.items() for wrong in each])
def test_what_is_no_filter_is_refused_by_its_path(path: str, wrong: Any) -> None:
    with pytest.raises(QueryError) as caught:
        read_filter(wrong)
    assert caught.value.field == path
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


def test_what_was_found_is_shown() -> None:
    with pytest.raises(QueryError, match=r"expected finite numbers \(.*\) or texts, all alike, found 'x'"):
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
def test_what_the_items_do_not_have_is_refused_by_its_path(table: pa.Table, condition: Any, path: str) -> None:
    with pytest.raises(QueryError) as caught:
        passing(table, condition)
    assert caught.value.field == path


def test_an_unknown_field_is_told_of_the_fields_there_are(table: pa.Table) -> None:
    with pytest.raises(QueryError, match=r"expected a field of the items \('label', 'price', 'tags', .*found 'lable'"):
        passing(table, {"field": "lable", "equal": 3})
    with pytest.raises(QueryError, match=r"a range over what 'day' holds \(text\), found numbers"):
        passing(table, {"field": "day", "range": {"lt": 2}})


def nested(word: str, depth: int) -> Any:
    inner: Any = SAME
    for _ in range(depth):
        inner = {word: inner if word == "not" else [inner]}
    return inner


@pytest.mark.parametrize("word", ["and", "or", "not"])
def test_filters_nest_sixteen_deep_and_no_deeper(table: pa.Table, word: str) -> None:
    assert passing(table, nested(word, 16)) == [0, 2, 5]
    with pytest.raises(QueryError, match="at most 16"):
        read_filter(nested(word, 17))


def test_a_bottomless_or_endless_object_is_refused_at_once() -> None:
    lists: Any = []
    for _ in range(200_000):
        lists = [lists]
    wrong = [
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
    for one in wrong:
        with pytest.raises(QueryError) as caught:
            read_filter(one)
        assert len(str(caught.value)) < 400
    assert time.process_time() - start < 1


def test_the_largest_filters_are_read() -> None:
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
def test_a_whole_filter_has_room_for_so_much_however_it_is_cut(parts: list[Any], what: str) -> None:
    if not what:
        read_filter({"and": parts})
        return
    with pytest.raises(QueryError, match=f"filter: expected at most {what}"):
        read_filter({"and": parts})


def test_filters_that_say_the_same_are_one_key_and_others_are_not() -> None:
    same = [{"field": "a", "in": [1, 2.0]}, {"field": "a", "in": [2, 1, 1.0]}]
    assert len({read_filter(one) for one in same}) == 1
    apart = [{"field": "a", "equal": value} for value in (1, True, "1", 0, False)]
    assert len({read_filter(one) for one in apart}) == 5
    turned = [{"gt": 1, "lt": 2}, {"lt": 2, "gt": 1}]
    assert len({read_filter({"field": "a", "range": one}) for one in turned}) == 1


def test_tables_without_rows_without_batches_without_fields_and_of_one_row(tmp_path: Path) -> None:
    one = mapped(tmp_path, [{"x": 1, "y": ["a"], "z": True}])
    every = {
        "or": [{"field": "x", "range": {"gt": 0}}, {"field": "y", "equal": "b"}, {"not": {"field": "z", "in": [1]}}]
    }
    assert passing(one, every) == [0]
    assert passing(one.slice(0, 0), every) == []
    assert passing(pa.Table.from_batches([], one.schema), every) == []
    with pytest.raises(QueryError, match="no filter, as no item has a field"):
        passing(mapped(tmp_path, [{}, {"x": None}]), every)


# What a filter means, once more and in plain Python, to compare with.

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


def held(payload: Any, field: str) -> Any:
    """What the payload has at a path, or None. (No name here has a dot in it.)"""
    for name in field.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    return payload


def sort(value: Any) -> str:
    """What a value compares with."""
    return {float: "number", int: "number", str: "text", bool: "flag"}.get(type(value), "other")


def same(held: Any, value: Any) -> bool:
    return sort(held) == sort(value) != "other" and bool(held == value)


def inside(held: Any, word: str, bound: Any) -> bool:
    if sort(held) != ("text" if isinstance(bound, str) else "number"):
        return False
    return bool({"gt": held > bound, "gte": held >= bound, "lt": held < bound, "lte": held <= bound}[word])


def passes(payload: dict[str, Any], given: Any) -> bool:
    match given:
        case {"and": parts}:
            return all(passes(payload, part) for part in parts)
        case {"or": parts}:
            return any(passes(payload, part) for part in parts)
        case {"not": part}:
            return not passes(payload, part)
    found = held(payload, given["field"])
    elements = found if isinstance(found, list) else [found]
    match given:
        case {"exists": present}:
            return (found is not None) is present
        case {"equal": value}:
            return any(same(element, value) for element in elements)
        case {"in": values}:
            return any(same(element, value) for element in elements for value in values)
    return any(all(inside(element, *bound) for bound in given["range"].items()) for element in elements)


# An item that gives every field of FIELDS every kind, so that no filter asks for what is not there.
FULL: list[dict[str, Any]] = [
    {"a": {"a": value, "b": value}, "b": {"c": value}, "c": {"a": {"b": value}}} for value in (1, 0.5, "a")
] + [dict.fromkeys("abc", value) for value in (1, 0.5, "a")]


@given(st.lists(st.lists(PAYLOADS, max_size=4), max_size=4), FILTERS)
@example([[{"a": -0.0}], [{"a": [-0.0, None]}]], {"field": "a", "in": [0, 1]})
@example([[{"a": [[1]]}, {"a": [{}]}, {"a": {}}]], {"field": "a", "exists": True})
def test_a_filter_means_what_plain_python_says(batches: list[list[dict[str, Any]]], condition: Any) -> None:
    rows = [payload for batch in [*batches, FULL] for payload in batch]
    with TemporaryDirectory() as folder:
        found = passing(mapped(Path(folder), *batches, FULL), condition)
    assert found == [i for i, payload in enumerate(rows) if passes(payload, condition)]


@given(st.lists(st.lists(PAYLOADS, max_size=4), max_size=3), FILTERS, FILTERS)
def test_de_morgan(batches: list[list[dict[str, Any]]], one: Any, two: Any) -> None:
    with TemporaryDirectory() as folder:
        table = mapped(Path(folder), *batches, FULL)
        neither = passing(table, {"not": {"or": [one, two]}})
        assert neither == passing(table, {"and": [{"not": one}, {"not": two}]})
        not_both = passing(table, {"not": {"and": [one, two]}})
        assert not_both == passing(table, {"or": [{"not": one}, {"not": two}]})


WORD = st.sampled_from(["field", "equal", "in", "range", "exists", "gt", "lt", "and", "not"])
JUNK = st.recursive(
    SCALARS | st.none() | st.floats() | st.text(st.characters(), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=2),
    max_leaves=8,
)


@given(JUNK)
def test_anything_else_is_a_query_error_or_a_filter(junk: Any) -> None:
    try:
        hash(read_filter(junk))
    except QueryError as error:
        assert error.field.startswith("filter")  # noqa: PT017

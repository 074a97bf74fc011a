import datetime
import decimal
import json
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.arrow_values import duplicate_field, plain, plain_column, text_of

BERLIN = "Europe/Berlin"
FINE = 1_711_848_600_123_456_789  # 2024-03-31 01:30:00.123456789, in ns since 1970
LEAST = -(2**63)


def ticks(kind: pa.DataType, *values: int | None) -> pa.Array:
    """An array of a temporal type by its integers."""
    return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)


TIMES = [
    (ticks(pa.date32(), 0, -1, None, 10_000_000), ["1970-01-01", "1969-12-31", None, "29349-01-26"]),
    (ticks(pa.date64(), 86_400_000, None), ["1970-01-02", None]),
    (ticks(pa.timestamp("s"), 5, None, LEAST), ["1970-01-01 00:00:05", None, "-292277022657-01-27 08:29:52"]),
    (ticks(pa.timestamp("ms"), 10**15, -1), ["33658-09-27 01:46:40.000", "1969-12-31 23:59:59.999"]),
    (ticks(pa.timestamp("us", "UTC"), FINE // 1000), ["2024-03-31 01:30:00.123456Z"]),
    (ticks(pa.timestamp("ns", BERLIN), FINE), ["2024-03-31 01:30:00.123456789Z"]),
    (ticks(pa.timestamp("ns"), FINE, LEAST), ["2024-03-31 01:30:00.123456789", "1677-09-21 00:12:43.145224192"]),
    (ticks(pa.time32("s"), 3661, None), ["01:01:01", None]),
    (ticks(pa.time64("ns"), 1_000_000_001), ["00:00:01.000000001"]),
    (ticks(pa.duration("s"), 5400, 0, None), ["PT5400S", "PT0S", None]),
    (ticks(pa.duration("us"), 1_000_001, -1_500_000), ["PT1.000001S", "-PT1.5S"]),
    (ticks(pa.duration("ns"), 1, LEAST), ["PT0.000000001S", "-PT9223372036.854775808S"]),
]
OTHERS = [
    (pa.array([b"AAA", "é".encode(), None, b""]), ["AAA", "é", None, ""]),
    (pa.array([b"ab", None], pa.binary(2)), ["ab", None]),
    (pa.array([b"ab"], pa.large_binary()), ["ab"]),
    (pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()), ["00000000-0000-0000-0000-000000000005", None]),
    (pa.array([decimal.Decimal("1.25"), None]), [1.25, None]),
    (pa.array([decimal.Decimal("12345678901234567.25")], pa.decimal128(30, 3)), ["12345678901234567.250"]),
    (pa.array([decimal.Decimal(10**30)], pa.decimal256(40, 0)), [10**30]),
    (pa.array([1.5, float("nan"), None], pa.float16()), [1.5, None, None]),
    (pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    (pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["b", None])), ["b", None, "b"]),
    (pa.array([7, 8, 7]).dictionary_encode(), [7, 8, 7]),
    (pa.array(["x", None], pa.large_string()), ["x", None]),
    (pa.array(["x", None], pa.string_view()), ["x", None]),
    (pa.array([True, None]), [True, None]),
    (pa.nulls(2), [None, None]),
]


@pytest.mark.parametrize(("values", "expected"), TIMES + OTHERS, ids=lambda value: str(getattr(value, "type", "")))
def test_converts_values_equally_at_the_top_level_and_nested(values: pa.Array, expected: list[Any]) -> None:
    assert plain(values) == expected
    assert json.loads(json.dumps(plain(values))) == expected
    count = len(values)
    whole = pa.array([0, count], pa.int32())
    assert plain(pa.ListArray.from_arrays(whole, values)) == [expected]
    assert plain(pa.FixedSizeListArray.from_arrays(values, count)) == [expected]
    assert plain(pa.StructArray.from_arrays([values], ["x"])) == [{"x": value} for value in expected]
    assert plain(pa.MapArray.from_arrays(whole, pa.array(range(count)), values)) == [
        [[key, value] for key, value in enumerate(expected)]
    ]


@pytest.mark.parametrize(("values", "expected"), TIMES + OTHERS, ids=lambda value: str(getattr(value, "type", "")))
def test_converts_a_slice(values: pa.Array, expected: list[Any]) -> None:
    assert plain(values.slice(1)) == expected[1:]
    structs = pa.StructArray.from_arrays([values], ["x"]).slice(1)
    assert plain(structs) == [{"x": value} for value in expected[1:]]


@pytest.mark.parametrize("make", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
def test_converts_missing_empty_and_sliced_lists(make: Any) -> None:
    values = pa.array([[9], [1, None], None, [], [2]], make(pa.date32()))
    expected = [["1970-01-02", None], None, [], ["1970-01-03"]]
    assert plain(values.slice(1)) == expected


def test_converts_missing_empty_and_sliced_structs_and_maps() -> None:
    structs = pa.array([{"a": 9}, None, {"a": None}, {"a": 1}], pa.struct([("a", pa.duration("ms"))]))
    assert plain(structs.slice(1)) == [None, {"a": None}, {"a": "PT0.001S"}]
    maps = pa.array([[("x", 9)], None, [("a", 1), ("b", None)], []], pa.map_(pa.string(), pa.date32()))
    assert plain(maps.slice(1)) == [None, [["a", "1970-01-02"], ["b", None]], []]
    assert plain(pa.array([{}, None], pa.struct([]))) == [{}, None]


def test_dates_agree_with_python() -> None:
    days = np.arange(-719_162, 2_932_897, 997)  # the years 1 to 9999
    expected = [datetime.date.fromordinal(int(day) + 719_163).isoformat() for day in days]
    assert plain(ticks(pa.date32(), *days.tolist())) == expected


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (pa.array([b"a", b"\x00\xff"]), "2 bytes that are not UTF-8, 0x00ff"),
        (pa.array([[b"a"], [b"\xff" * 40]]), "40 bytes that are not UTF-8, 0xffffffffffffffffffffffffffffffff…"),
        (pa.array([1.5, float("-inf")]), "an infinite number"),
        (pa.array([[1.5], [float("inf")]], pa.list_(pa.float32())), "an infinite number"),
        (ticks(pa.time32("s"), 1, 90_000), "90000 s as a time of day"),
        (ticks(pa.time64("us"), 1, -1), "-1 us as a time of day"),
    ],
)
def test_names_the_row_of_a_value_that_json_cannot_represent(values: pa.Array, found: str) -> None:
    with pytest.raises(DataError, match=r"t, row 11, column x: expected text, finite numbers") as caught:
        plain_column(values, "t", "x", 10)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary(1), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_decodes_bytes_to_text(kind: pa.DataType) -> None:
    values = pa.array([b"a", None, b"b"], kind)
    assert (text_of(values).type, text_of(values).to_pylist()) == (pa.large_string(), ["a", None, "b"])


def test_leaves_other_values_than_bytes_unchanged() -> None:
    for values in (pa.array([1]), pa.array(["a"]), pa.array(["a"]).dictionary_encode()):
        assert text_of(values) is values


def test_finds_duplicate_struct_fields_at_any_depth() -> None:
    pair = pa.struct([pa.field("a", pa.int8()), pa.field("a", pa.int8())])
    assert duplicate_field(pa.list_(pa.struct([pa.field("b", pair)]))) == "a"
    assert duplicate_field(pa.map_(pa.string(), pair)) == "a"
    assert duplicate_field(pa.struct([pa.field("a", pa.struct([pa.field("a", pa.int8())]))])) is None
    assert duplicate_field(pa.int8()) is None

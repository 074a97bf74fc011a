"""Times worked out by hand: 1970-01-01 was a Thursday, and 2013-01-01, a Tuesday, is 15,706 days later."""

import datetime
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from lookalike.training.tables.columns import TEXT_PARTS, TIME_PARTS
from lookalike.training.tables.field_parts import TimeSpan, code_texts, encode_parts, is_time

UTC = datetime.UTC


def ages(*values: Any, kind: pa.DataType | None = None) -> list[float]:
    found: list[float] = encode_parts(pa.array(values, kind), ("age",))[:, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("1970-01-01", 0),
        ("2013-01-01", 15_706),
        ("2013-01-01 06:00", 15_706.25),
        ("2013-01-01T06:00:00Z", 15_706.25),
        ("2013-01-01 06:00:00,0 +0600", 15_706),
        ("2013-01-01T06:00-06:30", 15_706 + 12.5 / 24),
        ("1969-12-31T12:00", -0.5),
        ("9999-12-31", 2_932_896),
        (" 2013-01-01 ", 15_706),
        ("01.01.2013", 15_706),
        ("02.01.2013 06:00", 15_707.25),
    ],
)
def test_the_age_of_a_text_is_in_days(text: str, age: float) -> None:
    assert ages(text) == [pytest.approx(age)]


def test_dates_and_timestamps_have_the_same_age_as_their_text() -> None:
    moment = datetime.datetime(2013, 1, 1, 6, tzinfo=UTC)
    for unit in ("s", "ms", "us", "ns"):
        assert ages(moment, None, kind=pa.timestamp(unit, "Europe/Berlin"))[0] == 15_706.25
    assert ages(datetime.date(2013, 1, 1), kind=pa.date32()) == ages(datetime.date(2013, 1, 1), kind=pa.date64())
    assert ages(datetime.date(2013, 1, 1)) == [15_706]
    assert math.isnan(ages(datetime.time(6))[0])


def test_cyclic_parts_go_once_around_a_circle() -> None:
    # Tuesday, 06:00: a quarter of the day, the second day of the week, a quarter of a day into the year.
    found = encode_parts(pa.array(["2013-01-01T06:00"]), TIME_PARTS)[0]
    week, year = 2 * math.pi / 7, 2 * math.pi * 0.25 / 365.25
    turns = [1, 0, math.sin(week), math.cos(week), math.sin(year), math.cos(year)]
    np.testing.assert_allclose(found, [15_706.25, *turns], atol=1e-9)
    clocks = encode_parts(pa.array(["18:00", datetime.time(18).isoformat()]), ("hour_sin", "hour_cos"))
    np.testing.assert_allclose(clocks, [[-1, 0]] * 2, atol=1e-9)


@given(st.datetimes(datetime.datetime(1000, 1, 1), datetime.datetime(9999, 12, 31)))
def test_any_time_agrees_with_pythons_datetime(moment: datetime.datetime) -> None:
    since = moment - datetime.datetime(1970, 1, 1)
    found = encode_parts(pa.array([moment.isoformat()]), TIME_PARTS)[0]
    assert found[0] == pytest.approx(since / datetime.timedelta(days=1), abs=1e-6)
    assert np.arctan2(found[3], found[4]) % (2 * np.pi) == pytest.approx(2 * np.pi * moment.weekday() / 7, abs=1e-6)
    day = (
        moment.timetuple().tm_yday
        - 1
        + (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) / (datetime.timedelta(days=1))
    )
    np.testing.assert_allclose(found[5:], [f(2 * np.pi * day / 365.25) for f in (np.sin, np.cos)], atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["2013-02-31", "2013-13-01", "2013-1-1", "13:5", "24:00", "2013-01-01T25:00", "2013-01-01T", "soon", "2013"],
)
def test_names_the_first_text_that_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"^2: no time"):
        encode_parts(pa.array(["2013-01-01", None, text, "2013-01-01"]), ("age",))


def test_a_missing_time_is_nan_in_all_parts() -> None:
    assert np.isnan(encode_parts(pa.array([None, "", " "], pa.string()), TIME_PARTS)).all()


def span(*values: Any) -> tuple[str, ...]:
    found = TimeSpan()
    for value in values:  # one batch each
        found.add(pa.array([value]))
    return found.parts()


def test_only_parts_that_vary_over_their_period_are_used() -> None:
    hours, weekdays, months = TIME_PARTS[1:3], TIME_PARTS[3:5], TIME_PARTS[5:]
    assert span("2013-01-01", "2013-12-30") == ("age", *weekdays, *months)  # all at midnight
    assert span("2013-01-01T06:00", "2013-12-30") == TIME_PARTS
    assert span("2013-01-01T06:00", "2013-03-01T07:00") == ("age", *hours, *weekdays)
    assert span("2013-01-01T06:00", "2013-01-01T07:00") == ("age",)
    assert span("2013-01-01", "2013-01-08", "2013-01-15") == ("age",)  # always a Tuesday
    assert span("06:00", None, "07:30") == hours
    assert span("06:00", "06:00") == span(None) == ()


def test_times_of_day_and_dates_are_not_one_field() -> None:
    with pytest.raises(ValueError, match="times of day among dates"):
        span("2013-01-01", "06:00")
    with pytest.raises(ValueError, match="times of day among dates"):
        TimeSpan().add(pa.array(["06:00", "2013-01-01"]))


def test_texts_become_hashed_ngrams_of_length_1() -> None:
    texts = ["red shoes", "a red shoe", None, " ", "Red shoes"]
    found = encode_parts(pa.array(texts), TEXT_PARTS)
    np.testing.assert_allclose(np.linalg.norm(found[[0, 1, 4]], axis=1), 1)
    assert np.isnan(found[2:4]).all()
    np.testing.assert_array_equal(found[0], found[4])  # in lower case
    reference = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), n_features=64).transform(texts[:2])
    np.testing.assert_array_equal(found[:2], reference.toarray())


def test_the_hash_of_an_ngram_never_changes() -> None:
    # An encoder stores the places of the n-grams: " ab", "abc" and "bc " with MurmurHash3, seed 0.
    found: NDArray[np.float64] = encode_parts(pa.array(["abc"]), TEXT_PARTS)[0]
    places = {int(place): round(float(found[place]) * math.sqrt(3)) for place in np.flatnonzero(found)}
    assert places == {6: -1, 15: -1, 62: -1}


def test_parses_numbers_and_names_a_text_that_is_none() -> None:
    found = encode_parts(pa.array([" 1.5", "007", None, "", "1e3"]), ("parsed",))[:, 0]
    np.testing.assert_array_equal(found, [1.5, 7, np.nan, np.nan, 1_000])
    np.testing.assert_array_equal(encode_parts(pa.array([1, None]), ("parsed",))[:, 0], [1, np.nan])
    with pytest.raises(ValueError, match=r"^1: no number"):
        encode_parts(pa.array(["1", "$2"]), ("parsed",))


def test_a_number_has_one_name_as_a_category() -> None:
    assert code_texts(pa.array([3.0, 2.5, None, math.nan, -1.0])).to_pylist() == ["3", "2.5", None, None, "-1"]
    assert code_texts(pa.array([3, None, -1])).to_pylist() == ["3", None, "-1"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.date32(), True),
        (pa.timestamp("s"), True),
        (pa.time64("us"), True),
        (pa.duration("s"), False),
        (pa.int8(), False),
    ],
)
def test_distinguishes_times_from_other_types(kind: pa.DataType, expected: bool) -> None:
    assert is_time(kind) is expected

"""The parts of a field: how a time or a text of a table becomes numbers of the raw row.

A date or a time, and a text in ISO 8601 format or with a date such as 31.12.2024:

    age                       days since 1970-01-01, with the fraction of the day; UTC if the time has a zone
    hour_sin, hour_cos        the time of day, once around a circle in 24 hours
    weekday_sin, weekday_cos  the day of the week, from Monday, once around in 7 days
    month_sin, month_cos      the day of the year, once around in 365.25 days

Any text becomes NGRAMS numbers, ngram_0 to ngram_63. scikit-learn's HashingVectorizer counts the groups of three
characters within the words of the text, in lower case. The signed 32-bit MurmurHash3 of a group gives the place of its
count, and the counts are scaled to length 1 (K. Weinberger et al., "Feature Hashing for Large Scale Multitask
Learning", ICML 2009).

Two parts are one number: `parsed` is the number that a text spells, and `code` is the code of a category whose names
are numbers.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Booleans, Doubles, Integers
from lookalike.training.tables.columns import NGRAMS, PARSED, TEXT_PARTS, TIME_PARTS

__all__ = ["TimeSpan", "code_texts", "encode_parts", "is_time"]

SEASON = 300.0
"""In days. If the times cover less, the day of the year follows from the age and is not a part."""
_DAY = 86_400.0
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DATE, _CLOCK = r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})", r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
_PATTERN = rf"^{_DATE}?[T ]?(?:{_CLOCK}(?::(?P<second>[0-9]{{2}}(?:[.,][0-9]+)?))? ?(?P<zone>Z|[+-][0-9:]{{2,5}})?)?$"
_DOTTED = r"^([0-9]{2})\.([0-9]{2})\.([0-9]{4})"
_TIME = (
    r"^(?:\d{4}-\d\d-\d\d(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)? ?(?:Z|[+-]\d\d(?::?\d\d)?)?)?"
    r"|(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?)$"
)


def is_time(kind: pa.DataType) -> bool:
    """Whether a type is a date, a time of day or a timestamp."""
    return bool(pa.types.is_temporal(kind)) and not (pa.types.is_duration(kind) or pa.types.is_interval(kind))


def encode_parts(values: pa.Array, parts: Sequence[str]) -> Doubles:
    """(n,) values of a field -> (n, parts) numbers, NaN if the value is missing.

    Raises ValueError, with the position of the first wrong value, if a text is not a time, or not a number.
    """
    if parts[0] in TIME_PARTS:
        days, seconds = _moments(values)
        found = {part: _time_part(part, days, seconds) for part in parts}
        return np.stack([found[part] for part in parts], axis=1)
    if parts[0] == PARSED:
        return _parsed(values)[:, None]
    places = [TEXT_PARTS.index(part) for part in parts]
    return _ngrams(values)[:, places]


def code_texts(numbers: pa.Array) -> pa.Array:
    """(n,) numbers -> the texts that name them as categories: 3 and 3.0 have the same text."""
    if pa.types.is_integer(numbers.type):
        return numbers.cast(pa.large_string())
    numbers = numbers.cast(pa.float64(), safe=False)
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    is_whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53))
    whole = pc.if_else(is_whole, numbers, 0.0).cast(pa.int64()).cast(pa.large_string())
    return pc.if_else(is_whole, whole, numbers.cast(pa.large_string()))


class TimeSpan:
    """Collects what the times of a field cover, to choose its parts."""

    def __init__(self) -> None:
        self.has_dates: bool | None = None
        self._ages, self._clocks, self._weekdays = list[float](), list[float](), set[float]()

    def add(self, values: pa.Array) -> None:
        """Include more values. Raises ValueError if a value is not a time, or if only some values have a date."""
        days, seconds = _moments(values)
        present = ~np.isnan(seconds)
        if not present.any():
            return
        dated = ~np.isnan(days[present])
        if dated.any() != dated.all() or self.has_dates not in (None, bool(dated.all())):
            raise ValueError(f"{int(np.flatnonzero(present)[0])}: times of day among dates")
        self.has_dates = bool(dated.all())
        ages = (days + seconds / _DAY)[present] if self.has_dates else seconds[present] / _DAY
        self._ages = [min([*self._ages, float(ages.min())]), max([*self._ages, float(ages.max())])]
        self._clocks = [*{*self._clocks, float(seconds[present].min()), float(seconds[present].max())}]
        self._weekdays.update(np.unique(days[present] % 7).tolist() if self.has_dates else [])

    def parts(self) -> tuple[str, ...]:
        """Return the parts that vary: a cyclic part only if the times cover its period (for a month SEASON days)."""
        hours = TIME_PARTS[1:3] if len(self._clocks) > 1 else ()
        if not self.has_dates:
            return hours
        span = self._ages[1] - self._ages[0]
        weekdays = TIME_PARTS[3:5] if span >= 7 and len(self._weekdays) > 1 else ()
        return ("age", *(hours if span >= 1 else ()), *weekdays, *(TIME_PARTS[5:] if span >= SEASON else ()))


def _time_part(part: str, days: Doubles, seconds: Doubles) -> Doubles:
    if part == "age":
        return days + seconds / _DAY
    name, _, function = part.partition("_")
    if name == "hour":
        turn = seconds / _DAY
    elif name == "weekday":
        turn = (days + 3) % 7 / 7  # 1970-01-01 was a Thursday
    else:
        turn = (_day_of_year(days) + seconds / _DAY) / 365.25
    result: Doubles = (np.sin if function == "sin" else np.cos)(2 * np.pi * turn)
    return result


def _day_of_year(days: Doubles) -> Doubles:
    known = ~np.isnan(days)
    dates = np.where(known, days, 0).astype(np.int64).astype("M8[D]")
    passed = (dates - dates.astype("M8[Y]").astype("M8[D]")).astype(np.float64)
    return np.where(known, passed, np.nan)


def _moments(values: pa.Array) -> tuple[Doubles, Doubles]:
    """(n,) times -> whole days since 1970, NaN for times of day, and seconds of the day; NaN if missing."""
    kind = values.type
    if not is_time(kind):
        return _moments_of_texts(values.cast(pa.large_string()))
    unit = "ms" if pa.types.is_date64(kind) else getattr(kind, "unit", "D")
    wide = values.cast(pa.int32()) if kind.bit_width == 32 else values
    valid: Booleans = wide.is_valid().to_numpy(zero_copy_only=False)
    ticks: Integers = pc.fill_null(wide.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    per_day = 1 if unit == "D" else 86_400 * _UNITS[unit]
    days, rest = np.divmod(ticks, per_day)
    seconds = np.where(valid, rest * (_DAY / per_day), np.nan)
    return np.where(valid & ~np.full(len(valid), pa.types.is_time(kind)), days, np.nan), seconds


def _moments_of_texts(texts: pa.Array) -> tuple[Doubles, Doubles]:
    texts = pc.ascii_trim_whitespace(texts)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    texts = pc.replace_substring_regex(texts, _DOTTED, r"\3-\2-\1")
    matches = pc.fill_null(pc.match_substring_regex(texts, _TIME), True)
    found = pc.extract_regex(texts, _PATTERN)
    fields = {name: pc.struct_field(found, name) for name in ("date", "hour", "minute", "second", "zone")}
    dates = pc.if_else(pc.equal(fields["date"], ""), None, fields["date"])
    try:
        days = dates.cast(pa.date32()).cast(pa.int32())
    except pa.ArrowInvalid:  # the 31st of February
        matches = pc.and_(matches, pa.array([_is_date(text) for text in dates.to_pylist()]))
        days = pa.nulls(len(texts), pa.int32())
    if not pc.all(matches).as_py():
        raise ValueError(f"{pc.index(matches, False).as_py()}: no time in ISO 8601 format")
    seconds = 3_600 * _number(fields["hour"]) + 60 * _number(fields["minute"]) + _number(fields["second"])
    seconds -= _offset(fields["zone"])
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    whole = days.cast(pa.float64()).to_numpy(zero_copy_only=False) + np.floor(seconds / _DAY)
    return whole, np.where(valid, seconds % _DAY, np.nan)


def _is_date(text: str | None) -> bool:
    try:
        return text is None or not np.isnat(np.datetime64(text, "D"))
    except ValueError:
        return False


def _number(texts: pa.Array) -> Doubles:
    """(n,) digits -> numbers; 0 for an empty or missing text."""
    texts = pc.replace_substring(pc.fill_null(texts, ""), ",", ".")
    numbers: Doubles = pc.if_else(pc.equal(texts, ""), "0", texts).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers.copy()


def _offset(zones: pa.Array) -> Doubles:
    """(n,) zones such as Z, +02, +0530 or -05:00 -> seconds east of UTC."""
    digits = pc.replace_substring_regex(pc.fill_null(zones, ""), "[^0-9]", "")
    hours, minutes = (_number(pc.utf8_slice_codeunits(digits, *ends)) for ends in ((0, 2), (2, 4)))
    sign = np.where(pc.starts_with(pc.fill_null(zones, ""), "-").to_numpy(zero_copy_only=False), -1.0, 1.0)
    return sign * (3_600 * hours + 60 * minutes)


def _parsed(values: pa.Array) -> Doubles:
    if not pa.types.is_floating(values.type) and not pa.types.is_integer(values.type):
        texts = pc.ascii_trim_whitespace(values.cast(pa.large_string()))
        values = pc.if_else(pc.equal(texts, ""), None, texts)
        try:
            values = values.cast(pa.float64())
        except pa.ArrowInvalid:
            wrong = next(place for place, text in enumerate(values.to_pylist()) if not _is_number(text))
            raise ValueError(f"{wrong}: no number") from None
    numbers: Doubles = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers


def _is_number(text: str | None) -> bool:
    try:
        return text is None or bool(pa.array([text]).cast(pa.float64()))
    except pa.ArrowInvalid:
        return False


def _ngrams(values: pa.Array) -> Doubles:
    """(n,) texts -> (n, NGRAMS), each row of length 1; NaN for a missing or an empty text."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [text if text and text.strip() else None for text in values.cast(pa.large_string()).to_pylist()]
    hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), n_features=NGRAMS)
    result: Doubles = hashing.transform([text or "" for text in texts]).toarray()  # (n, NGRAMS)
    result[[text is None for text in texts]] = np.nan
    return result

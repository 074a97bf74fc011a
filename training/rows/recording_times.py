"""The times of samples in a table: numbers of seconds, or dates.

Numbers of 10^11 and more are milliseconds since 1970, of 10^14 and more microseconds, of 10^17 and more nanoseconds;
smaller numbers are seconds. The first time of a file decides for the whole file.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Doubles, Integers
from lookalike.training.errors import DataError

__all__ = ["TimeReader", "Times"]

Times = Doubles | Integers

_UNITS = ((1e17, "nanoseconds", 1), (1e14, "microseconds", 10**3), (1e11, "milliseconds", 10**6))
"""The least number that has a unit, the unit, and its nanoseconds."""
_EXPECTED = "a number of seconds, or a date and time such as 2026-03-31T01:30:00.5, from 1678 to 2261"


class TimeReader:
    """Converts the times of one column; the first times decide their form.

    Attributes:
        zoned: whether times are dates with a time zone, or numbers since 1970, which are shown in UTC.
        unit: the unit of numbers since 1970; "" for seconds and for dates.
    """

    def __init__(self, field: str) -> None:
        self._field = field
        self._per = 0
        self._is_number: bool | None = None
        self._kinds: tuple[pa.DataType, ...] = (pa.timestamp("ns"), pa.timestamp("ns", "UTC"))
        self.zoned = False
        self.unit = ""

    def read(self, cells: pa.Array, first: int) -> Times:
        """(n,) cells of any type -> seconds as float64, or nanoseconds since 1970 as int64.

        `first`: the number of the first row. Raises DataError, with the row, for a cell that is not a time.
        """
        if pa.types.is_dictionary(cells.type):
            cells = cells.dictionary_decode()
        cells = pc.utf8_trim_whitespace(cells) if _is_text(cells.type) else cells
        kind = cells.type
        if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            return self._dates(cells, first)
        numbers = None if self._is_number is False else _as_numbers(cells)
        if numbers is None:
            return self._dates(cells, first)
        self._is_number = True
        return self._numbers(cells, numbers, first)

    def _numbers(self, cells: pa.Array, numbers: pa.Array, first: int) -> Times:
        seconds: Doubles = numbers.to_numpy(zero_copy_only=False)  # (n,) float64, NaN for null
        if (bad := np.flatnonzero(~np.isfinite(seconds))).size:
            raise self._wrong(cells, int(bad[0]), first)
        if not self._per:
            found = next(((unit, per) for least, unit, per in _UNITS if abs(seconds[0]) >= least), ("", -1))
            self.unit, self._per = found
            self.zoned = self._per > 0
        if self._per < 0:
            return seconds
        try:
            ticks: Integers = cells.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:  # numbers with a fraction
            return np.rint(seconds * self._per).astype(np.int64)
        return ticks * self._per

    def _dates(self, cells: pa.Array, first: int) -> Times:
        if self._is_number is True:
            raise self._first_wrong(cells, (pa.float64(),), first)
        self._is_number = False
        own = (pa.timestamp("ns", getattr(cells.type, "tz", None)),)
        for kind in self._kinds if _is_text(cells.type) else own:
            try:
                times = cells.cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
            self._kinds, self.zoned = (kind,), kind.tz is not None
            if times.null_count:
                raise self._wrong(cells, pc.index(pc.is_null(times), True).as_py(), first)
            ticks: Integers = times.cast(pa.int64()).to_numpy()
            return ticks
        raise self._first_wrong(cells, self._kinds, first)

    def _first_wrong(self, cells: pa.Array, kinds: tuple[pa.DataType, ...], first: int) -> DataError:
        """Return the error for the first cell that fits no kind, or else for the last cell."""
        each = range(len(cells))
        wrong = (number for number in each if not any(_fits(cells.slice(number, 1), kind) for kind in kinds))
        return self._wrong(cells, next(wrong, len(cells) - 1), first)

    def _wrong(self, cells: pa.Array, number: int, first: int) -> DataError:
        path, column = self._field.rsplit(":", 1)
        found = cells[number].as_py() if not pa.types.is_timestamp(cells.type) else str(cells[number])
        place = f"{path}, row {first + number}, column {column}"
        return DataError(place, expected=_EXPECTED, found="a missing value" if found is None else repr(found)[:60])


def _fits(cells: pa.Array, kind: pa.DataType) -> bool:
    try:
        cells.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_numbers(cells: pa.Array) -> pa.Array | None:
    """Return the cells as float64; None if they are not numbers."""
    try:
        return cells.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None

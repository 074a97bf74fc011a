"""Which texts are numbers, and their values: with decimal points or commas, separators, currency and percent signs.

A decimal mark is a point or a comma. Groups of three digits may have separators: the other mark, an apostrophe or a
space. One currency sign or percent sign may precede or follow the digits; the value is the number beside it, so 12 %
is 12. Infinity is a number here, so that `Rows.chunks` can refuse the value with its row and column. NaN is not a
number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Doubles

__all__ = ["Numbers", "canonical", "is_number", "is_plain", "numbers_of", "plain_numbers", "signs_of"]

_PLAIN = r"^[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity))$"
_SIGN = r"(?:\p{Sc}|%)"
_PADDED = "^0[0-9]+$"


def _pattern(mark: str, other: str) -> str:
    """Return the pattern of numbers with a decimal mark; the other mark separates thousands."""
    groups = "|".join(f"(?:{separator}[0-9]{{3}})+" for separator in (other, "['\u2019]", r"\p{Zs}"))
    whole = f"(?:[1-9][0-9]{{0,2}}(?:{groups})|[0-9]+)"
    digits = f"(?:{whole}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    before = rf"(?:[+-]?(?:{_SIGN}\p{{Zs}}?)?|{_SIGN}\p{{Zs}}?[+-])"
    return rf"^{before}(?:{digits}|(?i:inf|infinity))(?:\p{{Zs}}?{_SIGN})?$"


_PATTERNS = {".": _pattern(r"\.", ","), ",": _pattern(",", r"\.")}
_REMOVED = {".": r"[,'\x{2019}\p{Zs}\p{Sc}%]", ",": r"[.'\x{2019}\p{Zs}\p{Sc}%]"}


@dataclass
class Numbers:
    """How many numbers there are; whether all are 64-bit integers, any has leading zeros, and any is negative."""

    count: int = 0
    whole: bool = True
    padded: bool = False
    signed: bool = False

    def add(self, other: "Numbers") -> None:
        """Include the numbers of another part of the column."""
        self.count += other.count
        self.whole &= other.whole
        self.padded |= other.padded
        self.signed |= other.signed


def numbers_of(texts: pa.Array, numbers: pa.Array, *, check: bool = True) -> Numbers:
    """Count (n,) texts whose values are `numbers`, float64; without `check`, all numbers count as fractions."""
    count = len(texts) - texts.null_count
    values = _values(numbers)
    if not check or (values != np.floor(values)).any():
        return Numbers(count, whole=not count)
    try:
        texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return Numbers(count, whole=not count)
    padded = bool(pc.any(pc.match_substring_regex(texts, _PADDED)).as_py())
    return Numbers(count, padded=padded, signed=bool((values < 0).any()))


def is_plain(texts: pa.Array) -> pa.Array:
    """(n,) texts -> (n,) booleans: whether each is a number with only a sign, a decimal point and an exponent."""
    return pc.match_substring_regex(texts, _PLAIN)


def is_number(texts: pa.Array, decimal: str) -> pa.Array:
    """(n,) texts -> (n,) booleans: whether each is a number with this decimal mark."""
    return pc.match_substring_regex(texts, _PATTERNS[decimal])


def canonical(texts: pa.Array, decimal: str) -> pa.Array:
    """(n,) numbers as text -> the same as digits with a decimal point, which Arrow can cast."""
    digits = pc.replace_substring_regex(texts, _REMOVED[decimal], "")
    return pc.replace_substring(digits, ",", ".") if decimal == "," else digits


def signs_of(texts: pa.Array) -> set[str]:
    """Return the distinct currency and percent signs of (n,) texts; "" for texts without a sign."""
    found: list[Any] = pc.unique(pc.replace_substring_regex(texts, r"[^\p{Sc}%]", "")).to_pylist()
    return set(found)


def plain_numbers(cells: pa.Array) -> pa.Array | None:
    """Return the cells as float64; None if a cell is not a number that `is_plain`."""
    try:
        numbers = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    return None if np.isnan(_values(numbers)).any() else numbers


def _values(numbers: pa.Array) -> Doubles:
    """Return the numbers that are not null, (m,) float64."""
    values: Doubles = (numbers.drop_null() if numbers.null_count else numbers).to_numpy()
    return values

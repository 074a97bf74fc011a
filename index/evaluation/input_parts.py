"""The parts of an input that an explanation names: fields of a table, tiles of a picture, segments of a window.

Each value of a row belongs to exactly one part.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lookalike.training.array_types import Integers
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import WindowTransform

__all__ = ["InputPart", "parts_of"]

TILES = 7
"""A picture has at most this many tiles in each direction, of at least two pixels."""
SEGMENTS = 16
"""A window is cut into at most this many segments, each of one channel."""
CHANNELS, ALL_SEGMENTS = 64, 256
"""If there are more channels than the first number, a segment has all channels. The second number is the most segments
of all channels together."""
VALUES = 64
"""Other rows are cut into at most this many parts."""


@dataclass(frozen=True)
class InputPart:
    """A part of a row.

    Attributes:
        kind: field, tile, segment or values.
        at: (m,) the places of the part's values in a row.
        columns: the columns of a field.
        bounds: for a tile, top, left, bottom and right; for a segment, channel (None: all), start and stop; for values,
            start and stop. The row, column or value at bottom, right or stop is not included.
    """

    kind: str
    name: str
    at: Integers
    columns: tuple[Column, ...] = ()
    bounds: dict[str, Any] = field(default_factory=dict)


def parts_of(encoder: RowEncoder) -> list[InputPart]:
    """Return the parts of the rows of an encoder, in the order of their values."""
    if encoder.columns:
        return _fields(encoder.columns)
    places = np.arange(encoder.width).reshape(encoder.input_shape)
    if isinstance(encoder.transform, WindowTransform):
        return list(_segments(places, encoder.transform.channels))
    if places.ndim == 2 or (places.ndim == 3 and places.shape[2] <= 4):
        return list(_tiles(places))
    return list(_values(places.reshape(-1)))


def _fields(columns: tuple[Column, ...]) -> list[InputPart]:
    """Return one part for each field of the source; a date, for example, has several columns."""
    found: dict[str, list[int]] = {}
    for number, column in enumerate(columns):
        found.setdefault(getattr(column, "field", None) or column.name, []).append(number)
    return [
        InputPart("field", name, np.array(numbers), tuple(columns[number] for number in numbers))
        for name, numbers in found.items()
    ]


def _tiles(places: Integers) -> Iterator[InputPart]:
    """Yield the tiles of (height, width) or (height, width, channels) places."""
    for top, bottom in _cuts(places.shape[0], TILES, least=2):
        for left, right in _cuts(places.shape[1], TILES, least=2):
            name = f"rows {top}-{bottom - 1}, columns {left}-{right - 1}"
            bounds = {"top": top, "left": left, "bottom": bottom, "right": right}
            yield InputPart("tile", name, places[top:bottom, left:right].reshape(-1), bounds=bounds)


def _segments(places: Integers, channels: tuple[str, ...]) -> Iterator[InputPart]:
    """Yield the segments of (window, channels) places."""
    one_by_one = list(enumerate(channels)) if len(channels) <= CHANNELS else [(slice(None), None)]
    most = min(SEGMENTS, ALL_SEGMENTS // len(one_by_one))
    for number, channel in one_by_one:
        for start, stop in _cuts(len(places), most):
            name = f"{channel or 'all channels'}, samples {start}-{stop - 1}"
            bounds = {"channel": channel, "start": start, "stop": stop}
            yield InputPart("segment", name, places[start:stop, number].reshape(-1), bounds=bounds)


def _values(places: Integers) -> Iterator[InputPart]:
    for start, stop in _cuts(len(places), VALUES):
        name = f"value {start}" if stop == start + 1 else f"values {start}-{stop - 1}"
        yield InputPart("values", name, places[start:stop], bounds={"start": start, "stop": stop})


def _cuts(size: int, most: int, least: int = 1) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of at most `most` nearly equal parts, of at least `least` each if `size` allows."""
    count = max(1, min(most, size // least))
    ends = [size * number // count for number in range(count + 1)]
    return itertools.pairwise(ends)

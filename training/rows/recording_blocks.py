"""Recordings as blocks of samples: the common form of every file that has recordings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.training.array_types import Integers
from lookalike.training.errors import DataError

__all__ = ["Block", "Source", "block_samples", "channels_note", "no_codes", "pick_channels"]

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Block:
    """Consecutive samples of one recording.

    Attributes:
        recording: the name of the recording.
        values: (n, channels) float32 or float64, NaN for a missing sample.
        codes: (n,) the number of each sample's label in `Source.labels`; -1 if it has none.
        times: (n,) seconds as float64, or nanoseconds since 1970 as int64; None if the samples have no times.
        row: the number of the first sample in the file, from 0, for errors.
    """

    recording: str
    values: NDArray[np.floating]
    codes: Integers
    times: NDArray[Any] | None = None
    row: int = 0


@dataclass(frozen=True)
class Source:
    """A file with one recording or several, one after the other.

    Attributes:
        blocks: samples per block -> the blocks in order; a new call reads the file again.
        channels: the names of the channels; a file without names numbers them from 0.
        rate: samples per second, if the file names it.
        labels: the labels that the codes number; reading the file appends labels to the list.
        label: the label of every recording of the file; None if there is none.
        zoned: whether the times are dates with a time zone, which are shown in UTC.
        notes: lines for the user about how the file is read.
    """

    path: Path
    blocks: Callable[[int], Iterator[Block]]
    channels: tuple[str, ...]
    rate: float | None = None
    labels: list[Any] = field(default_factory=list)
    label: str | None = None
    zoned: bool = False
    notes: tuple[str, ...] = ()


def block_samples(channels: int) -> int:
    """Return the samples of a block of about 1 MiB."""
    return max(1, BLOCK_BYTES // (8 * channels))


def no_codes(count: int) -> Integers:
    """Return the codes of samples without labels."""
    return np.full(count, -1)


def pick_channels(path: Path, count: int, wanted: tuple[str, ...]) -> tuple[tuple[str, ...], list[int]]:
    """Return the names and the positions of the channels of a file without names.

    `wanted`: numbers of channels, from 0; or a name for each channel, in the file's order; or empty for all channels.
    Raises DataError if a channel does not exist.
    """
    numbers = tuple(map(str, range(count)))
    if not wanted:
        return numbers, list(range(count))
    if set(wanted) <= set(numbers):
        return wanted, [int(name) for name in wanted]
    if len(wanted) == count:
        return wanted, list(range(count))
    expected = f"channels {', '.join(wanted)[:200]}: the numbers of channels, or a name for each channel"
    raise DataError(str(path), expected=expected, found=f"{count} channels without names")


def channels_note(count: int, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return a note if some of a file's `count` channels are not read."""
    if len(channels) == count:
        return ()
    return (f"of the {count} channels of some files, only these are read: {', '.join(channels[:20])}",)

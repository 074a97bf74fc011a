"""Choose what to hold out of a training: whole recordings, or the end of each recording."""

from collections.abc import Sequence

import numpy as np

from lookalike.training.array_types import Booleans, Integers
from lookalike.training.transforms import Interval

__all__ = ["fill_groups", "hold_out_recordings"]

MOST_HELD = 3.0
"""Whole recordings are held out if they have at most this many times the configured share of the windows."""


def hold_out_recordings(intervals: Sequence[Interval | None], share: float, seed: int) -> Booleans:
    """Return which windows, (n,) bool, n >= 2, to hold out, given the interval of each.

    A window without an interval (None) is one recording. Whole recordings are held out, in an order that depends on the
    seed, to come near `share` of the windows. If there is only one recording, or the recordings are so long that more
    than `MOST_HELD` times the share would be held out, the last `share` of each recording is held out instead, and at
    least one window of the longest recording.
    """
    codes: dict[object, int] = {}
    kinds = np.array([codes.setdefault(s.recording if s else n, len(codes)) for n, s in enumerate(intervals)])
    sizes = np.bincount(kinds)
    order = np.random.default_rng(seed).permutation(len(sizes))
    cut = min(len(kinds) - 1, max(1, round(len(kinds) * share)))
    if len(sizes) > 1:
        chosen = np.zeros(len(sizes), np.bool_)
        chosen[order] = fill_groups(sizes[order], cut)
        held: Booleans = chosen[kinds]
        if held.sum() <= MOST_HELD * cut:
            return held
    starts = np.array([s.start if s else 0.0 for s in intervals])
    by_time = np.lexsort([starts, kinds])  # recording by recording
    firsts = np.cumsum(sizes) - sizes
    rank = np.empty(len(kinds), np.int64)
    rank[by_time] = np.arange(len(kinds)) - firsts[kinds[by_time]]
    last = np.rint(sizes * share).astype(np.int64)
    last[np.argmax(sizes)] = max(1, last[np.argmax(sizes)])
    ends: Booleans = rank >= (sizes - last)[kinds]
    return ends


def fill_groups(sizes: Integers, target: int) -> Booleans:
    """Return which groups to take to come near `target` rows: in order, skipping groups that no longer fit.

    Takes at least one group, and not all groups; there must be at least two groups.
    """
    taken, room = np.zeros(len(sizes), np.bool_), target
    while len(fitting := np.flatnonzero(~taken & (sizes <= room))):
        fitting = fitting[np.cumsum(sizes[fitting]) <= room]
        taken[fitting] = True
        room -= int(sizes[fitting].sum())
    left = np.flatnonzero(~taken)
    least = left[np.argmin(sizes[left])]
    if len(left) > 1 and (room == target or sizes[least] < 2 * room):  # slightly too many rows is closer to the target
        taken[least] = True
    return taken

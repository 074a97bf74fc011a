"""Leave out hits of recordings that overlap a better hit (non-maximum suppression).

The hits of a query are thinned best first. A hit stays if its interval overlaps no better hit that stays. If the query
is an item, a hit that overlaps the query does not stay either. An item without an interval in its payload always stays.
"""

import json
import math
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lookalike.index.errors import QueryError
from lookalike.index.limits import MAX_FOUND
from lookalike.index.shown import truncate_repr
from lookalike.training.array_types import Floats, Integers, Positions
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.transforms import Interval, WindowTransform, interval_of

__all__ = ["FIRST", "Candidates", "IntervalAt", "Thinning", "payload_interval", "thinned", "thinning_for"]

FIRST = 4
"""Candidates for each hit of the first search. If too few stay, the search is repeated with FIRST times as many."""
MOST = MAX_FOUND - 2
"""The most candidates of a query. If fewer candidates than the limit stay, the query has fewer hits."""
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ms|s|min|h)", re.ASCII)
_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0}

Candidates = Callable[[Integers, int, bool], tuple[Floats, Positions]]
"""The numbers of some queries, (m,), k, and whether to compare all items instead of searching the index -> scores and
positions of the k nearest items of each query, (m, at most k)."""
IntervalAt = Callable[[int], Interval | None]
"""The position of an item -> its interval."""


@dataclass(frozen=True)
class Thinning:
    """Which hits are left out.

    Attributes:
        distinct: whether a hit that overlaps a better hit is left out.
        exclude: a hit of the query's own recording is left out if it overlaps the query, or if its distance to the
            query is less than this, in the unit of start and end; None leaves out no such hit.
    """

    distinct: bool = True
    exclude: float | None = 0.0


class HasPayloads(Protocol):
    """Items with payloads."""

    def payload_json(self, position: int) -> str: ...


def thinning_for(
    encoder: RowEncoder, *, distinct: bool | None = None, exclude: float | str | None = None, by_ids: bool = False
) -> Thinning | None:
    """Return the thinning of a search; None if no hit is left out. Windows of recordings are distinct by default.

    Args:
        exclude: a number, in the unit of start and end, or a time such as 30s.
        by_ids: whether the queries are items.

    Raises QueryError for these arguments if the encoder does not read windows, for `exclude` if the queries are not
    items, and for a wrong value of `exclude`.
    """
    transform = encoder.transform
    if not isinstance(transform, WindowTransform):
        for field, value in (("distinct", distinct), ("exclude", exclude)):
            if value:
                expected = f"no {field}, because the items are not windows of recordings"
                raise QueryError(field, expected=expected, found=truncate_repr(value))
        return None
    if exclude is not None and not by_ids:
        found, remedy = truncate_repr(exclude), "Search with the id of an item, whose recording is known."
        raise QueryError("exclude", expected="a search by ids", found=found, remedy=remedy)
    distance = None if exclude is None else _distance(exclude, transform)
    if distinct is False:
        return Thinning(distinct=False, exclude=distance) if distance is not None else None
    return Thinning(exclude=distance or 0.0)


def _distance(exclude: float | str, transform: WindowTransform) -> float:
    """Return a distance in the unit of start and end: seconds, or samples if the samples have no time."""
    unit = "samples" if transform.rate is None else "seconds"
    expected = f"a number of {unit} from 0 on" + ("" if transform.rate is None else ", or a time such as 30s")
    distance: object = exclude
    if isinstance(exclude, str):
        match = _DURATION.fullmatch(exclude)
        distance = float(match[1]) * _SECONDS[match[2]] if match and transform.rate is not None else None
    if isinstance(distance, bool) or not isinstance(distance, int | float) or not 0 <= distance < math.inf:
        raise QueryError("exclude", expected=expected, found=truncate_repr(exclude))
    return float(distance)


def payload_interval(items: HasPayloads, position: int) -> Interval | None:
    """Return the interval that an item's payload names."""
    return interval_of(json.loads(items.payload_json(position)))


def thinned(
    first: tuple[Floats, Positions],
    find: Candidates,
    interval_at: IntervalAt,
    limit: int,
    thinning: Thinning,
    own: Positions | None,
) -> tuple[Floats, Positions]:
    """Return scores and positions, (n, limit), of the best hits that stay; NaN and -1 for no hit.

    Args:
        first: the candidates of all n queries, best first: at least `limit`, or all items.
        find: finds more candidates. If the index returns too few items, because it visits only some of its lists, all
            items are compared.
        own: (n,) the positions of the queries, if the queries are items.
    """
    scores = np.full((len(first[0]), limit), np.nan, np.float32)
    positions = np.full(scores.shape, -1, np.int64)
    waiting, candidates, exact = np.arange(len(scores)), first, False
    while len(waiting):
        short, dry = np.zeros(len(waiting), np.bool_), False
        for place, number in enumerate(waiting.tolist()):
            query = None if own is None else interval_at(int(own[number]))
            row = candidates[1][place]
            kept = _kept(row, interval_at, limit, thinning, query)
            scores[number, : len(kept)], positions[number, : len(kept)] = candidates[0][place, kept], row[kept]
            ended = bool((row < 0).any())
            short[place] = len(kept) < limit and len(row) > 0 and not (ended and exact)
            dry |= bool(short[place]) and ended
        width = candidates[1].shape[1]
        wanted = min(MOST, FIRST * width)
        if not short.any() or (wanted <= width and not dry):
            break
        waiting, exact = waiting[short], exact or dry
        candidates = find(waiting, wanted, exact)
        if candidates[1].shape[1] < wanted:  # these are all items
            exact, pad = True, ((0, 0), (0, 1))
            candidates = np.pad(candidates[0], pad), np.pad(candidates[1], pad, constant_values=-1)
    return scores, positions


def _kept(row: Positions, interval_at: IntervalAt, limit: int, thinning: Thinning, query: Interval | None) -> list[int]:
    """Return the places of the first `limit` candidates that stay."""
    kept: list[int] = []
    taken: dict[str, tuple[list[float], list[float]]] = {}  # the starts and ends of intervals that stay, in order
    near = query.widened(thinning.exclude) if query and thinning.exclude is not None else None
    for place, position in enumerate(row.tolist()):
        if position < 0 or len(kept) == limit:
            break
        interval = interval_at(position)
        if interval:
            if near and interval.overlaps(near):
                continue
            if thinning.distinct and not _add(interval, taken.setdefault(interval.recording, ([], []))):
                continue
        kept.append(place)
    return kept


def _add(interval: Interval, taken: tuple[list[float], list[float]]) -> bool:
    """Add an interval to sorted, disjoint intervals (starts, ends); False if it overlaps one of these."""
    starts, ends = taken
    place = bisect_left(starts, interval.end)  # the intervals before this place begin before the new one ends
    if place and ends[place - 1] > interval.start:
        return False
    starts.insert(place, interval.start)
    ends.insert(place, interval.end)
    return True

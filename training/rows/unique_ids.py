"""Find an id that two rows of a source share, before anything is trained or embedded."""

import hashlib
from itertools import chain

import numpy as np

from lookalike.training.errors import DataError
from lookalike.training.rows.base import Rows

__all__ = ["check_unique_ids"]


def check_unique_ids(rows: Rows) -> None:
    """Raise DataError if two rows of a source with ids have the same id.

    The error names the id and both rows, counted from 0. Reads only the ids, and keeps a hash of 16 bytes of each id.
    """
    if rows.ids is None:
        return
    hashes = b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for part in rows.ids() for name in part)
    keys = np.frombuffer(hashes, np.dtype("V16"))
    order = np.argsort(keys.view(np.dtype("u8,u8")), kind="stable", order=("f0", "f1"))  # (n,)
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(same):
        return
    first = min((int(order[place]), int(order[place + 1])) for place in same)
    ids = dict(zip(range(rows.count), chain.from_iterable(rows.ids()), strict=False))
    raise DataError(
        f"{rows.name}, id {ids[first[0]]!r}",
        expected="unique ids",
        found=f"the id in row {first[0]:,} and in row {first[1]:,}",
        remedy="Remove or rename one of the rows, or name another column of ids with --set data.id=NAME.",
    )

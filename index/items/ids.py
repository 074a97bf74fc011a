"""Check the ids of items: any text without control characters and halves of surrogate pairs.

The rule is by code point, so that it is the same in every release of Python; the definition of printable characters
is not. An id is often a file name, which may contain narrow spaces, ideographic spaces and zero-width joiners.
"""

import re
from collections.abc import Sequence

from lookalike.training.errors import DataError

__all__ = ["IDS", "MAX_ID", "check_ids", "id_problem"]

MAX_ID = 256
"""The most characters of an id."""
IDS = f"1 to {MAX_ID} characters, none of them a control character or half of a surrogate pair"
_LENGTHS = frozenset(range(1, MAX_ID + 1))
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def id_problem(name: str) -> str | None:
    """Return the problem of an id, such as "U+0007 at position 3", counted from 0; None for a valid id."""
    if len(name) not in _LENGTHS:
        return f"{len(name):,} characters"
    refused = _REFUSED.search(name)
    return f"U+{ord(refused[0]):04X} at position {refused.start()}" if refused else None


def check_ids(ids: Sequence[str], source: str) -> None:
    """Raise DataError, with the id and the character, if an id breaks the rule `IDS`."""
    if _LENGTHS.issuperset(map(len, ids)) and not _REFUSED.search("".join(ids)):  # faster than checking one by one
        return
    name, found = next((name, found) for name in ids if (found := id_problem(name)))
    raise DataError(f"{source}, id {name[:40]!r}", expected=IDS, found=found)

"""What an item's id may be: any text without control characters and halves of surrogate pairs.

The rule is by code point, and so the same under every Python: its tables of what is printable change from one release
to the next. File names hold narrow spaces, ideographic spaces and zero-width joiners, and an id is often a file name.
"""

import re
from collections.abc import Sequence

from lookalike.training.errors import DataError

__all__ = ["IDS", "MAX_ID", "check_ids", "wrong_id"]

MAX_ID = 256
"""Characters of an id."""
IDS = f"1 to {MAX_ID} characters, none of them a control character or half of a surrogate pair"
_LENGTHS = frozenset(range(1, MAX_ID + 1))
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def wrong_id(name: str) -> str | None:
    """What is wrong with an id, such as "U+0007 at position 3", counted from 0; None if nothing is."""
    if len(name) not in _LENGTHS:
        return f"{len(name):,} characters"
    refused = _REFUSED.search(name)
    return f"U+{ord(refused[0]):04X} at position {refused.start()}" if refused else None


def check_ids(ids: Sequence[str], source: str) -> None:
    """Raises DataError if an id is not what `IDS` says; it names the id and the character."""
    if _LENGTHS.issuperset(map(len, ids)) and not _REFUSED.search("".join(ids)):  # a look at each costs more
        return
    name, found = next((name, found) for name in ids if (found := wrong_id(name)))
    raise DataError(f"{source}, id {name[:40]!r}", expected=IDS, found=found)

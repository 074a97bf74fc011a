"""Helpers that damage files and manifests."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lookalike.training.errors import LookalikeError

__all__ = ["changed_fields", "error_of", "flip_bit"]


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit; `bit` is counted from the file's start, modulo the file's length."""
    data = bytearray(path.read_bytes())
    place, shift = divmod(bit % (8 * len(data)), 8)
    data[place] ^= 1 << shift
    path.write_bytes(data)


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**53, 2**63, 2**70, 0.5, -1e308, 1e308),
    *("", "x", "x" * 10_000, "\0", "é", [], [[]], {}, {"x": 1}),
)
"""Values of every JSON type, and extreme values."""


def changed_fields(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield headers with one field removed or replaced by an odd value, and the name that the error must contain.

    Includes nested fields; of a list, only the first entry.
    """
    for path in _paths(header):
        for odd in (*ODD, _REMOVED):
            changed = copy.deepcopy(header)
            inner: Any = changed
            for part in path[:-1]:
                inner = inner[part]
            if odd is _REMOVED and isinstance(inner, dict):
                del inner[path[-1]]
            else:
                inner[path[-1]] = None if odd is _REMOVED else odd
            yield str(path[0]), changed


def error_of(act: Callable[[], object]) -> Exception | None:
    """The LookalikeError that a call raises; None if it raises none."""
    try:
        act()
    except LookalikeError as error:
        return error
    return None


_REMOVED = object()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            if path or name not in {"format", "files"}:
                yield from _paths(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))

"""Small real things to train on and to damage."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lookalike.training.errors import LookalikeError

__all__ = ["changed_fields", "error_of", "flip_bit"]


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit; `bit` is counted from the file's start, round and round."""
    data = bytearray(path.read_bytes())
    place, shift = divmod(bit % (8 * len(data)), 8)
    data[place] ^= 1 << shift
    path.write_bytes(data)


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**53, 2**63, 2**70, 0.5, -1e308, 1e308),
    *("", "x", "x" * 10_000, "\0", "é", [], [[]], {}, {"x": 1}),
)
"""Values of every type of JSON, and extremes."""


def changed_fields(header: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A header with one field left out, or with another value in its place; and the name that an error must say.

    Fields within fields too; of a list, the first entry.
    """
    for path in _paths(header):
        for odd in (*ODD, _GONE):
            other = copy.deepcopy(header)
            inner: Any = other
            for part in path[:-1]:
                inner = inner[part]
            if odd is _GONE and isinstance(inner, dict):
                del inner[path[-1]]
            else:
                inner[path[-1]] = None if odd is _GONE else odd
            yield str(path[0]), other


def error_of(act: Callable[[], object]) -> Exception | None:
    """The LookalikeError that a call raises; None if it raises none."""
    try:
        act()
    except LookalikeError as error:
        return error
    return None


_GONE = object()


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            if path or name not in {"format", "files"}:
                yield from _paths(inner, (*path, name))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))

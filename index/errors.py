"""The index floor's branch of the error tree (training.errors draws the trunk).

LookalikeError
├── StoreError    no such version, no champion, or nothing to roll back to
│   └── JobError  another job works on the store
├── QueryError    embeddings or a limit that cannot be searched with
├── TargetError   no index has the recall within the bytes and the time
├── LogError      the item log cannot be written or read
└── UnknownItemError   an id that no item has
"""

from training.errors import LookalikeError

__all__ = ["JobError", "LogError", "QueryError", "StoreError", "TargetError", "UnknownItemError", "show"]


class StoreError(LookalikeError):
    """No such version, no champion, or nothing to roll back to."""


class JobError(StoreError):
    """Another job works on the store: one at a time may."""


class QueryError(LookalikeError):
    """Embeddings or a limit that cannot be searched with."""


class TargetError(LookalikeError):
    """No index has the recall that was asked for within the bytes and the time."""


class LogError(LookalikeError):
    """The item log cannot be written or read: a full disk, say."""


class UnknownItemError(LookalikeError):
    """An id that no item of the version has."""


def show(value: object) -> str:
    """What someone gave, in a few characters whatever its size or depth."""
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    if isinstance(value, int) and value.bit_length() > 128:
        return f"a number of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, dict):
        keys = [show(key) for key, _ in zip(value, range(4), strict=False)]
        return f"an object of {', '.join(keys)}{', …' if len(value) > len(keys) else ''}" if keys else "an empty object"
    return f"a list of {len(value):,}" if isinstance(value, list) else type(value).__name__

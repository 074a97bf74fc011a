"""The index floor's branch of the error tree (training.errors draws the trunk).

LookalikeError
├── StoreError    no such version, no champion, or nothing to roll back to
│   └── JobError  another job works on the store
├── QueryError    embeddings or a limit that cannot be searched with
├── TargetError   no index has the recall within the bytes and the time
├── LogError      the change log cannot be written or read
└── UnknownItemError   an id that no item has
"""

from lookalike.training.errors import LookalikeError

__all__ = ["JobError", "LogError", "QueryError", "StoreError", "TargetError", "UnknownItemError"]


class StoreError(LookalikeError):
    """No such version, no champion, or nothing to roll back to."""


class JobError(StoreError):
    """Another job works on the store: one at a time may."""


class QueryError(LookalikeError):
    """Embeddings or a limit that cannot be searched with."""


class TargetError(LookalikeError):
    """No index has the recall that was asked for within the bytes and the time."""


class LogError(LookalikeError):
    """The change log cannot be written or read: a full disk, say."""


class UnknownItemError(LookalikeError):
    """An id that no item of the version has."""

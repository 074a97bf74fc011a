"""The error tree of the index floor (training.errors contains the rest).

LookalikeError
├── StoreError    no such version, no champion, or no version to roll back to
│   └── JobError  another job is running on the store
├── QueryError    invalid embeddings, limit or filter of a search
├── TargetError   no index reaches the target recall within the limits of memory and time
├── LogError      the change log cannot be written or read
└── UnknownItemError   an id that no item has
"""

from lookalike.training.errors import LookalikeError

__all__ = ["JobError", "LogError", "QueryError", "StoreError", "TargetError", "UnknownItemError"]


class StoreError(LookalikeError):
    """No such version, no champion, or no version to roll back to."""


class JobError(StoreError):
    """Another job is running on the store; only one job may run at a time."""


class QueryError(LookalikeError):
    """Invalid embeddings, limit or filter of a search."""


class TargetError(LookalikeError):
    """No index reaches the target recall within the limits of memory and time."""


class LogError(LookalikeError):
    """The change log cannot be written or read, for example because the disk is full."""


class UnknownItemError(LookalikeError):
    """An id that no item of the version has."""

"""The errors of the index floor (training.errors contains the rest)."""

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

"""The index floor's branch of the error tree (training.errors draws the trunk).

LookalikeError
├── StoreError    no such version, no champion, or nothing to roll back to
├── QueryError    embeddings or a limit that cannot be searched with
└── UnknownItemError   an id that no item has
"""

from training.errors import LookalikeError

__all__ = ["QueryError", "StoreError", "UnknownItemError"]


class StoreError(LookalikeError):
    """No such version, no champion, or nothing to roll back to."""


class QueryError(LookalikeError):
    """Embeddings or a limit that cannot be searched with."""


class UnknownItemError(LookalikeError):
    """An id that no item of the version has."""

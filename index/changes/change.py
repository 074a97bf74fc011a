"""A change of an item, and the row of the change log that keeps it."""

import hashlib
from dataclasses import dataclass
from typing import Any

from lookalike.index.changes.inputs import Input, pack, unpack

__all__ = ["Change", "DamagedError", "change_of", "rising", "row_of"]


@dataclass(frozen=True)
class Change:
    """An item that was added, replaced or deleted.

    Attributes:
        id: the id of the item.
        input: (width,) as the client sent it, NaN for a missing value of a table; None for a deletion. float32, or
            float64 if the encoder has an origin (training.tables.origin).
        payload: the payload as JSON text; None for a deletion.
        preview: a small picture of the item, a WebP file; None if it has none.
        sequence: the position among all changes, from 1; 0 if the change is not in the log yet.
        seen: write the change only if the item did not change after this sequence number, up to which the caller has
            read the log; None means write always.
    """

    id: str
    input: Input | None = None
    payload: str | None = None
    sequence: int = 0
    seen: int | None = None
    preview: bytes | None = None

    @property
    def is_delete(self) -> bool:
        return self.input is None


class DamagedError(Exception):
    """A row of the log is damaged."""


def row_of(sequence: int, change: Change) -> tuple[Any, ...]:
    """Return the row of a change: sequence, id, input, payload, preview, digest."""
    blob = None if change.input is None else pack(change.input)
    parts = (change.id, blob, change.payload, change.preview)
    return sequence, *parts, _digest(sequence, *parts)


def change_of(row: tuple[Any, ...]) -> Change:
    """Return the change of a row. Raises DamagedError if the row is damaged."""
    sequence, name, blob, payload, preview, digest = row
    blobs = isinstance(blob, bytes | None), isinstance(preview, bytes | None)
    texts = isinstance(name, str), isinstance(payload, str | None)
    if not all((*blobs, *texts)) or digest != _digest(sequence, name, blob, payload, preview):
        raise DamagedError(f"change {sequence} of {name!r} with another digest")
    return Change(name, None if blob is None else unpack(blob), payload, sequence, preview=preview)


def rising(changes: list[Change], after: int) -> list[Change]:
    """Return the changes if their sequence numbers rise from `after` on.

    Raises DamagedError if they do not: if a change occurs twice, another change is missing.
    """
    for change in changes:
        if change.sequence <= after:
            raise DamagedError(f"change {change.sequence} after change {after}")
        after = change.sequence
    return changes


def _digest(sequence: int, name: str, blob: bytes | None, payload: str | None, preview: bytes | None) -> bytes:
    """Return the digest of a row's content: SQLite itself does not notice a byte that the disk has changed."""
    digest = hashlib.blake2b(b"%d" % sequence, digest_size=16)
    for part in (name.encode(), blob, None if payload is None else payload.encode(), preview):
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.digest()

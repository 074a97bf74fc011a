"""The payloads of a table's rows, converted from Arrow columns when they are first needed.

Training reads only the labels; a build reads all fields.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import pyarrow as pa

from lookalike.training.rows.arrow_values import plain_column

__all__ = ["TablePayloads"]


class TablePayloads(Sequence[dict[str, Any]]):
    """The payloads of a batch of rows; each is a dict of the columns' values, None for a missing value."""

    def __init__(self, batch: pa.RecordBatch, names: list[str], label: str, source: tuple[str, int]) -> None:
        """Keep the columns `names` of a batch.

        Args:
            label: the column of the labels, which the payload also has as "label"; "" if there is none.
            source: the name of the table and the number of the first row, for errors.
        """
        self._batch, self._names, self._label, self._source = batch, names, label, source

    def __len__(self) -> int:
        return len(self._batch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Return one payload, or several. Raises DataError if a value of the table has no form in JSON."""
        return self._rows[place]

    def __eq__(self, other: object) -> bool:
        return list(self) == (list(other) if isinstance(other, TablePayloads) else other)

    __hash__ = None  # type: ignore[assignment]

    def renamed(self, old: str, new: str) -> "TablePayloads":
        """Return the same payloads, whose errors have the name `new` instead of `old`."""
        path, first = self._source
        return TablePayloads(self._batch, self._names, self._label, (path.replace(old, new), first))

    def labels(self) -> list[Any]:
        """Return the label of each row, None if there is none; converts no other column."""
        return self._plain(self._label) if self._label else [None] * len(self)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        columns = {name: self._plain(name) for name in self._names}
        if self._label and self._label != "label":
            columns["label"] = columns.get(self._label) or self.labels()
        if not columns:
            return [{} for _ in range(len(self))]
        names = list(columns)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _plain(self, name: str) -> list[Any]:
        path, first = self._source
        return plain_column(self._batch.column(name), path, name, first)

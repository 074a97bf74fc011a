"""Recordings in tables: files with a column for each channel, and optionally a column for the time.

A column may name the recording of each sample; the samples of one recording follow each other. The label of a sample is
in the column `data.label`, if the table has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lookalike.training.array_types import Integers
from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows.csv_header import read_header
from lookalike.training.rows.csv_kinds import Tally, convert, settle_decimals
from lookalike.training.rows.csv_text import read_cells
from lookalike.training.rows.file_kinds import TABLES, ending
from lookalike.training.rows.recording_blocks import Block, Source, no_codes
from lookalike.training.rows.recording_times import TimeReader
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.tables import BROKEN, broken, check_names
from lookalike.training.rows.typed_files import open_typed_file
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["open_table_recordings"]

CLOCKS = {"date", "datetime", "time", "timestamp"}
"""A column with one of these names is not a channel, unless `data.channels` names the column."""
_CHECKED = 1_000


@dataclass(frozen=True)
class _Table:
    """A table in record batches.

    Attributes:
        names: the columns of numbers among which the channels are chosen.
        batches: samples per batch and the names of the columns to read -> the batches.
        number: a column of numbers as float64, NaN for missing: its cells, its name and the number of its first row.
    """

    path: Path
    columns: list[str]
    names: list[str]
    batches: Callable[[int, list[str]], Iterator[pa.RecordBatch]]
    number: Callable[[pa.Array, str, int], Any]
    clock: Callable[[pa.Array, int], pa.Array] = lambda cells, first: cells


def open_table_recordings(path: Path, name: str, settings: DataConfig, *, strict: bool = True) -> Source:
    """Open a table of any kind. The types of the columns, or the first rows of a text file, show which are numbers.

    `strict`: refuse a table without the label column that the settings name; false for a query, which has no labels.
    """
    kind = TABLES[ending(path)]
    if kind == "text":
        table = _text_table(path, settings, trained=not strict)
    else:
        table = _typed_table(open_typed_file(kind, TableFile(path)), settings)
    return _source(table, name, settings, strict=strict)


def _text_table(path: Path, settings: DataConfig, *, trained: bool) -> _Table:
    header = read_header(path, settings, trained=trained)
    check_names(path, header.names, settings)

    def batches(size: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        for cells in read_cells(path, header):
            for start in range(0, len(cells), size):
                yield cells.slice(start, size).select(names)

    def number(cells: pa.Array, column: str, first: int) -> Any:
        converted = convert(cells, pa.float64(), (path, column), first, tallies[column].decimal)
        return converted.to_numpy(zero_copy_only=False)

    def clock(cells: pa.Array, first: int) -> pa.Array:
        """Convert times with decimal commas to numbers."""
        has_commas = tallies[settings.time].decimal == "," and tallies[settings.time].kind() == pa.float64()
        return convert(cells, pa.float64(), (path, settings.time), first, ",") if has_commas else cells

    tallies = {column: Tally(settings.decimal) for column in header.names}
    for batch in batches(_CHECKED, header.names):
        for column, tally in tallies.items():
            tally.add(batch.column(column))
        break
    settle_decimals(tallies.values(), header.delimiter)
    numbers = [column for column, tally in tallies.items() if tally.kind() in (pa.int64(), pa.float64())]
    return _Table(path, header.names, numbers, batches, number, clock)


def _typed_table(file: TypedFile, settings: DataConfig) -> _Table:
    path, names = file.source.path, file.schema.names

    def batches(size: int, names: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from (batch.select(names) for batch in file.read(size, names))
        except BROKEN as error:
            raise broken(path, error) from error

    def number(cells: pa.Array, column: str, first: int) -> Any:
        return cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)

    check_names(path, names, settings)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    numbers = [field.name for field in file.schema if any(test(field.type) for test in kinds)]
    return _Table(path, names, numbers, batches, number)


def _source(table: _Table, name: str, settings: DataConfig, *, strict: bool) -> Source:
    channels, notes = _channels(table, settings)
    labels: list[Any] = []
    label = settings.label if settings.label in table.columns else None
    if label is None and strict and settings.label != DataConfig().label:
        raise _no_column(table, settings.label, "data.label")
    clock = TimeReader(f"{table.path}:{settings.time}") if settings.time else None
    used = list(dict.fromkeys([*channels, *filter(None, (settings.time, settings.recording, label))]))
    known: dict[Any, int] = {}

    def blocks(size: int) -> Iterator[Block]:
        first = 0
        for batch in table.batches(size, used):
            columns = [table.number(batch.column(channel), channel, first) for channel in channels]
            values = np.stack(columns, axis=1)  # (n, channels)
            _refuse_infinite(table.path, values, channels, first)
            codes = _codes(batch.column(label), known, labels) if label else no_codes(len(batch))
            times = clock.read(table.clock(batch.column(settings.time), first), first) if clock else None
            for recording, part in _parts(table, batch, name, settings.recording, first):
                yield Block(
                    recording, values[part], codes[part], None if times is None else times[part], first + part.start
                )
            first += len(batch)

    if clock:
        for batch in table.batches(_CHECKED, [settings.time]):
            clock.read(table.clock(batch.column(settings.time), 0), 0)
            break
        if clock.unit:
            notes = (*notes, f"the times in column {settings.time} are {clock.unit} since 1970")
    return Source(table.path, blocks, channels, labels=labels, zoned=bool(clock and clock.zoned), notes=notes)


def _channels(table: _Table, settings: DataConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the channels, and notes about columns that are left out."""
    for column, setting in ((settings.time, "data.time"), (settings.recording, "data.recording")):
        if column and column not in table.columns:
            raise _no_column(table, column, setting)
    if settings.channels:
        for channel in settings.channels:
            if channel not in table.columns:
                raise _no_column(table, channel, "data.channels")
            if channel not in table.names:
                place = f"{table.path}, column {channel}"
                raise DataError(place, expected="numbers, as in every channel", found="other values")
        return settings.channels, ()
    others = {settings.time, settings.recording, settings.label, settings.id, *settings.exclude}
    left_out = [column for column in table.names if column not in others and column.strip().lower() in CLOCKS]
    channels = tuple(column for column in table.names if column not in others and column not in left_out)
    if not channels:
        raise DataError(str(table.path), expected="a column of numbers, as a channel", found=f"columns {table.columns}")
    texts = [column for column in table.columns if column not in {*others, *table.names}]
    notes = [f"left out, because the values are not numbers: {', '.join(texts[:20])}"] if texts else []
    if texts and settings.label not in table.columns:
        notes[0] += f"; if {texts[0]} has labels, name it with `--set data.label={texts[0]}`"
    advice = "if it has the times of the samples, name it with --time, else make it a channel with --channels"
    return channels, (*(f"column {column} is left out: {advice}" for column in left_out), *notes)


def _no_column(table: _Table, column: str, setting: str) -> DataError:
    found = f"columns {', '.join(table.columns)[:300]}"
    return DataError(str(table.path), expected=f"a column {column!r}, as {setting} names it", found=found)


def _refuse_infinite(path: Path, values: Any, channels: tuple[str, ...], first: int) -> None:
    infinite = np.isinf(values)
    if infinite.any():
        row, column = (int(place) for place in np.argwhere(infinite)[0])
        field = f"{path}, row {first + row}, column {channels[column]}"
        raise DataError(field, expected="a finite number, or a missing value", found="infinity")


def _codes(cells: pa.Array, known: dict[Any, int], labels: list[Any]) -> Integers:
    """(n,) labels -> (n,) their numbers in `labels`, to which new labels are appended; -1 for a missing label."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_floating(cells.type):
        cells = pc.if_else(pc.is_nan(cells), None, cells)
    encoded = cells.dictionary_encode()
    numbers = []
    for value in encoded.dictionary.to_pylist():
        if value not in known:
            known[value] = len(labels)
            labels.append(value)
        numbers.append(known[value])
    indices = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    codes: Integers = np.array([*numbers, -1])[indices]
    return codes


def _parts(table: _Table, batch: pa.RecordBatch, name: str, column: str, first: int) -> Iterator[tuple[str, slice]]:
    """Yield the recordings in a batch, with their samples."""
    if not column:
        yield name, slice(0, len(batch))
        return
    names = batch.column(column)
    if pa.types.is_dictionary(names.type):
        names = names.dictionary_decode()
    if names.null_count:
        place = f"{table.path}, row {first + pc.index(pc.is_null(names), True).as_py()}, column {column}"
        raise DataError(place, expected="the name of the recording", found="a missing value")
    runs = pc.run_end_encode(names)
    start = 0
    for recording, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield str(recording), slice(start, end)
        start = end

"""Read JSON Lines (.jsonl, .ndjson): one object per line, whose fields are the columns.

The first pass counts the rows and infers the types from all rows. A text stays text, even if it looks like a time.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pa_json

from lookalike.training.errors import DataError
from lookalike.training.rows.compressed import open_bytes, read_fully
from lookalike.training.rows.csv_header import damaged, not_decodable
from lookalike.training.rows.table_files import TableFile
from lookalike.training.rows.typed_table import TypedFile

__all__ = ["json_file", "read_objects", "united"]

PIECE = 1 << 24
"""Bytes per read."""
LONGEST = 1 << 26
"""The greatest length of a line, in bytes."""
DEEPEST = 100
"""The most levels of lists and objects in a line."""
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_BOM = b"\xef\xbb\xbf"
_PLACE = re.compile(r"JSON parse error: (.*?)\.? in row (\d+)")


def json_file(source: TableFile, size: int = PIECE) -> TypedFile:
    """Return the schema, the count and the reader of JSON Lines in UTF-8, also compressed. `size`: bytes per read.

    Raises DataError if a line is not an object, or if a field has another type than in the lines before; the error
    names the row, counted from 0.
    """
    path, schema, count = source.path, pa.schema([]), 0
    for table in _tables(path, None, size):
        schema = united(path, schema, table, count)
        count += len(table)

    def read(rows: int, names: list[str] | None) -> Iterator[pa.RecordBatch]:
        for table in _tables(path, schema, size):
            kept = table.select(schema.names if names is None else names)
            yield from kept.combine_chunks().to_batches(max_chunksize=rows)

    return TypedFile(source, schema, count, read)


def united(path: Path, schema: pa.Schema, table: pa.Table, first: int) -> pa.Schema:
    """Return the schema extended by the fields of a table, whose first row has the number `first`.

    Raises DataError if a field of the table has another type than in the schema.
    """
    try:
        return pa.unify_schemas([schema, _as_texts(table.schema)], promote_options="permissive")
    except pa.ArrowException as error:
        found, place = str(error).splitlines()[0], f"{path}, rows {first} to {first + len(table) - 1}"
        raise DataError(place, expected="one type for each field in all rows", found=found) from error


def read_objects(path: Path, lines: bytes, first: int, schema: pa.Schema | None = None) -> pa.Table:
    """Read whole lines of JSON; the first line has the row number `first`.

    The table has the fields of the schema, or the fields and types that the lines have. Raises DataError if a line is
    not an object, or if a field has two types.
    """
    _check_text(path, lines, first)
    _check_depth(path, lines, first)
    options = pa_json.ParseOptions(explicit_schema=schema, newlines_in_values=False)
    reading = pa_json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    try:
        return pa_json.read_json(pa.BufferReader(lines), read_options=reading, parse_options=options)
    except pa.ArrowInvalid as error:
        place, found = str(path), str(error).splitlines()[0]
        if match := _PLACE.match(found):
            place, found = f"{path}, row {first + int(match[2])}", match[1]
        expected = "one JSON object per line, each field with one type in all rows"
        raise DataError(place, expected=expected, found=found, remedy="Correct or remove the row.") from error


def _tables(path: Path, schema: pa.Schema | None, size: int) -> Iterator[pa.Table]:
    """Yield the rows in order; the fields of the schema, or the fields and types that a part of the file has."""
    first = 0
    for lines in _lines(path, size):
        table = read_objects(path, lines, first, schema)
        yield table
        first += len(table)


def _lines(path: Path, size: int) -> Iterator[bytes]:
    """Yield a file in pieces of whole lines that are not blank."""
    try:
        with open_bytes(path) as file:
            rest = read_fully(file, len(_BOM)).removeprefix(_BOM)
            while data := read_fully(file, size):
                rest += data
                stop = rest.rfind(b"\n") + 1
                if len(rest) - stop > LONGEST:
                    expected = f"lines of at most {LONGEST:,} bytes, with one JSON object each"
                    raise DataError(str(path), expected=expected, found="a longer line")
                if rest[:stop].strip():
                    yield rest[:stop]
                rest = rest[stop:]
    except OSError as error:
        raise damaged(path, error) from error
    if rest.strip():
        yield rest


def _check_text(path: Path, lines: bytes, first: int) -> None:
    """Refuse bytes that are not UTF-8, and text that does not begin with an object but for example with an array."""
    try:
        lines.decode()
    except UnicodeDecodeError as error:
        row = first + sum(bool(line.strip()) for line in lines[: error.start].split(b"\n")[:-1])
        raise not_decodable(f"{path}, row {row}", "utf-8", lines[error.start]) from error
    start = lines.lstrip()[:1]
    if start != b"{":
        found = "an array" if start == b"[" else repr(start.decode(errors="replace"))
        remedy = "Write each object on its own line, for example with `jq -c '.[]'`." if start == b"[" else ""
        raise DataError(f"{path}, row {first}", expected="one JSON object per line", found=found, remedy=remedy)


def _check_depth(path: Path, lines: bytes, first: int) -> None:
    """Refuse values that are nested so deeply that Arrow's parser, which has no limit, would overflow its stack."""
    row = first
    for line in lines.split(b"\n"):
        if line.count(b"[") + line.count(b"{") > DEEPEST and _is_deep(line):
            raise DataError(f"{path}, row {row}", expected=f"at most {DEEPEST} levels of nesting", found="more levels")
        row += bool(line.strip())


def _is_deep(line: bytes) -> bool:
    """Whether a line has more than `DEEPEST` levels; brackets in texts do not count."""
    depth = 0
    for bracket in _BRACKET.findall(line):
        if bracket in {b"[", b"{"}:
            depth += 1
        elif bracket in {b"]", b"}"}:
            depth -= 1
        if depth > DEEPEST:
            return True
    return False


def _as_texts(schema: pa.Schema) -> pa.Schema:
    """Return the schema with text in place of the times that Arrow recognizes in texts."""
    return pa.schema([field.with_type(_as_text(field.type)) for field in schema])


def _as_text(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_text(field.type)) for field in kind])
    return kind

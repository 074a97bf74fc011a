"""Parse a filter from the command line, and print the hits of a search."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from lookalike.index.changes.delta import Delta
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter, read_filter
from lookalike.index.versions.searching import SearchResult

__all__ = ["print_hits", "print_json", "read_filter_text"]


def read_filter_text(text: str) -> Filter:
    """Parse a filter (see index.items.filters) from JSON. Raises QueryError if it is not valid."""
    try:
        return read_filter(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise QueryError("--filter", expected="JSON", found=str(error)[:80]) from error


def print_hits(
    items: Delta, ids: list[str], result: SearchResult, columns: Sequence[list[str] | None] | None = None
) -> None:
    """Print one JSON object for each query: its id, its hits (best first), and its novelty.

    `columns`: the columns that each query used, which are printed too, if the query is a part of a row; else None.
    """
    queries = zip(ids, result.scores.tolist(), result.positions.tolist(), result.novelty.tolist(), strict=True)
    for number, (name, scores, positions, novelty) in enumerate(queries):
        hits = [
            {"id": items.id_at(position), "score": score, "payload": json.loads(items.payload_json(position))}
            for score, position in zip(scores, positions, strict=True)
            if position >= 0
        ]
        used = columns[number] if columns else None
        print_json({"query": name, "hits": hits, "novelty": novelty} | ({"columns": used} if used else {}))


def print_json(value: Any) -> None:
    """Print one line of JSON; a character that the encoding of standard output lacks is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text)

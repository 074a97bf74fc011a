"""A filter from the command line, and what a search prints."""

import json

from lookalike.index.changes.delta import Delta
from lookalike.index.errors import QueryError
from lookalike.index.items.filters import Filter, read_filter
from lookalike.index.versions.searching import SearchResult

__all__ = ["print_hits", "read_filter_text"]


def read_filter_text(text: str) -> Filter:
    """Raises QueryError unless it is a filter (index.items.filters) as JSON."""
    try:
        return read_filter(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise QueryError("--filter", expected="JSON", found=str(error)[:80]) from error


def print_hits(items: Delta, ids: list[str], found: SearchResult) -> None:
    """One JSON object a query: its id, its hits best first, and how unusual it is."""
    each = zip(ids, found.scores.tolist(), found.positions.tolist(), found.novelty.tolist(), strict=True)
    for name, row, places, novelty in each:
        hits = [
            {"id": items.id_at(p), "score": s, "payload": json.loads(items.payload_json(p))}
            for s, p in zip(row, places, strict=True)
            if p >= 0
        ]
        print(json.dumps({"query": name, "hits": hits, "novelty": novelty}))

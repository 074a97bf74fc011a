"""The command `search`: queries are rows, a photo, a part of a row, or items; prints the hits of each."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from lookalike.cli.options import Device, Limit, StoreOption, open_store, with_options
from lookalike.index.limits import DEFAULT_LIMIT, MAX_LIMIT, check_limit

if TYPE_CHECKING:
    from lookalike.index.changes.collection import Collection
    from lookalike.index.versions.distinct import Thinning
    from lookalike.index.versions.searching import SearchResult
    from lookalike.training.artifact.row_encoder import RowEncoder

__all__ = ["SearchOptions", "search"]

SEARCH_CHUNK = 4_096
"""Rows that one search sends to the index at once."""


@dataclass(frozen=True)
class SearchOptions:
    """The options of `lookalike search`."""

    id_: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Search with this item instead. May be repeated.")
    ] = None
    row: Annotated[
        str | None,
        typer.Option(
            "--row",
            metavar="JSON",
            help="Search with a row of a table, or a part of a row, instead: JSON such as "
            '\'{"color": "red"}\', a file of JSON, or - for standard input.',
        ),
    ] = None
    limit: Limit = DEFAULT_LIMIT
    filter_: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="JSON",
            help='Return only items that match a filter such as \'{"field": "label", "equal": 3}\'; see the README.',
        ),
    ] = None
    distinct: Annotated[
        bool | None,
        typer.Option(
            "--distinct/--no-distinct",
            help="Leave out a hit that overlaps a better hit of the same recording. [default: if items are windows]",
        ),
    ] = None
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --id, leave out hits of the item's own recording that are nearer to the item than this: a time "
            "such as 30s, or a number of samples if recordings have no times. [default: hits that overlap the item]",
        ),
    ] = None
    device: Device = "auto"

    def thinning(self, encoder: "RowEncoder", *, by_ids: bool) -> "Thinning | None":
        """Return the thinning of a search. Raises QueryError as `thinning_for` does."""
        from lookalike.index.versions.distinct import thinning_for

        is_number = self.exclude is not None and self.exclude.replace(".", "", 1).isdecimal()
        exclude = float(self.exclude) if self.exclude is not None and is_number else self.exclude
        return thinning_for(encoder, distinct=self.distinct, exclude=exclude, by_ids=by_ids)


@with_options(SearchOptions)
def search(
    store: StoreOption,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Rows to search with; - reads a photo from standard input.")
    ] = None,
    *,
    options: SearchOptions,
) -> None:
    """Search the current items.

    The current items are the champion's items with all later changes, as in the service. Prints one JSON object for
    each query: its id, its hits (best first), its novelty, and for a part of a row the columns that were used.
    """
    from lookalike.cli.search_output import print_hits
    from lookalike.index.changes.collection import open_collection
    from lookalike.index.errors import QueryError

    queries = {"DATA": data, "--id": options.id_, "--row": options.row}
    if sum(map(bool, queries.values())) != 1:
        found = ", ".join(name for name, given in queries.items() if given) or "none"
        raise QueryError("search", expected="one of DATA, --id and --row", found=found)
    check_limit(options.limit, MAX_LIMIT)
    collection = open_collection(open_store(store), open_store(store).champion_number(), options.device)
    for names, result, columns in _results(collection, data, options):
        print_hits(collection.items, names, result, columns)


def _results(
    collection: "Collection", data: str | None, options: SearchOptions
) -> Iterator[tuple[list[str], "SearchResult", list[list[str] | None] | None]]:
    """Yield the names of some queries, their hits, and for parts of rows the columns that each query used."""
    from lookalike.cli.search_input import open_queries, photo_from
    from lookalike.cli.search_output import read_filter_text
    from lookalike.cli.search_row import read_row
    from lookalike.index.versions.embed import suited

    encoder, searcher, limit = collection.encoder, collection.searcher, options.limit
    filter_ = None if options.filter_ is None else read_filter_text(options.filter_)
    thinning = options.thinning(encoder, by_ids=bool(options.id_))
    if options.id_:
        yield options.id_, searcher.search_items(options.id_, limit, filter_, thinning), None
    elif options.row:
        rows, columns = read_row(options.row, encoder)
        yield [str(number) for number in range(len(rows))], searcher.search_rows(rows, limit, filter_), columns
    elif data == "-":
        photo = photo_from(sys.stdin.buffer, encoder.transform)
        yield ["-"], searcher.search_rows(photo, limit, filter_, thinning), None
    elif data:
        for chunk in suited(open_queries(data, collection), encoder).chunks(SEARCH_CHUNK):
            yield chunk.ids, searcher.search_rows(chunk.inputs, limit, filter_, thinning), None

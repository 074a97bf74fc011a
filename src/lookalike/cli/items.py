"""The commands about items: import, export, and compact."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.options import Data, Device, StoreOption, open_store

__all__ = ["compact", "export", "import_"]


def import_(
    data: Data,
    store: StoreOption,
    again: Annotated[bool, typer.Option("--again", help="Import all rows, even those imported before.")] = False,
    device: Device = "auto",
) -> None:
    """Write each row of DATA as an item.

    A running service finds the items at once. A row replaces the item with its id. If the command is interrupted, run
    it again: it continues where it stopped. If DATA has grown since the last import, only the new rows are written; if
    its earlier rows have changed, all rows are written. Items are never deleted.
    """
    from lookalike.data import note_skipped, open_inputs
    from lookalike.index.changes.importing import import_rows
    from lookalike.training.artifact.opening import open_encoder

    opened = open_store(store)
    encoder = open_encoder(opened.path(opened.champion_number()) / "encoder")
    rows = open_inputs(data, encoder.inputs)
    if rows.columns and rows.ids is None:
        note = "has no column of ids: a row's number is its id, so row 0 replaces the item '0' if it exists"
        print(f"{rows.name} {note}", file=sys.stderr)
    done = import_rows(rows, opened, again=again, device=device)
    note_skipped(rows, store)
    nothing = "; nothing to do, --again imports them again" if not done.rows else ""
    skipped = f"; {len(rows.skipped):,} files skipped that cannot be read" if rows.skipped else ""
    replaced = f"; {done.replaced:,} replaced an item" if done.replaced else ""
    print(f"{done.rows:,} rows imported, {done.before:,} were imported before{replaced}{skipped}{nothing}")
    if done.clipped.count:
        values = f"{done.clipped.count:,} ({done.clipped.text()})"
        print(f"values that the encoder clips, because they are outside its known range: {values}", file=sys.stderr)


def export(
    store: StoreOption,
    to: Annotated[Path, typer.Option("--out", metavar="F.parquet", help="The file to write.")],
    device: Device = "auto",
) -> None:
    """Write all current items to a file. The file appears only when it is complete.

    The columns are id, payload (JSON text), payload.FIELD for each field with one kind of values (typed), and
    embedding, of unit length if the metric is cosine. If the command is interrupted, run it
    again: it continues where it stopped.
    """
    from lookalike.index.changes.exporting import export as export_items

    done = export_items(open_store(store), to, device=device)
    print(f"{done.items:,} items: version {done.version} with all later changes")


def compact(store: StoreOption) -> None:
    """Build and promote a version that contains all changes.

    The new version has the same encoder. Items can be written during the compaction. Afterwards, the command deletes
    superseded changes from the change log and frees their space. It runs at low priority.
    """
    from lookalike.index.changes.compact import compact as compact_store
    from lookalike.training.scheduling import lower_priority

    lower_priority()
    opened = open_store(store)
    number = compact_store(opened)
    print(f"champion: version {number or opened.champion_number()}" + ("" if number else ", no item has changed"))

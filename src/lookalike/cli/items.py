"""The commands about items: into a store, out of it, and folded into a version."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lookalike.cli.options import Data, Device, StoreOption

__all__ = ["compact", "export", "import_"]


def import_(
    data: Data,
    store: StoreOption,
    again: Annotated[bool, typer.Option("--again", help="All rows, also those that were imported before.")] = False,
    device: Device = "auto",
) -> None:
    """Put each row of DATA as an item, durably; a running service finds it at once. A row replaces the item of its id.

    Interrupted, the same command goes on where it was. Rows that were imported before are not written again: of DATA
    that has grown, only what is new is, and of DATA that has changed, all rows are. No item is ever deleted.
    """
    from lookalike.data import open_data
    from lookalike.index.changes.importing import import_rows
    from lookalike.index.versions.store import Store
    from lookalike.training.artifact.encoder import load_encoder

    opened = Store(store)
    encoder = load_encoder(opened.path(opened.champion_number()) / "encoder")
    done = import_rows(open_data(data, columns=encoder.columns), opened, again=again, device=device)
    nothing = "; nothing to do, --again writes them again" if not done.rows else ""
    print(f"{done.rows:,} rows imported, {done.before:,} had been before{nothing}")
    if done.clipped.count:
        found = f"{done.clipped.count:,} ({done.clipped.text()})"
        print(f"values outside the range that the encoder knows, which count as its end: {found}", file=sys.stderr)


def export(
    store: StoreOption,
    to: Annotated[Path, typer.Option("--out", metavar="F.parquet", help="The file to write: id, payload, embedding.")],
    device: Device = "auto",
) -> None:
    """Write all items that there are now to a file, which appears whole or not at all.

    A payload is JSON text; an embedding is as a search compares it. Interrupted, the same command goes on where it was.
    """
    from lookalike.index.changes.exporting import export as export_items
    from lookalike.index.versions.store import Store

    done = export_items(Store(store), to, device=device)
    print(f"{done.items:,} items: version {done.version}, and what was put and deleted since")


def compact(store: StoreOption) -> None:
    """Fold what was put and deleted into a new version of the same encoder, and promote it; writing goes on.

    Then drop the superseded changes of the change log and give their space back. It gives way to other
    processes on the machine.
    """
    from lookalike.index.changes.compact import compact as compact_store
    from lookalike.index.versions.store import Store
    from lookalike.training.scheduling import lower_priority

    lower_priority()
    opened = Store(store)
    number = compact_store(opened)
    print(f"champion: version {number or opened.champion_number()}" + ("" if number else ", nothing has changed"))

"""The options that several commands share, and the console that they print to."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lookalike.training.choices import DeviceName

if TYPE_CHECKING:
    from lookalike.index.versions.store import Store

__all__ = ["Config", "Data", "Device", "Limit", "Number", "Set", "StoreOption", "open_store", "out"]

out = Console(soft_wrap=True, markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits, fashion-mnist, their test parts (digits:test), a .npy, .npz, .parquet, .csv or idx .gz file, "
        "or a folder of images.",
    ),
]
StoreOption = Annotated[Path, typer.Option("--store", metavar="S", help="The folder of the versions.")]
Number = Annotated[int, typer.Argument(metavar="N", help="The version's number, as `lookalike versions` lists it.")]
Device = Annotated[DeviceName, typer.Option(help="auto uses CUDA if it is available.")]
Limit = Annotated[int, typer.Option(help="Hits per query.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="F.toml", help="A file of settings; they override the defaults.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="One setting; it overrides the file. May be repeated. Example: model.latent_dim=32. "
        "`lookalike settings` lists all settings.",
    ),
]


def open_store(folder: Path) -> "Store":
    """Return the store in a folder; imports it only now, so that `--help` is fast."""
    from lookalike.index.versions.store import Store

    return Store(folder)

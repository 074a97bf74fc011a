"""What commands share: the options that several of them take, and where they print."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lookalike.training.choices import DeviceName

__all__ = ["Config", "Data", "Device", "Limit", "Number", "Set", "StoreOption", "out"]

out = Console(soft_wrap=True, markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits or fashion-mnist (or its part, as digits:test), a .npy, .npz, .parquet, .csv or idx .gz file, "
        "or a folder of images.",
    ),
]
StoreOption = Annotated[Path, typer.Option("--store", metavar="S", help="The folder that holds the versions.")]
Number = Annotated[int, typer.Argument(metavar="N", help="The version's number, as `lookalike versions` lists it.")]
Device = Annotated[DeviceName, typer.Option(help="auto takes CUDA where there is one.")]
Limit = Annotated[int, typer.Option(help="Hits per query.")]
Config = Annotated[Path | None, typer.Option("--config", metavar="F.toml", help="Settings, over the defaults.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="One setting, over both; may be repeated. Example: model.latent_dim=32; `lookalike settings` lists all.",
    ),
]

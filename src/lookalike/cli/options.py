"""The options that several commands share, and the console that they print to."""

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.console import Console

from lookalike.training.choices import DeviceName

if TYPE_CHECKING:
    from lookalike.index.versions.store import Store

__all__ = ["Config", "Data", "Device", "Limit", "Number", "Set", "StoreOption", "open_store", "out", "with_options"]

out = Console(soft_wrap=True, markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits, fashion-mnist, their test parts (digits:test), a file (.npy, .npz, idx .gz, .csv, .tsv, .txt, "
        ".parquet, .arrow, .feather, .jsonl, .ndjson, .xlsx; also with .gz, .bz2 or .zst), a folder of images or "
        "of tables, or a URL such as s3://bucket/rows.parquet. With --window, recordings: a table, .npy, .wav, .flac "
        "or .ogg, or a folder of these.",
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


def with_options(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take its options as one dataclass, `options`; typer sees one option for each field."""
    hints, fields = get_type_hints(kind, include_extras=True), dataclasses.fields(kind)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        arguments = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
        keyword = inspect.Parameter.KEYWORD_ONLY
        options = [inspect.Parameter(f.name, keyword, default=f.default, annotation=hints[f.name]) for f in fields]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            given = {field.name: values.pop(field.name) for field in fields}
            command(**values, options=kind(**given))

        parameters = [*arguments, *options]
        vars(run)["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate

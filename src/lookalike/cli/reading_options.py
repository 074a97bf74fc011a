"""The options of a command that say how DATA is read: each option is short for a `data` setting."""

import json
from dataclasses import dataclass, fields
from typing import Annotated

import typer

from lookalike.training.errors import ConfigError

__all__ = ["ReadingOptions"]


def _short(setting: str, text: str, metavar: str = "NAMES") -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar=metavar, help=f"{text} Short for --set data.{setting}=...")
    return option


Names = str | None


@dataclass(frozen=True)
class ReadingOptions:
    """How DATA is read; names are separated by commas."""

    columns: Annotated[Names, _short("columns", "Only these columns of a table are the input.")] = None
    exclude: Annotated[Names, _short("exclude", "Columns that are payload, not input.")] = None
    category: Annotated[Names, _short("category", "Columns that are categories.")] = None
    number: Annotated[Names, _short("number", "Columns that are numbers.")] = None
    text: Annotated[Names, _short("text", "Columns of text that become hashed n-grams.")] = None
    weight: Annotated[Names, _short("weight", "How much columns count, such as price=2,color=0.5.", "NAME=W")] = None
    window: Annotated[Names, _short("window", "The length of a window, such as 256 or 2s.", "LENGTH")] = None
    hop: Annotated[Names, _short("hop", "From the start of one window to the next.", "LENGTH")] = None
    channels: Annotated[Names, _short("channels", "The columns that are channels.")] = None
    time: Annotated[Names, _short("time", "The column of the times.", "NAME")] = None
    recording: Annotated[Names, _short("recording", "The column that names the recording.", "NAME")] = None
    rate: Annotated[Names, _short("rate", "Resample recordings to this many samples per second.", "RATE")] = None
    normalize: Annotated[Names, _short("normalize", "How to scale a window: none, center, standard.", "KIND")] = None
    max_gap: Annotated[Names, _short("max_gap", "A gap longer than this splits a recording.", "TIME")] = None
    max_unreadable: Annotated[
        Names, _short("max_unreadable", "The share of photos that may be unreadable.", "SHARE")
    ] = None

    def overrides(self) -> list[str]:
        """Return the options as lines `section.key=value`, the form of --set."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return [f"data.{name}={_toml(name, value)}" for name, value in given.items() if value is not None]


def _toml(name: str, value: str) -> str:
    if name == "weight":
        pairs = [pair.rpartition("=") for pair in value.split(",")]
        if not all(column.strip() and weight.strip() for column, _, weight in pairs):
            raise ConfigError("--weight", expected="NAME=W, such as price=2,color=0.5", found=repr(value))
        return "{" + ", ".join(f"{_quoted(column)} = {weight}" for column, _, weight in pairs) + "}"
    if name in {"rate", "max_unreadable"} or (name in {"window", "hop"} and value.isdigit()):
        return value
    if name in {"window", "hop", "time", "max_gap", "recording", "normalize"}:
        return _quoted(value)
    return "[" + ", ".join(map(_quoted, value.split(","))) + "]"


def _quoted(text: str) -> str:
    """Return a text as a TOML string."""
    return json.dumps(text.strip())

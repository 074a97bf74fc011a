"""`lookalike keys`: who may call the service."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Make, list and remove the keys of a service; one that runs follows within a second or so.",
)
KeyFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The file of keys, as `serve --keys` reads it.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose key; logs say it.")]


@app.command()
def add(
    name: Name,
    keys: KeyFile,
    scope: Annotated[
        Literal["read", "write"], typer.Option(help="write may change what is served, and includes read.")
    ] = "read",
) -> None:
    """Make a key and print it, this once: the file gets only its hash."""
    from lookalike.service.security.keys import add_key

    print(add_key(keys, name, scope))
    print(f"the key of {name}, scope {scope}; it is nowhere else, and not shown again", file=sys.stderr)


@app.command("list")
def list_(keys: KeyFile) -> None:
    """List the names of the keys, what they may do, and when they were made."""
    from lookalike.service.security.keys import read_keys

    for key in read_keys(keys):
        print(f"{key.name:<24} {key.scope:<5} {key.added}")


@app.command()
def remove(name: Name, keys: KeyFile) -> None:
    """Remove a key: its holder is refused from then on."""
    from lookalike.service.security.keys import remove_key

    remove_key(keys, name)

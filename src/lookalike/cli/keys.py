"""`lookalike keys`: the API keys of a service."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Create, list and remove the API keys of a service. A running service follows within about a second.",
)
KeyFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The file of keys that `serve --keys` reads.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The key's name, which logs show.")]


@app.command()
def add(
    name: Name,
    keys: KeyFile,
    scope: Annotated[
        Literal["read", "write"], typer.Option(help="write may change items and versions, and includes read.")
    ] = "read",
) -> None:
    """Create a key and print it. It is not shown again: the file contains only its hash."""
    from lookalike.service.security.keys import add_key

    print(add_key(keys, name, scope))
    print(f"the key of {name}, scope {scope}; keep it, it is stored nowhere and not shown again", file=sys.stderr)


@app.command("list")
def list_(keys: KeyFile) -> None:
    """List the names, scopes and creation dates of the keys."""
    from lookalike.service.security.keys import read_keys

    for key in read_keys(keys):
        print(f"{key.name:<24} {key.scope:<5} {key.added}")


@app.command()
def remove(name: Name, keys: KeyFile) -> None:
    """Remove a key. The service refuses it from then on."""
    from lookalike.service.security.keys import remove_key

    remove_key(keys, name)

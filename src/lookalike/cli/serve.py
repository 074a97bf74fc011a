"""From the command line to a running service."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:  # a command that does not serve need not load the service
    from lookalike.service.settings import Settings

__all__ = ["Host", "Keys", "Port", "TlsCert", "TlsKey", "Workers", "announced", "settings_for"]

Host = Annotated[
    str | None,
    typer.Option(
        help="The address to listen on. [default: 127.0.0.1; any but loopback needs LOOKALIKE_API_KEY or --keys]"
    ),
]
Port = Annotated[int | None, typer.Option(help="0 takes a free one. [default: 8000]")]
Workers = Annotated[int | None, typer.Option(help="Processes that share the port and the memory. [default: 1]")]
Keys = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="Who may call: the file that `lookalike keys` writes.")
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="PEM", help="Serve HTTPS with this certificate; needs --tls-key.")
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="PEM", help="The certificate's private key, without a passphrase.")
]


def settings_for(store: Path, **given: object) -> "Settings":
    """The service's settings: the environment's, and over them those that are given."""
    from lookalike.service.settings import load_settings

    return load_settings(store=store, **{name: value for name, value in given.items() if value is not None})


def announced(settings: "Settings", out: Console, query: Path | None = None) -> None:
    """Serve, and say where; with `query`, a request body in a file, say how to ask."""
    from lookalike.service.server import serve as run_server

    def announce(url: str, number: int) -> None:
        out.print(f"version {number} at {url}, Ctrl-C stops it")
        if query:
            key = ' -H "X-API-Key: $LOOKALIKE_API_KEY"' if settings.api_key else ""
            body = shlex.quote(f"@{query}")
            out.print(f"curl -s {url}/search -H 'Content-Type: application/json'{key} -d {body}")

    run_server(settings, announce)

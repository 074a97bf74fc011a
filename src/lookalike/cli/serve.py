"""Start the service from the command line."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:  # commands that do not serve do not load the service
    from lookalike.service.settings import Settings

__all__ = ["Host", "Keys", "Port", "TlsCert", "TlsKey", "Workers", "serve_and_announce", "settings_for"]

Host = Annotated[
    str | None,
    typer.Option(
        help="The address to listen on. An address other than loopback needs LOOKALIKE_API_KEY or --keys. "
        "[default: 127.0.0.1]"
    ),
]
Port = Annotated[int | None, typer.Option(help="The port; 0 means any free port. [default: 8000]")]
Workers = Annotated[int | None, typer.Option(help="Processes that share the port and the memory. [default: 1]")]
Keys = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="The file of API keys that `lookalike keys` writes.")
]
TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="PEM", help="Serve HTTPS with this certificate; needs --tls-key.")
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="PEM", help="The certificate's private key, without a passphrase.")
]


def settings_for(store: Path, **options: object) -> "Settings":
    """Load the service's settings from the environment; `options` that are not None override them."""
    from lookalike.service.settings import load_settings

    return load_settings(store=store, **{name: value for name, value in options.items() if value is not None})


def serve_and_announce(settings: "Settings", out: Console, query: Path | None = None) -> None:
    """Serve, and print the URL; with `query`, the file of a request body, also print a `curl` command."""
    from lookalike.service.server import serve as run_server

    def announce(url: str, number: int) -> None:
        out.print(f"version {number} at {url}, Ctrl-C to stop")
        if query:
            key = ' -H "X-API-Key: $LOOKALIKE_API_KEY"' if settings.api_key else ""
            body = shlex.quote(f"@{query}")
            out.print(f"curl -s {url}/search -H 'Content-Type: application/json'{key} -d {body}")

    run_server(settings, announce)

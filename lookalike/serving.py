"""From the command line to a running service."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:  # a command that does not serve need not load the service
    from service.settings import Settings

__all__ = ["announced", "settings_for"]


def settings_for(store: Path, host: str | None, port: int | None) -> "Settings":
    """The service's settings: the environment's, and over them those that are given."""
    from service.settings import load_settings

    given: dict[str, Any] = {"host": host, "port": port}
    return load_settings(store=store, **{name: value for name, value in given.items() if value is not None})


def announced(settings: "Settings", out: Console, query: Path | None = None) -> None:
    """Serve, and say where; with `query`, a request body in a file, say how to ask."""
    from service.server import serve as run_server

    def announce(url: str, number: int) -> None:
        out.print(f"version {number} at {url}, Ctrl-C stops it")
        if query:
            key = ' -H "X-API-Key: $LOOKALIKE_API_KEY"' if settings.api_key else ""
            body = shlex.quote(f"@{query}")
            out.print(f"curl -s {url}/search -H 'Content-Type: application/json'{key} -d {body}")

    run_server(settings, announce)

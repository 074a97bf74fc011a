"""Run the service: open the champion, bind, say so, serve until SIGTERM or Ctrl-C."""

import gc
import signal
import socket
from collections.abc import Callable

import uvicorn

from index.store import Store
from service.app import create_app
from service.logs import configure
from service.settings import Settings
from training.errors import ConfigError

__all__ = ["check_address", "serve"]


def serve(settings: Settings, announce: Callable[[str, int], None]) -> None:
    """Serve the store's champion; `announce(url, version)` is called once the address is bound.

    Raises:
        ConfigError: the address is taken.
        StoreError, ArtifactError: there is no champion, or it is damaged.
    """
    version = Store(settings.store).open_champion(settings.device)
    configure(settings.log_level)
    config = uvicorn.Config(
        create_app(settings, version),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.stop_seconds,
    )
    with _bind(settings) as listener:
        host, port = listener.getsockname()[:2]
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn takes them over, stops cleanly, and raises them again
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", version.number)
        gc.freeze()  # what is loaded stays: the collector need not walk it again under load
        server.run(sockets=[listener])


def check_address(settings: Settings) -> None:
    """Raises ConfigError where `serve` could not listen now."""
    _bind(settings).close()


def _bind(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), family=_family(settings.host), backlog=2048)
    except (OSError, TypeError, UnicodeError) as error:
        raise ConfigError(
            "host and port",
            expected="an address to listen on",
            found=f"{settings.host}:{settings.port}, {error}",
            remedy="Choose another --host or --port.",
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

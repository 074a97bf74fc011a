"""Run the service: open the champion, bind the address, announce it, serve until SIGTERM or Ctrl-C."""

import gc
import resource
import signal
import socket
from collections.abc import Callable

import uvicorn

from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.versions.store import Store
from lookalike.service.app import create_app
from lookalike.service.observability.logs import configure
from lookalike.service.parsing.head_limits import BoundedProtocol
from lookalike.service.security.keys import KeyRing
from lookalike.service.security.tls import tls_context
from lookalike.service.serving.engine import use_threads
from lookalike.service.serving.preflight import prepare
from lookalike.service.serving.serving import Health
from lookalike.service.serving.workers import WorkerBoard, supervise
from lookalike.service.settings import Settings
from lookalike.training.errors import ConfigError

__all__ = ["check_start", "serve", "serve_worker"]

COLLECTED_AFTER = 10_000
"""New objects after which the garbage collector runs. With Python's default of 700 and 64 calls at once, it scans each
call's objects many times."""


def serve(settings: Settings, announce: Callable[[str, int], None]) -> None:
    """Serve the store's champion; call `announce(url, version)` once the address is bound.

    Raises:
        ConfigError: the address is in use, or the keys or the certificate are wrong.
        StoreError, ArtifactError: the champion is missing or damaged.
    """
    scheme = "https" if tls_context(settings) else "http"
    KeyRing.of(settings)
    store = Store(settings.store)
    number = store.champion_number()
    configure(settings.log_level)
    with _bind(settings) as listener:
        if settings.workers > 1:
            open_collection(store, number, settings.device)  # refuse a damaged version before a worker starts
            supervise(settings, listener, serve_worker, lambda: announce(_url(listener, scheme), number))
            return
        server = _server(settings, open_collection(store, number, settings.device), WorkerBoard(1), 0)
        for signum in (signal.SIGTERM, signal.SIGINT):  # uvicorn handles them, stops cleanly, and raises them again
            signal.signal(signum, lambda *_: setattr(server, "should_exit", True))
        announce(_url(listener, scheme), number)
        server.run(sockets=[listener])


def serve_worker(settings: Settings, listener: socket.socket, board: WorkerBoard, slot: int) -> None:
    """Serve as one of several processes."""
    configure(settings.log_level)
    store = Store(settings.store)
    number = board.version or store.champion_number()
    _server(settings, open_collection(store, number, settings.device), board, slot).run(sockets=[listener])


def _server(settings: Settings, collection: Collection, board: WorkerBoard, slot: int) -> uvicorn.Server:
    """A server whose collection is warm; it does not run yet."""
    _allow_files(2 * settings.max_connections)
    context = tls_context(settings)
    app = create_app(settings, collection)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.stop_seconds,
        ssl_context_factory=(lambda *_: context) if context else None,
    )
    server = uvicorn.Server(config)
    app.state.health = Health(
        beat=lambda number: board.beat(slot, number),
        check=board.check,
        stopping=lambda: server.should_exit,
        sequence=lambda: board.sequence,
        publish=lambda sequence: board.publish(slot, sequence),
    )
    use_threads(settings.torch_threads)
    prepare(collection)
    gc.freeze()  # the loaded objects stay, so the collector need not scan them under load
    gc.set_threshold(COLLECTED_AFTER, 10, 10)
    return server


def _allow_files(count: int) -> None:
    """Raise the limit of open files: each connection is one, and a shell's limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def check_start(settings: Settings) -> None:
    """Raises ConfigError if `serve` would, so that a command can check before long work."""
    tls_context(settings)
    KeyRing.of(settings)
    _bind(settings).close()


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except (OSError, TypeError, UnicodeError) as error:
        found, remedy = f"{settings.host}:{settings.port}, {error}", "Choose another --host or --port."
        raise ConfigError("host and port", expected="an address to listen on", found=found, remedy=remedy) from error


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

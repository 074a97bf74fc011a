"""The systems of benchmarks.items: ours and Chroma's over HTTP, PostgreSQL's over its socket, Qdrant's in this process.

Each system contains the items of the material before the measurement, searches by HNSW with m = 16, ef_construction =
100 and ef_search = 100 if it has these settings, and has an item on disk when `put` returns; `Place.note` names the
setting.
"""

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks.items_load import Door, K, Material, Opener
from benchmarks.service_process import ask, free_port, lookalike, running_server, two_cores
from lookalike.index.versions.store import Store

__all__ = ["PEERS", "Place", "ours"]

M, CONSTRUCTION, EFFORT = 16, 100, 100
LOADED = 1_000
"""Items of the base that are put in one call."""
_CHROMA = "/api/v2/tenants/default_tenant/databases/default_database/collections"
_TABLE = "CREATE TABLE items (id text PRIMARY KEY, embedding vector({}), payload jsonb NOT NULL)"
_INDEX = (
    f"CREATE INDEX ON items USING hnsw (embedding vector_cosine_ops) WITH (m = {M}, ef_construction = {CONSTRUCTION})"
)
_PUT = (
    "INSERT INTO items SELECT id, embedding::vector, payload::jsonb FROM unnest(%s::text[], %s::text[], %s::text[]) "
    "AS given (id, embedding, payload) ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, "
    "payload = excluded.payload"
)
_FIND = f"SELECT id FROM items ORDER BY embedding <=> %s::vector LIMIT {K}"
_FAR = 1 << 32
"""Qdrant's ids are numbers: the numbers of new items begin here."""


@dataclass(frozen=True)
class Place:
    """A running system: how to connect, whether other processes can connect too, and how durable its writes are."""

    opener: Opener
    processes: bool
    note: str


class HttpDoor:
    """The shared part of both HTTP doors: one connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: bytes) -> Any:
        self._connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status not in {200, 201}:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return orjson.loads(content)


class OurDoor(HttpDoor):
    """Our service, which receives rows and encodes them."""

    def __init__(self, port: int, material: Path) -> None:
        super().__init__(port)
        self._material = Material.load(material)

    def made(self, first: int, count: int) -> bytes:
        rows = self._material.rows
        items = [
            {"id": f"new-{i}", "input": rows[i % len(rows)].tolist(), "payload": {"label": i % 10}}
            for i in range(first, first + count)
        ]
        return orjson.dumps({"items": items})

    def put(self, made: bytes) -> None:
        self.ask("PUT", "/items", made)

    def query(self, number: int) -> bytes:
        return orjson.dumps({"inputs": [self._material.queries[number].tolist()], "limit": K})

    def find(self, query: bytes) -> list[str]:
        return [hit["id"] for hit in self.ask("POST", "/search", query)["results"][0]["hits"]]


@contextlib.contextmanager
def ours(store: Store, material: Path, folder: Path) -> Iterator[Place]:
    """`lookalike serve` with a store that may be changed."""
    port = free_port()
    with running_server(lookalike(store, port), two_cores()):
        ask(port, '{"ids": ["0"]}')
        yield Place(partial(OurDoor, port, material), True, "SQLite, write-ahead log, synchronous=FULL")


class ChromaDoor(HttpDoor):
    """Chroma's REST interface; its Python client would be slower."""

    def __init__(self, port: int, material: Path, collection: str) -> None:
        super().__init__(port)
        self._material = Material.load(material)
        self._path = f"{_CHROMA}/{collection}"

    def made(self, first: int, count: int) -> bytes:
        new = self._material.new
        numbers = range(first, first + count)
        return self.body([f"new-{i}" for i in numbers], [new[i % len(new)].tolist() for i in numbers])

    def body(self, ids: list[str], embeddings: list[list[float]]) -> bytes:
        labels = [{"label": number % 10} for number in range(len(ids))]
        return orjson.dumps({"ids": ids, "embeddings": embeddings, "metadatas": labels})

    def put(self, made: bytes) -> None:
        self.ask("POST", f"{self._path}/upsert", made)

    def query(self, number: int) -> bytes:
        embedding = self._material.asked[number].tolist()
        return orjson.dumps({"query_embeddings": [embedding], "n_results": K, "include": ["distances", "metadatas"]})

    def find(self, query: bytes) -> list[str]:
        found: list[str] = self.ask("POST", f"{self._path}/query", query)["ids"][0]
        return found


@contextlib.contextmanager
def chroma(store: Store, material: Path, folder: Path) -> Iterator[Place]:
    """Chroma's own server."""
    port = free_port()
    arguments = ["run", "--path", str(folder / "chroma"), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen([Path(sys.executable).with_name("chroma"), *arguments], stdout=subprocess.DEVNULL)
    try:
        door = _patiently(lambda: HttpDoor(port))
        hnsw = {"space": "cosine", "max_neighbors": M, "ef_construction": CONSTRUCTION, "ef_search": EFFORT}
        asked = orjson.dumps({"name": "items", "configuration": {"hnsw": hnsw}})
        collection = door.ask("POST", _CHROMA, asked)["id"]
        opened, base = ChromaDoor(port, material, collection), Material.load(material).base
        for first in range(0, len(base), LOADED):
            numbers = range(first, min(first + LOADED, len(base)))
            opened.put(opened.body([str(i) for i in numbers], base[first : numbers.stop].tolist()))
        opener = partial(ChromaDoor, port, material, collection)
        yield Place(
            opener, True, "SQLite, rollback journal, eight fsyncs a call as strace counts them, which is its default"
        )
    finally:
        process.kill()
        process.wait()


def _patiently(work: Any) -> Any:
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            return work()
        time.sleep(0.1)
    raise RuntimeError("nobody answers")


class PostgresDoor:
    """A connection to PostgreSQL with prepared statements."""

    def __init__(self, address: str, material: Path) -> None:
        import psycopg

        self._connection: Any = psycopg.connect(address, autocommit=True, prepare_threshold=0)
        self._connection.execute(f"SET hnsw.ef_search = {EFFORT}")
        self._material = Material.load(material)

    def made(self, first: int, count: int) -> list[list[str]]:
        new, numbers = self._material.new, range(first, first + count)
        texts = [str(new[i % len(new)].tolist()) for i in numbers]
        return [[f"new-{i}" for i in numbers], texts, [f'{{"label": {i % 10}}}' for i in numbers]]

    def put(self, made: list[list[str]]) -> None:
        self._connection.execute(_PUT, made)

    def query(self, number: int) -> list[str]:
        return [str(self._material.asked[number].tolist())]

    def find(self, query: list[str]) -> list[str]:
        return [name for (name,) in self._connection.execute(_FIND, query)]


@contextlib.contextmanager
def postgres(store: Store, material: Path, folder: Path) -> Iterator[Place]:
    """The PostgreSQL server that pgserver starts."""
    import pgserver
    import psycopg

    server = pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        address, base = server.get_uri(), Material.load(material).base
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
            connection.execute(_TABLE.format(base.shape[1]))
            with connection.cursor().copy("COPY items FROM STDIN") as copy:
                for number, row in enumerate(base):
                    copy.write_row((str(number), str(row.tolist()), f'{{"label": {number % 10}}}'))
            connection.execute("SET maintenance_work_mem = '512MB'")
            connection.execute(_INDEX)
            connection.execute("ANALYZE items")
            settings = {name: connection.execute(f"SHOW {name}").fetchone() for name in ("fsync", "synchronous_commit")}
        if {value for value in settings.values() if value} != {("on",)}:
            raise RuntimeError(str(settings))
        note = "fsync=on, synchronous_commit=on, wal_sync_method=fdatasync, which are its defaults; a Unix socket"
        yield Place(partial(PostgresDoor, address, material), True, note)
    finally:
        server.cleanup()


class QdrantDoor:
    """Qdrant's shard, which all connections of this process share."""

    def __init__(self, shard: Any, material: Material) -> None:
        self._shard, self._material = shard, material

    def made(self, first: int, count: int) -> Any:
        new = self._material.new
        return _points([(_FAR + i, new[i % len(new)].tolist()) for i in range(first, first + count)])

    def put(self, made: Any) -> None:
        self._shard.update(made)
        self._shard.flush()

    def query(self, number: int) -> Any:
        import qdrant_edge

        nearest = qdrant_edge.Query.Nearest(self._material.asked[number].tolist())
        return qdrant_edge.QueryRequest(limit=K, query=nearest, params=qdrant_edge.SearchParams(hnsw_ef=EFFORT))

    def find(self, query: Any) -> list[str]:
        ids = [point.id for point in self._shard.query(query)]
        return [str(i) if i < _FAR else f"new-{i - _FAR}" for i in ids]


def _points(items: list[tuple[int, list[float]]]) -> Any:
    import qdrant_edge

    points = [qdrant_edge.Point(id=i, vector=vector, payload={"label": i % 10}) for i, vector in items]
    return qdrant_edge.UpdateOperation.upsert_points(points)


@contextlib.contextmanager
def qdrant(store: Store, material: Path, folder: Path) -> Iterator[Place]:
    """Qdrant's engine. The base is indexed; new items are compared one by one, because no optimizer runs by itself."""
    import qdrant_edge

    loaded = Material.load(material)
    config = qdrant_edge.EdgeConfig(
        vectors=qdrant_edge.EdgeVectorParams(size=loaded.base.shape[1], distance=qdrant_edge.Distance.Cosine),
        hnsw_config=qdrant_edge.HnswIndexConfig(m=M, ef_construct=CONSTRUCTION, full_scan_threshold=LOADED),
        optimizers=qdrant_edge.EdgeOptimizersConfig(indexing_threshold=LOADED),
    )
    (folder / "qdrant").mkdir()
    shard = qdrant_edge.EdgeShard.create(str(folder / "qdrant"), config)
    try:
        for first in range(0, len(loaded.base), LOADED):
            shard.update(_points(list(enumerate(loaded.base[first : first + LOADED].tolist(), first))))
        shard.flush()
        shard.optimize()
        note = "flush() after each update, which its own write-ahead log does not sync; in the process of its clients"
        opener: Opener = lambda: _door(shard, loaded)  # noqa: E731
        yield Place(opener, False, f"{note}; {shard.info().indexed_vectors_count:,} indexed")
    finally:
        shard.close()


def _door(shard: Any, material: Material) -> Door:
    return QdrantDoor(shard, material)


PEERS = {"Chroma": chroma, "PostgreSQL": postgres, "Qdrant": qdrant}

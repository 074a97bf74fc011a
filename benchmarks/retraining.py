"""Do clients notice a retraining? It shares two cores with a service under load, and every answer is checked.

ours    /search and /embed of one row each, at a fixed rate per second, from when `lookalike retrain` starts on 60,000
        pictures and 2,000 that were put since, until the promoted version serves
floor   the same load immediately before

The service, the job and the client share both cores; the job runs at the lowest priority. One picture per second is put
during the retraining, and the version that takes over must find all of these.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from benchmarks.report import Bar, Row, report, row
from benchmarks.service_client import Figures, Shot, Traffic, posted
from benchmarks.service_process import ask, free_port, lookalike, running_server, store_of, two_cores
from lookalike.index.versions.store import Store
from lookalike.training.rows import open_rows, read_sample

__all__ = ["main"]

RATE = 200.0
CONNECTIONS = 16
QUERIES = 200
PUT = 2_000
SECONDS = 30.0
GIVE_UP = 3_600.0
LOOK_SECONDS = 1.0


def shots(images: NDArray[np.float32]) -> list[Shot]:
    """Two kinds of call, one row each."""
    bodies = [orjson.dumps({"inputs": [image.astype(int).tolist()]}) for image in images]
    return [Shot(posted(path, body)) for body in bodies for path in ("/search", "/embed")]


async def put(client: httpx.AsyncClient, names: list[str], images: NDArray[np.float32]) -> None:
    items = [{"id": name, "input": image.tolist()} for name, image in zip(names, images, strict=True)]
    answer = await client.put("/items", content=orjson.dumps({"items": items}))
    answer.raise_for_status()


async def drive(port: int, store: Store, options: argparse.Namespace) -> tuple[Figures, Figures, list[str], int]:
    """The steady figures, those during the retraining, the items put and the missing ones, and the exit code."""
    images, _ = read_sample(open_rows("fashion-mnist:test"), QUERIES + PUT, 0)
    queries, new = images[:QUERIES], images[QUERIES:]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for start in range(0, len(new), 500):
            await put(client, [f"new-{i}" for i in range(start, start + 500)], new[start : start + 500])
        await Traffic(port, shots(queries), CONNECTIONS, rate=options.rate).run(seconds=2)
        steady = await Traffic(port, shots(queries), CONNECTIONS, rate=options.rate).run(seconds=options.seconds)
        traffic = Traffic(port, shots(queries), CONNECTIONS, rate=options.rate)
        running = asyncio.create_task(traffic.run())
        job = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lookalike", "retrain", "--store", str(store.folder)), stdout=subprocess.DEVNULL
        )
        late: list[str] = []
        began = time.monotonic()
        while job.returncode is None and time.monotonic() - began < GIVE_UP:
            late.append(f"late-{len(late)}")
            await put(client, late[-1:], new[len(late) % PUT][None])
            await asyncio.sleep(LOOK_SECONDS)
        code = await job.wait()
        while code == 0 and (await client.get("/version")).json()["version"] != store.champion_number():
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(2 * LOOK_SECONDS)
        traffic.stop()
        moving = await running
        missing = [name for name in late if (await client.get(f"/items/{name}")).status_code != 200]
        return steady, moving, missing, code


def report_rows(steady: Figures, moving: Figures, missing: list[str], code: int) -> list[Row]:
    """The rows of the report."""
    wrong = steady.wrong.total() + moving.wrong.total()
    return [
        row("exit code: 0 promoted, 10 kept", "", ours=code),
        row("requests while it retrains", "", ours=len(moving.latencies)),
        row("failed", "requests", ours=wrong, bar=Bar("ours", "<=", 0)),
        row("put meanwhile, and not there afterwards", "items", ours=len(missing), bar=Bar("ours", "<=", 0)),
        row("from its begin until the new version serves", "s", ours=moving.seconds),
        row("requests a second", "", ours=moving.rate, floor=steady.rate),
        *(
            row(f"p{p:g}", "ms", ours=moving.milliseconds(p), floor=steady.milliseconds(p), bar=bar)
            for p, bar in ((50.0, None), (99.0, Bar("ours / floor", "<=", 2)), (99.9, None))
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", type=Path, help="a store with a promoted version of fashion-mnist; it is copied")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the duration of the steady load")
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        store = store_of(options.store, Path(name))
        if options.store:
            store = Store(Path(shutil.copytree(options.store, Path(name) / "copy")))
        with running_server(lookalike(store, port), [*two_cores()]):
            ask(port, '{"ids": ["0"]}')
            steady, moving, missing, code = uvloop.run(drive(port, store, options))
        outcome = json.loads((store.folder / "retraining" / "report.json").read_bytes())
    report("retraining", report_rows(steady, moving, missing, code), str(outcome.get("reason", "")))


if __name__ == "__main__":
    main()

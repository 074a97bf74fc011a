"""The peers of the service, written in the common way, each in a separate process.

plain   a `def` endpoint with torch and FAISS: the same encoder, index and answer
echo    an endpoint that has the same body validated by pydantic, and returns the number of its values
empty   a handler that reads the same body and returns a constant: the cost of HTTP itself

Run as `python -m benchmarks.service_apps plain|echo|empty STORE PORT`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version

__all__ = ["APPS", "echo_app", "empty_app", "plain_app", "search_version"]


class Query(BaseModel):
    """The body, validated by pydantic."""

    inputs: list[list[float]]
    limit: int = 10


def search_version(version: Version, rows: NDArray[np.float32], limit: int) -> list[dict[str, Any]]:
    """The hits of each of (n, width) raw rows, with plain torch and FAISS."""
    items = version.items
    with torch.no_grad():
        latent = version.autoencoder.encoder(version.encoder.preprocess.apply(torch.from_numpy(rows))).numpy()
    latent = latent / np.linalg.norm(latent, axis=1, keepdims=True)
    scores, positions = version.index.search(latent, limit)
    return [
        {
            "hits": [
                {"id": items.id_at(p), "score": s, "payload": items.payload_at(p)}
                for s, p in zip(row.tolist(), places.tolist(), strict=True)
            ]
        }
        for row, places in zip(scores, positions, strict=True)
    ]


def plain_app(store: Path) -> FastAPI:
    """Torch and FAISS in a `def` endpoint, with the same encoder, index and answer."""
    version = Store(store).open_champion()
    app = FastAPI()

    @app.post("/search")
    def search(query: Query) -> dict[str, object]:
        rows = np.array(query.inputs, np.float32)
        return {"version": version.number, "results": search_version(version, rows, query.limit)}

    return app


def echo_app(store: Path) -> FastAPI:
    """FastAPI and pydantic alone, on the event loop, because they are fastest there."""
    app = FastAPI()

    @app.post("/search")
    async def search(query: Query) -> dict[str, int]:
        return {"values": sum(map(len, query.inputs))}

    return app


def empty_app(store: Path) -> Starlette:
    """A handler that reads the body and returns a constant."""

    async def search(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({})

    return Starlette(routes=[Route("/search", search, methods=["POST"])])


APPS = {"plain": plain_app, "echo": echo_app, "empty": empty_app}

if __name__ == "__main__":
    kind, store_at, port = sys.argv[1:]
    chosen = APPS[kind](Path(store_at))
    uvicorn.run(chosen, port=int(port), loop="uvloop", http="httptools", log_level="warning", access_log=False)

"""What the service is measured against: a plain `def` endpoint as the field writes it, and an empty handler.

Run as `python -m benchmarks.service_apps plain|empty STORE PORT`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from index.store import Store

__all__ = ["empty_app", "plain_app"]


class Query(BaseModel):
    """The body, validated by pydantic."""

    inputs: list[list[float]]
    limit: int = 10


def plain_app(store: Path) -> FastAPI:
    """torch and FAISS in a `def` endpoint, with the same encoder, index and answer."""
    version = Store(store).open_champion()
    encoder, scaling, items = version.encoder.encoder, version.encoder.preprocess, version.items
    app = FastAPI()

    @app.post("/search")
    def search(query: Query) -> dict[str, object]:
        with torch.no_grad():
            latent = encoder(scaling.apply(torch.tensor(query.inputs))).numpy()
        latent = latent / np.linalg.norm(latent, axis=1, keepdims=True)
        scores, positions = version.index.search(latent, query.limit)
        return {
            "version": version.number,
            "results": [
                {
                    "hits": [
                        {"id": items.id_at(p), "score": s, "payload": items.payload_at(p)}
                        for s, p in zip(row.tolist(), places.tolist(), strict=True)
                    ]
                }
                for row, places in zip(scores, positions, strict=True)
            ],
        }

    return app


def empty_app() -> Starlette:
    """Reads the body and answers a constant: what HTTP itself costs."""

    async def search(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse({})

    return Starlette(routes=[Route("/search", search, methods=["POST"])])


if __name__ == "__main__":
    kind, store_at, port = sys.argv[1:]
    chosen = plain_app(Path(store_at)) if kind == "plain" else empty_app()
    uvicorn.run(chosen, port=int(port), loop="uvloop", http="httptools", log_level="warning", access_log=False)

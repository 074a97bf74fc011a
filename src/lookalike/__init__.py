"""Similarity search over your own data: an autoencoder, a FAISS index and an HTTP service.

Each name is imported when it is first used, so that `import lookalike` is fast. Everything else is in
`lookalike.training`, `lookalike.index` and `lookalike.service`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lookalike.index.versions.build import build
    from lookalike.index.versions.store import Store
    from lookalike.service.client import AsyncClient, Client
    from lookalike.training.doctor.causes import diagnose
    from lookalike.training.doctor.watch import Watch
    from lookalike.training.fit.estimator import AutoencoderEmbedder
    from lookalike.training.fit.job import train
    from lookalike.training.rows import open_rows

__all__ = ["AsyncClient", "AutoencoderEmbedder", "Client", "Store", "Watch", "build", "diagnose", "open_rows", "train"]

_WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "0"}
"""OpenMP threads spin for some microseconds while they wait, and then sleep.

With OpenMP's own default they spin for milliseconds and take the cores from other processes: an epoch beside busy
processes takes eight times as much CPU time. If they sleep at once, an epoch alone takes 1.8 times as long
(benchmarks/waiting.py). OpenMP reads these variables when torch and faiss are loaded; child processes inherit them.
"""
if not os.environ.keys() & _WAITING:
    os.environ.update(_WAITING)

_MODULES = {
    "AsyncClient": "service.client",
    "AutoencoderEmbedder": "training.fit.estimator",
    "Client": "service.client",
    "Store": "index.versions.store",
    "Watch": "training.doctor.watch",
    "build": "index.versions.build",
    "diagnose": "training.doctor.causes",
    "open_rows": "training.rows",
    "train": "training.fit.job",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

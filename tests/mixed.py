"""A small table of mixed columns, made by hand: every column depends, more or less, on the animal."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

__all__ = ["INPUTS", "QUICK", "mixed", "write_both", "write_csv", "write_parquet"]

INPUTS = ["weight", "animal", "colour", "always", "planet", "legs", "tame", "price"]
"""The input columns, in their order."""
QUICK = ("model.hidden=[32]", "model.latent_dim=4", "fit.epochs=30", "fit.batch_size=32", "fit.device=cpu")
_ANIMALS = np.array(["cat", "dog", "fish"])
_COLOURS = np.array(["black", "brown", "gold"])


def mixed(count: int = 240, seed: int = 0) -> dict[str, list[Any]]:
    """Numbers (some prices are missing, one column is constant), words (some colors are missing), and booleans."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % 3
    colour = _COLOURS[np.where(rng.random(count) < 0.9, kind, rng.integers(0, 3, count))].tolist()
    missing = rng.random((count, 2)) < [0.2, 0.1]
    price = (10 * kind + rng.normal(0, 1, count)).round(3).tolist()
    return {
        "id": [f"item-{i}" for i in range(count)],
        "weight": (4.0 * kind + rng.normal(0, 1, count)).round(3).tolist(),
        "animal": _ANIMALS[kind].tolist(),
        "colour": [None if none else value for none, value in zip(missing[:, 1], colour, strict=True)],
        "always": [7] * count,
        "planet": ["earth"] * count,
        "legs": np.array([4, 4, 0])[kind].tolist(),
        "tame": (rng.random(count) < np.array([0.8, 0.95, 0.1])[kind]).tolist(),
        "price": [None if none else value for none, value in zip(missing[:, 0], price, strict=True)],
        "note": [f"the {i}th of them" for i in range(count)],
        "label": _ANIMALS[kind].tolist(),
    }


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    pa_csv.write_csv(pa.table(columns), path)
    return path


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pa_parquet.write_table(pa.table(columns), path)
    return path


def write_both(folder: Path, columns: dict[str, list[Any]], name: str = "table") -> list[Path]:
    return [write_csv(folder / f"{name}.csv", columns), write_parquet(folder / f"{name}.parquet", columns)]

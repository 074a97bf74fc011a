"""Small photos of one color each, and a store whose encoder reads them as 2 x 2 pixels."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from lookalike.index.ann.target import Target
from lookalike.index.versions.build import build
from lookalike.index.versions.store import Store
from lookalike.training.artifact.encoder import load_encoder, write_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.rows import Rows, open_rows
from lookalike.training.transforms import ImageTransform

__all__ = ["COLORS", "TRANSFORM", "image", "photo", "photo_encoder", "photo_rows", "photo_store", "row_of", "size_of"]

TRANSFORM = ImageTransform(height=2, width=2, mode="rgb", fit="stretch")
COLORS = {f"{number:02d}.png": (20 * number + 10, 250 - 20 * number, 40 + 60 * (number % 4)) for number in range(12)}
"""The color of each photo of the store."""


def image(color: tuple[int, int, int], size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new("RGB", size, color)


def photo(color: tuple[int, int, int], kind: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
    """A file of one color; a JPEG file only has nearly that color."""
    target = io.BytesIO()
    image(color, size).save(target, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return target.getvalue()


def row_of(color: tuple[int, int, int]) -> NDArray[np.float32]:
    """(12,): the row of a photo of one color."""
    return np.array(color * 4, np.float32)


def size_of(preview: bytes) -> tuple[str | None, tuple[int, int]]:
    """The format and the (width, height) of a picture."""
    with Image.open(io.BytesIO(preview)) as opened:
        return opened.format, opened.size


def photo_encoder(folder: Path) -> Path:
    """Write an encoder of photos that returns the 12 values of a row."""
    halves = nn.Linear(12, 12), nn.Linear(12, 12)
    for half in halves:
        half.weight.data, half.bias.data = torch.eye(12), torch.zeros(12)
    folder.mkdir(parents=True)
    preprocess = fit_preprocessor(np.array([[0.0] * 12, [255.0] * 12], np.float32), "none")
    header = {"input_shape": [2, 2, 3], "latent_dim": 12, "output": "values", "transform": TRANSFORM.model_dump()}
    write_encoder(folder, *map(nn.Sequential, halves), preprocess=preprocess, header=header)
    return folder


def photo_rows(folder: Path, encoder: Path) -> Rows:
    """Write the photos to a new folder, and open them as the encoder reads them."""
    folder.mkdir()
    for name, color in COLORS.items():
        (folder / name).write_bytes(photo(color))
    return open_rows(str(folder), spec=load_encoder(encoder).inputs)


def photo_store(folder: Path, *, previews: bool = True) -> Store:
    """A store with a version of the photos in `folder`/photos, which is the champion."""
    encoder, store = photo_encoder(folder / "encoder"), Store(folder / "store")
    rows = photo_rows(folder / "photos", encoder)
    rows = rows if previews else replace(rows, read_with_previews=None)
    store.promote(build(rows, encoder, store, metric="l2", target=Target(key="Flat"), device="cpu"))
    return store

"""A version: an encoder and the index it made, opened together or not at all.

encoder/        the encoder artifact, sealed by itself
index.faiss     the embeddings
items.arrow     ids and payloads, and order.npy beside it
question.npy    one row, (1, width) float32; its answer stands in the manifest
manifest.json   format, version, encoder digest, index spec, data, evidence, files
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.embed import embed
from index.items import ITEMS, ORDER, ItemTable, read_items
from index.spec import IndexSpec, Metric
from index.vectors import VectorIndex
from training.artifact import Encoder, load_encoder
from training.errors import ArtifactError
from training.sealed import Sealed, open_sealed

__all__ = ["FORMAT", "INDEX", "QUESTION", "Version", "ask", "open_version"]

FORMAT = "lookalike-version/1"
INDEX = "index.faiss"
QUESTION = "question.npy"


@dataclass(frozen=True)
class Version:
    """An open version."""

    sealed: Sealed
    encoder: Encoder
    index: VectorIndex
    items: ItemTable
    question: NDArray[np.float32]

    @property
    def number(self) -> int:
        return int(self.sealed.header["version"])

    @property
    def manifest(self) -> dict[str, Any]:
        return self.sealed.header

    @property
    def metric(self) -> Metric:
        return self.index.spec.metric

    def embed(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, width) raw float32 -> (n, latent_dim) float32, as they stand in the index."""
        return embed(self.encoder, rows, self.metric)

    def answers_its_question(self) -> bool:
        """Does the stored question still get its stored answer, through encoder and index?"""
        wanted = self.manifest["answer"]
        given = ask(self.index, self.items, self.embed(self.question))
        return bool(
            given["ids"] == wanted["ids"] and np.allclose(given["scores"], wanted["scores"], rtol=1e-4, atol=1e-4)
        )


def open_version(folder: Path, device: str = "cpu") -> Version:
    """Verify every file of `folder`, then load encoder, index and items, and check that they belong together.

    Raises:
        ArtifactError: it names the file that is damaged or does not belong.
    """
    sealed = open_sealed(folder, FORMAT, needs=(INDEX, ITEMS, ORDER, QUESTION))
    header = sealed.header
    if folder.name != f"{header['version']:06d}":
        raise ArtifactError(
            str(folder), expected=f"the folder of version {header['version']}", found=f"the name {folder.name}"
        )
    encoder = load_encoder(folder / "encoder", device)
    if encoder.digest != header["encoder"]:
        raise ArtifactError(
            str(folder / "encoder"),
            expected=f"the encoder that made the index, {header['encoder'][:16]}…",
            found=f"{encoder.digest[:16]}…",
            remedy="Build the version again.",
        )
    index = VectorIndex.from_bytes(
        (folder / INDEX).read_bytes(), IndexSpec(**header["index"]), encoder.latent_dim, str(folder / INDEX)
    )
    items = read_items(folder)
    if not len(index) == len(items) == header["items"]:
        raise ArtifactError(
            str(folder), expected=f"{header['items']} items", found=f"{len(index)} embeddings, {len(items)} ids"
        )
    question = np.load(folder / QUESTION, allow_pickle=False)
    return Version(sealed, encoder, index, items, question)


def ask(index: VectorIndex, items: ItemTable, embeddings: NDArray[np.float32]) -> dict[str, Any]:
    """Ids and scores of the nearest few of one query, (1, dim): the known question's answer."""
    scores, positions = index.search(embeddings, 3)
    found = [int(p) for p in positions[0] if p >= 0]
    return {"ids": [items.id_at(p) for p in found], "scores": [float(s) for s in scores[0][: len(found)]]}

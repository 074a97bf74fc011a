"""A version: an encoder and the index it made, opened together or not at all.

encoder/         the encoder artifact, sealed by itself
index.faiss      the FAISS index
embeddings.npy   the embeddings, float32 (items, latent_dim)
items.arrow      ids and payloads, and order.npy beside it
canary.npy       one row, float32 (1, width); the manifest has its answer
held.npy         rows, float32 (m, width), with which the index was measured before it held them; the manifest has
                 their positions
novelty.npy      reconstruction errors and distances of held-out rows, and local_scale.npy, the distance of each item
                 from its nearest neighbors (index.versions.novelty)
alignment.npz    in a version that was made from another: maps from the embeddings of older versions
                 (index.versions.alignment)
manifest.json    index.versions.manifest: among others its parent version, and the last change of the change log that
                 it includes (index.changes.log)

Large files are memory-mapped, so that all processes which serve a version share one copy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.scores import drop_own
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex, comparable
from lookalike.index.arrays import load_array
from lookalike.index.items.filters import Filter
from lookalike.index.items.table import ITEMS, ORDER, ItemTable, read_items
from lookalike.index.limits import MAX_LIMIT, check_limit
from lookalike.index.versions.alignment import ALIGNMENT, load_maps
from lookalike.index.versions.embed import embed, in_metric
from lookalike.index.versions.manifest import CANARY_LIMIT, FORMAT, VersionManifest
from lookalike.index.versions.novelty import NEIGHBOURS, Novelty, encode_with_errors, load_novelty, local_distances
from lookalike.index.versions.searching import ExactReranker, Searcher
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.artifact.manifest import check_fields
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import Sealed, open_sealed, remember

__all__ = [
    "CANARY",
    "CANARY_LIMIT",
    "FORMAT",
    "HELD",
    "INDEX",
    "LOCAL_SCALE",
    "NOVELTY",
    "Search",
    "SearchResult",
    "Version",
    "calibration_of",
    "canary_answer",
    "open_version",
]

INDEX = "index.faiss"
CANARY = "canary.npy"
HELD = "held.npy"
NOVELTY = "novelty.npy"
LOCAL_SCALE = "local_scale.npy"


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        scores: (n, at most limit) float32 in the metric's unit, best first; NaN where there is no hit.
        positions: the same shape, int64; -1 where there is no hit.
        novelty: (n,) float64 in (0, 1], the p-value of each query: how often a held-out row is as unusual.
        sequence: the last change of the change log that the search included; 0 if no change was ever made.
    """

    scores: NDArray[np.float32]
    positions: NDArray[np.int64]
    novelty: NDArray[np.float64]
    sequence: int = 0


@dataclass(frozen=True)
class Search:
    """Finds, and judges how unusual each query is.

    Attributes:
        ranker: finds the nearest.
        usual: the `item_distances` at positions; at -1, any.
        novelty: of the version.
    """

    ranker: ExactReranker
    local_scale: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    novelty: Novelty

    def find(
        self,
        embeddings: NDArray[np.float32],
        limit: int,
        given: Filter | None = None,
        *,
        errors: NDArray[np.float64] | None = None,
        own: NDArray[np.int64] | None = None,
    ) -> SearchResult:
        """As `Version.search`."""
        check_limit(limit, MAX_LIMIT)
        scores, positions = self._others(embeddings, max(limit, NEIGHBOURS), None, own)
        near = self.local_scale(positions[:, :NEIGHBOURS])
        distances = local_distances(scores[:, :NEIGHBOURS], near, self.ranker.metric)
        if given is not None:
            scores, positions = self._others(embeddings, limit, given, own)
        return SearchResult(scores[:, :limit], positions[:, :limit], self.novelty.p_values(errors, distances))

    def _others(
        self, embeddings: NDArray[np.float32], limit: int, given: Filter | None, own: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if own is None:
            return self.ranker.search(embeddings, limit, given)
        return drop_own(*self.ranker.search(embeddings, limit + 1, given), own, limit)


@dataclass(frozen=True)
class Version:
    """An open version."""

    sealed: Sealed
    encoder: Encoder
    index: VectorIndex
    embeddings: Embeddings
    items: ItemTable
    searcher: Searcher
    canary: NDArray[np.float32]
    held: NDArray[np.float32]
    novelty: Novelty
    local_scale: NDArray[np.float32]

    @property
    def number(self) -> int:
        return int(self.sealed.header["version"])

    @cached_property
    def maps(self) -> dict[int, NDArray[np.float32]]:
        """By an older version's number: what takes its embeddings, (n, its dim), to this one's: (its dim, latent_dim).

        Raises:
            ArtifactError: they are no such maps.
        """
        known = ALIGNMENT in self.sealed.files
        return load_maps(self.sealed.folder / ALIGNMENT, self.encoder.latent_dim) if known else {}

    @property
    def sequence(self) -> int:
        """Up to which change of the change log it was built."""
        return int(self.sealed.header["sequence"])

    @property
    def manifest(self) -> dict[str, Any]:
        return self.sealed.header

    @property
    def calibration(self) -> str:
        """As `calibration_of`."""
        return calibration_of(self.sealed)

    @property
    def metric(self) -> Metric:
        return self.index.spec.metric

    def embed(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, width) raw float32 -> (n, latent_dim) float32, as they stand in the index."""
        return embed(self.encoder, rows, self.metric)

    def search(
        self,
        embeddings: NDArray[np.float32],
        limit: int,
        given: Filter | None = None,
        *,
        errors: NDArray[np.float64] | None = None,
        own: NDArray[np.int64] | None = None,
    ) -> SearchResult:
        """The `limit` nearest items of each embedding, (n, latent_dim), among those that a filter allows.

        Args:
            errors: (n,) the reconstruction errors of the rows that were embedded; None where there are no rows.
            own: (n,) where the queries stand that are items themselves, which they shall not find.

        Raises:
            QueryError: embeddings, limit or filter cannot be searched with.
        """
        return self._search.find(embeddings, limit, given, errors=errors, own=own)

    def search_rows(self, rows: NDArray[np.float32], limit: int, given: Filter | None = None) -> SearchResult:
        """The same for raw rows, (n, width), whose novelty is judged by their reconstruction too."""
        latent, errors = encode_with_errors(self.encoder, rows)
        return self.search(in_metric(latent, self.metric), limit, given, errors=errors)

    def search_items(self, ids: list[str], limit: int, given: Filter | None = None) -> SearchResult:
        """The `limit` nearest other items of each item.

        Raises:
            UnknownItemError: no item has one of the ids.
            QueryError: `limit` is out of bounds, or the filter is no filter of these items.
        """
        own = self.items.positions(ids)
        return self.search(self.embeddings.at(own), limit, given, own=own)

    @cached_property
    def _search(self) -> Search:
        local_scale = self.local_scale  # and not `self`, which would be kept until the next full collection of garbage
        return Search(self.searcher, lambda positions: np.take(local_scale, positions, mode="clip"), self.novelty)

    def answers_canary(self) -> bool:
        """Does the canary query still get its stored answer, through encoder and index?"""
        found = self.search(self.embed(self.canary), CANARY_LIMIT)
        return self.is_canary_answer(found.scores[0], found.positions[0])

    def is_canary_answer(self, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> bool:
        """Is this what the canary query must find? Items that score the same may stand for each other."""
        wanted = self.manifest["answer"]
        given = canary_answer(self.items, scores, positions)
        expected = dict(zip(wanted["ids"], wanted["scores"], strict=True))
        if len(given["ids"]) != len(expected):
            return False
        pairs = zip(given["ids"], given["scores"], strict=True)
        near = [
            np.isclose(score, expected.get(name, wanted["scores"][-1]), rtol=1e-4, atol=1e-4) for name, score in pairs
        ]
        return all(near)


def open_version(folder: Path, device: DeviceName = "cpu", receipt: Path | None = None) -> Version:
    """Verify every file of `folder`, then load encoder, index and items, and check that they belong together.

    Args:
        receipt: where it stands which files were verified before and did not change since (training.sealed).

    Raises:
        ArtifactError: it names the file that is damaged or does not belong.
    """
    sealed = open_sealed(
        folder, FORMAT, needs=(INDEX, EMBEDDINGS, ITEMS, ORDER, CANARY, HELD, NOVELTY, LOCAL_SCALE), receipt=receipt
    )
    check_fields(sealed, VersionManifest)
    try:
        version = _assemble(folder, sealed, device)
        if sealed.fresh:
            _check_content(version)
    except (KeyError, TypeError, ValueError, EOFError, OSError) as error:
        raise ArtifactError(str(folder), expected="a manifest that describes its files", found=repr(error)) from error
    if receipt:
        remember(sealed, receipt)
    return version


def _assemble(folder: Path, sealed: Sealed, device: DeviceName) -> Version:
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
    if header["columns"] != encoder.header.get("columns", []):
        raise ArtifactError(f"{folder}, columns", expected="those of the encoder", found="other columns")
    index = VectorIndex.read(folder / INDEX, IndexSpec(**header["index"]), encoder.latent_dim, header["items"])
    embeddings, items = read_embeddings(folder, index.spec.metric, encoder.latent_dim), read_items(folder)
    if not len(index) == len(embeddings) == len(items) == header["items"]:
        found = f"{len(index)} in the index, {len(embeddings)} embeddings, {len(items)} ids"
        raise ArtifactError(str(folder), expected=f"{header['items']} items", found=found)
    searcher = Searcher(index, embeddings, items)
    canary = np.array(_mapped(folder / CANARY, (1, encoder.width)))
    held = _mapped(folder / HELD, (len(header["held"]), encoder.width))
    local_scale = _mapped(folder / LOCAL_SCALE, (len(index),))
    novelty = load_novelty(folder / NOVELTY)
    return Version(sealed, encoder, index, embeddings, items, searcher, canary, held, novelty, local_scale)


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Map an array, so that it takes no more memory than the file has. Raises ArtifactError if its shape is another."""
    array = load_array(path, mmap_mode="r")
    if array.dtype != np.float32 or array.shape != shape:
        raise ArtifactError(str(path), expected=f"float32 {shape}", found=f"{array.dtype} {array.shape}")
    return array


def _check_content(version: Version) -> None:
    """Check the content of every file; a version whose files a receipt knows has passed this before.

    Raises:
        ArtifactError: it names the file.
    """
    folder = version.sealed.folder
    version.items.check(folder)
    version.index.check(folder / INDEX)
    _ = version.maps  # reading them checks them
    finite = {LOCAL_SCALE: version.local_scale, CANARY: version.canary}
    for name, array in finite.items():
        if not np.isfinite(array if name == LOCAL_SCALE or not version.encoder.columns else np.nan_to_num(array)).all():
            raise ArtifactError(str(folder / name), expected="finite numbers", found="NaN or infinity")
    for places, block in version.embeddings.blocks():
        if not comparable(block).all():
            found = f"others among rows {places[0]} to {places[-1]}"
            raise ArtifactError(str(folder / EMBEDDINGS), expected="numbers that can be compared", found=found)


def calibration_of(sealed: Sealed) -> str:
    """What novelty is judged by, by its digests: the encoder, and how far off its held-out rows were.

    A compaction keeps both, so its p-values go on where those of the version before it ended.
    """
    return f"{sealed.header['encoder']}:{sealed.files[NOVELTY]['sha256']}"


def canary_answer(items: ItemTable, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> dict[str, Any]:
    """Ids and scores of one query's hits, as the manifest keeps the canary query's."""
    found = [int(p) for p in positions if p >= 0]
    return {"ids": [items.id_at(p) for p in found], "scores": [float(s) for s in scores[: len(found)]]}

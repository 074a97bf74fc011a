"""A version: an encoder and the index over its embeddings, opened together or not at all.

encoder/         the encoder artifact, itself a sealed folder
index.faiss      the FAISS index
embeddings.npy   the embeddings, float32 (items, latent_dim)
items.arrow      ids and payloads, and order.npy beside it
previews.bin     small pictures of the items, and previews.npy beside it, if the items have any (index.items.previews)
canary.npy       one row, float32 (1, width); the manifest has its answer
held.npy         rows, float32 (m, width), with which the index was measured before it held them; the manifest has
                 their positions
novelty.npy      reconstruction errors and distances of held-out rows, and local_scale.npy, the distance of each item
                 from its nearest neighbors (index.versions.novelty)
inputs.npy       the items' inputs, unless the build left them out (index.versions.stored_inputs)
alignment.npz    in a version that was made from another: maps from the embeddings of older versions
                 (index.versions.alignment)
manifest.json    index.versions.manifest: among others its parent version, and the last change of the change log that
                 it includes (index.changes.log)

Large files are memory-mapped, so that all processes which serve a version share one copy.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.spec import IndexSpec, Metric
from lookalike.index.ann.vectors import VectorIndex, comparable
from lookalike.index.arrays import map_array
from lookalike.index.errors import QueryError, StoreError
from lookalike.index.items.previews import CONTENT, PLACES, Previews, read_previews
from lookalike.index.items.table import ITEMS, ORDER, ItemTable, read_items
from lookalike.index.versions.alignment import ALIGNMENT, load_maps
from lookalike.index.versions.embed import embed
from lookalike.index.versions.manifest import CANARY_LIMIT, FORMAT, CanaryAnswer, VersionManifest
from lookalike.index.versions.novelty import Novelty, load_novelty
from lookalike.index.versions.part_novelty import PartNovelty
from lookalike.index.versions.searching import Base, NoveltyOfParts, Searcher
from lookalike.index.versions.stored_inputs import INPUTS, StoredInputs, read_inputs
from lookalike.training.array_types import Floats, Integers
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.artifact.fields import check_fields
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import Sealed, open_sealed, write_receipt

__all__ = [
    "CANARY",
    "HELD",
    "INDEX",
    "LOCAL_SCALE",
    "NOVELTY",
    "Version",
    "calibration_of",
    "canary_answer",
    "open_version",
]

INDEX = "index.faiss"
CANARY, HELD, NOVELTY, LOCAL_SCALE = "canary.npy", "held.npy", "novelty.npy", "local_scale.npy"


@dataclass(frozen=True)
class Version:
    """An open version.

    Attributes:
        base: the index, the embeddings, the items and their local scale.
        canary: (1, width) float32, the row of the canary query.
        held: (m, width) float32, mapped: the rows at the positions `manifest.held`.
        inputs: the inputs of all items; None if the version was built without them.
    """

    sealed: Sealed
    manifest: VersionManifest
    encoder: RowEncoder
    base: Base
    novelty: Novelty
    canary: Floats
    held: Floats
    inputs: StoredInputs | None = None

    @property
    def number(self) -> int:
        return self.manifest.version

    @property
    def sequence(self) -> int:
        """The last change of the change log that the version includes."""
        return self.manifest.sequence

    @property
    def index(self) -> VectorIndex:
        return self.base.index

    @property
    def embeddings(self) -> Embeddings:
        return self.base.embeddings

    @property
    def items(self) -> ItemTable:
        return self.base.items

    @property
    def metric(self) -> Metric:
        return self.base.metric

    @property
    def calibration(self) -> str:
        return calibration_of(self.sealed)

    @property
    def autoencoder(self) -> Encoder:
        """The encoder, if `lookalike train` made it. Raises StoreError for a version of another kind."""
        if isinstance(self.encoder, Encoder):
            return self.encoder
        found = {"none": "a version of existing embeddings", "onnx": "a version with an ONNX model"}[self.encoder.kind]
        remedy = "Train an encoder with `lookalike train`, or build a new version with `lookalike build`."
        raise StoreError(f"version {self.number}", "a version whose encoder `lookalike train` made", found, remedy)

    def check_embeds(self) -> None:
        """Raises QueryError if the version has no encoder, which turns inputs into embeddings."""
        if not self.encoder.embeds:
            remedy = "Its rows are embeddings already: search with vectors or ids."
            raise QueryError("version", "a version with an encoder", "a version of existing embeddings", remedy)

    @cached_property
    def searcher(self) -> Searcher:
        """Searches the items of the version, without later changes."""
        return Searcher(self.base, self.encoder, self.novelty, self.of_parts)

    @cached_property
    def part_novelty(self) -> PartNovelty | None:
        """The novelty of parts of rows; None if no row has missing columns."""
        places = np.array(self.manifest.held, np.int64)
        return PartNovelty(self.encoder, self.base, self.held, places) if self.encoder.columns else None

    @property
    def of_parts(self) -> NoveltyOfParts | None:
        return self.part_novelty.of if self.part_novelty else None

    @cached_property
    def maps(self) -> dict[int, Floats]:
        """By the number of an older version: the matrix from its embeddings to this version's, (its dim, latent_dim).

        Raises ArtifactError if the file of the maps is damaged.
        """
        known = ALIGNMENT in self.sealed.files
        return load_maps(self.sealed.folder / ALIGNMENT, self.encoder.latent_dim) if known else {}

    @cached_property
    def previews(self) -> Previews | None:
        """The small pictures of the items; None if no item has one. Raises ArtifactError if their files are damaged."""
        known = {CONTENT, PLACES} & self.sealed.files.keys()
        return read_previews(self.sealed.folder, len(self.items)) if known else None

    def embed(self, rows: Floats) -> Floats:
        """(n, width) raw float32 -> (n, latent_dim) float32, as the index holds embeddings."""
        return embed(self.encoder, rows, self.metric)

    def answers_canary(self) -> bool:
        """Whether the canary query gets its stored answer, through encoder and index."""
        found = self.searcher.search(self.embed(self.canary), CANARY_LIMIT)
        return self.is_canary_answer(found.scores[0], found.positions[0])

    def is_canary_answer(self, scores: Floats, positions: Integers) -> bool:
        """Whether these hits are the canary query's stored answer. Items with equal scores may replace each other."""
        wanted, found = self.manifest.canary, canary_answer(self.items, scores, positions)
        expected = dict(zip(wanted.ids, wanted.scores, strict=True))
        return len(found.ids) == len(expected) and all(
            np.isclose(score, expected.get(name, wanted.scores[-1]), rtol=1e-4, atol=1e-4)
            for name, score in zip(found.ids, found.scores, strict=True)
        )


def open_version(folder: Path, device: DeviceName = "cpu", receipt: Path | None = None) -> Version:
    """Verify every file of `folder`, load encoder, index and items, and check that they belong together.

    `receipt` is the file that remembers which files were verified and have not changed since (training.sealed). Raises
    ArtifactError, naming the file, if a file is damaged or does not belong.
    """
    needs = INDEX, EMBEDDINGS, ITEMS, ORDER, CANARY, HELD, NOVELTY, LOCAL_SCALE
    sealed = open_sealed(folder, FORMAT, needs=needs, receipt=receipt)
    manifest = check_fields(sealed, VersionManifest)
    try:
        version = _assemble(folder, sealed, manifest, device)
        if sealed.fresh:
            _check_content(version)
    except (KeyError, TypeError, ValueError, EOFError, OSError) as error:
        raise ArtifactError(str(folder), expected="a manifest that describes its files", found=repr(error)) from error
    if receipt:
        write_receipt(sealed, receipt)
    return version


def _assemble(folder: Path, sealed: Sealed, manifest: VersionManifest, device: DeviceName) -> Version:
    if folder.name != f"{manifest.version:06d}":
        raise ArtifactError(str(folder), f"the folder of version {manifest.version}", f"the name {folder.name}")
    encoder = open_encoder(folder / "encoder", device)
    if encoder.digest != manifest.encoder:
        expected, found = f"the encoder of the index, {manifest.encoder[:16]}…", f"{encoder.digest[:16]}…"
        raise ArtifactError(str(folder / "encoder"), expected, found, "Build the version again.")
    if manifest.columns != encoder.header.get("columns", []):
        raise ArtifactError(f"{folder}, columns", expected="those of the encoder", found="other columns")
    spec = IndexSpec(**manifest.index.model_dump())
    index = VectorIndex.read(folder / INDEX, spec, encoder.latent_dim, manifest.items)
    embeddings, items = read_embeddings(folder, spec.metric, encoder.latent_dim), read_items(folder)
    if not len(index) == len(embeddings) == len(items) == manifest.items:
        found = f"{len(index)} in the index, {len(embeddings)} embeddings, {len(items)} ids"
        raise ArtifactError(str(folder), expected=f"{manifest.items} items", found=found)
    return Version(
        sealed,
        manifest,
        encoder,
        Base(index, embeddings, items, _mapped(folder / LOCAL_SCALE, (len(index),))),
        load_novelty(folder / NOVELTY),
        canary=np.array(_mapped(folder / CANARY, (1, encoder.width))),
        held=_mapped(folder / HELD, (len(manifest.held), encoder.width)),
        inputs=read_inputs(folder, manifest.items, encoder.width) if INPUTS in sealed.files else None,
    )


def _mapped(path: Path, shape: tuple[int, ...]) -> Floats:
    """Map an array, which needs no more memory than the file has bytes. Raises ArtifactError if its shape is wrong."""
    array = map_array(path)
    if array.dtype != np.float32 or array.shape != shape:
        raise ArtifactError(str(path), expected=f"float32 {shape}", found=f"{array.dtype} {array.shape}")
    return array


def _check_content(version: Version) -> None:
    """Raises ArtifactError if a file's content is damaged; versions that a receipt knows have passed this before."""
    folder, local_scale = version.sealed.folder, version.base.local_scale
    version.items.check(folder)
    version.index.check(folder / INDEX)
    _ = version.maps  # reading them checks them
    if version.previews:
        version.previews.check(folder)
    if version.inputs:
        version.inputs.check(folder, gaps=bool(version.encoder.columns))
    canary = np.nan_to_num(version.canary) if version.encoder.columns else version.canary
    for name, array in {LOCAL_SCALE: local_scale, CANARY: canary}.items():
        if not np.isfinite(array).all():
            raise ArtifactError(str(folder / name), expected="finite numbers", found="NaN or infinity")
    for places, block in version.embeddings.blocks():
        if not comparable(block).all():
            found = f"numbers that cannot, among rows {places[0]} to {places[-1]}"
            raise ArtifactError(str(folder / EMBEDDINGS), expected="numbers that can be compared", found=found)


def calibration_of(sealed: Sealed) -> str:
    """Return what identifies the calibration of novelty: the digests of the encoder and of the held-out rows' errors.

    A compaction keeps both, so the p-values of its version are comparable with those of its parent.
    """
    return f"{sealed.header['encoder']}:{sealed.files[NOVELTY]['sha256']}"


def canary_answer(items: ItemTable, scores: Floats, positions: Integers) -> CanaryAnswer:
    """Return ids and scores of one query's hits."""
    found = [int(p) for p in positions if p >= 0]
    return CanaryAnswer(ids=[items.id_at(p) for p in found], scores=[float(s) for s in scores[: len(found)]])

"""Check that a version can serve: undamaged, fits into memory, right canary answer, the same hits on GPU and CPU."""

import numpy as np

from lookalike.index.ann.recall import recalls
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.errors import StoreError
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.parsing.columns import TableInputs
from lookalike.service.parsing.photos import Photo, decode_photos
from lookalike.service.parsing.rows import RequestLimits
from lookalike.service.resources import available_bytes
from lookalike.training.artifact.opening import open_encoder
from lookalike.training.artifact.row_encoder import RowEncoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.transforms import ImageTransform

__all__ = ["check_agreement", "check_room", "checked_collection", "prepare"]

AGREEMENT = 0.99
"""Share of the ten nearest on the CPU that another device must find too."""
QUERIES = 256
PARTS = (1, 8, 16, 32, 64, 128)
WARM = (1, *range(8, 129, 8))
"""Rows of the batches to warm up, in steps of `training.artifact.steady.ROUNDED`; other sizes share their kernels."""
WHITE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
"""A PNG file of one pixel, in base64."""


def checked_collection(store: Store, number: int, device: DeviceName) -> Collection:
    """Open a version with its later changes, check it and warm it up.

    Raises:
        StoreError: the version does not exist, does not fit into memory, or gives a wrong canary answer.
        ArtifactError: it is damaged, or another device finds other items than the CPU.
    """
    folder = store.path(number)
    check_room(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), available_bytes())
    collection = open_collection(store, number, device)
    version = collection.version
    if not version.answers_canary():
        expected, found = "the known answer to its canary query", "another answer"
        raise StoreError(f"version {number}", expected=expected, found=found, remedy="Build it again.")
    prepare(collection)
    return collection


def prepare(collection: Collection) -> None:
    """Read an input and answer batches of the usual sizes once; compare the hits of another device with the CPU's.

    Raises ArtifactError if the device finds other items than the CPU.
    """
    version = collection.version
    _read_input(version.encoder)
    with version.encoder.warming():
        for count in WARM:
            collection.searcher.search_rows(np.repeat(version.canary, count, axis=0), 10)
    if version.encoder.device.type != "cpu":
        check_agreement(version, open_encoder(version.sealed.folder / "encoder", "cpu"))


def _read_input(encoder: RowEncoder) -> None:
    """Read an input as requests do: the first one imports Pillow or scikit-learn, which takes up to two seconds."""
    transform, table = encoder.transform, TableInputs.of(encoder)
    if isinstance(transform, ImageTransform):
        limits = RequestLimits(transform.shape, encoder.latent_dim, 1, 1, 1, photo=transform)
        decode_photos([Photo("photo", WHITE)], limits, lambda: None, previews=True)
    if table:
        table.decode([[None] * len(table.fields)], "row {}")


def check_room(needed: int, available: int | None) -> None:
    """Raises StoreError if a version of `needed` bytes does not fit into memory next to the serving version."""
    if available is not None and needed > available:
        expected = f"{needed:,} bytes for the version, next to the serving version"
        remedy = "Give the service more memory, or promote the version and restart the service."
        raise StoreError("memory", expected=expected, found=f"{available:,} bytes available", remedy=remedy)


def check_agreement(version: Version, reference: RowEncoder) -> None:
    """Raises ArtifactError if the version's encoder finds other items than the reference encoder on the CPU.

    The rows are encoded in one batch and in parts of several sizes, for which a GPU may use other kernels.
    """
    rows = np.concatenate([version.canary, version.held[:QUERIES]])
    parts = [part for part in np.split(rows, np.cumsum(PARTS)) if len(part)]
    encode, count = version.encoder.encode, min(10, len(version.index))
    latents = (reference.encode(rows), encode(rows), np.concatenate(list(map(encode, parts))))
    wanted, *others = (version.index.search(in_metric(latent, version.metric), count)[1] for latent in latents)
    shared = min(float(recalls(found, wanted).mean()) for found in others)
    if shared < AGREEMENT:
        field = f"version {version.number} on {version.encoder.device}"
        expected = f"{AGREEMENT:.0%} of the neighbors that a CPU finds"
        remedy = "Serve it with --device cpu, and check the device's driver."
        raise ArtifactError(field, expected=expected, found=f"{shared:.1%}", remedy=remedy)

"""May a version serve? It is whole, fits into memory, knows its answer, and a GPU finds what a CPU finds."""

import numpy as np

from lookalike.index.ann.recall import recalls
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.errors import StoreError
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import Version
from lookalike.service.resources import available_bytes
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError

__all__ = ["check_agreement", "check_room", "checked_collection", "prepare"]

AGREEMENT = 0.99
"""Of the ten nearest that a CPU finds, the share that another device must find too."""
ASKED = 256
PARTS = (1, 8, 16, 32, 64, 128)
WARM = (1, *range(8, 129, 8))
"""Rows in the usual batches, in steps of `training.artifact.steady.ROUNDED`: each prepares the others."""


def checked_collection(store: Store, number: int, device: DeviceName) -> Collection:
    """Open a version with what has changed since, and prepare it.

    Raises:
        StoreError: there is no such version, no room for it, or it does not answers its canary query.
        ArtifactError: it is damaged, or another device finds others than a CPU does.
    """
    folder = store.path(number)
    check_room(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()), available_bytes())
    collection = open_collection(store, number, device)
    version = collection.version
    if not version.answers_canary():
        raise StoreError(
            f"version {number}",
            expected="the known answer to its canary query",
            found="another",
            remedy="Build it again.",
        )
    prepare(collection)
    return collection


def prepare(collection: Collection) -> None:
    """Answer batches of the usual sizes once; then on another device than a CPU, see that it finds the same.

    Raises:
        ArtifactError: it finds others.
    """
    version = collection.version
    with version.encoder.warming():
        for count in WARM:
            collection.searcher.search_rows(np.repeat(version.canary, count, axis=0), 10)
    if version.encoder.device.type != "cpu":
        check_agreement(version, load_encoder(version.sealed.folder / "encoder", "cpu"))


def check_room(needed: int, available: int | None) -> None:
    """Raises StoreError where a version of so many bytes does not fit beside the one that serves."""
    if available is not None and needed > available:
        raise StoreError(
            "memory",
            expected=f"{needed:,} bytes for the version beside the one that serves",
            found=f"{available:,} to be had",
            remedy="Give the service more memory, or start it again with the version promoted.",
        )


def check_agreement(version: Version, reference: Encoder) -> None:
    """Raises ArtifactError where the version's encoder finds others than the reference does on the CPU.

    It is asked in one batch, and in parts of several sizes, which a GPU may answer in another way.
    """
    rows = np.concatenate([version.canary, version.held[:ASKED]])
    parts = [part for part in np.split(rows, np.cumsum(PARTS)) if len(part)]
    wanted, *others = (
        version.index.search(in_metric(latent, version.metric), min(10, len(version.index)))[1]
        for latent in (
            reference.encode(rows),
            version.encoder.encode(rows),
            np.concatenate([version.encoder.encode(part) for part in parts]),
        )
    )
    shared = min(float(recalls(found, wanted).mean()) for found in others)
    if shared < AGREEMENT:
        raise ArtifactError(
            f"version {version.number} on {version.encoder.device}",
            expected=f"{AGREEMENT:.0%} of the neighbours that a CPU finds",
            found=f"{shared:.1%}",
            remedy="Serve it with --device cpu, and look at the device's driver.",
        )

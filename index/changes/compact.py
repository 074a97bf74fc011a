"""Fold what has changed into a new version of the same encoder, while writing goes on.

Nothing is embedded again. The index keeps what it had learned, unless it no longer finds what is asked of it.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import Embeddings, read_embeddings
from lookalike.index.ann.recall import K, RecallBenchmark
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import EVIDENCE, tune
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.retention import prune, reclaim
from lookalike.index.errors import JobError, StoreError, TargetError
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions.alignment import ALIGNMENT, compose, save_maps
from lookalike.index.versions.manifest import Evidence, Lineage, Tuning
from lookalike.index.versions.searching import Base
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import INDEX
from lookalike.index.versions.writer import EmbeddingsWriter, VersionParts, write_version
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ConfigError, LookalikeError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import evenly
from lookalike.training.scheduling import lower_priority
from lookalike.training.sealed import staging

__all__ = ["BUSY", "REFUSED", "compact"]

REFUSED = 2
"""The exit code where a LookalikeError, on standard error, says why."""
BUSY = 75
"""The exit code where another job works on the store: sysexits.h calls it a temporary failure."""
ASKED = 1_000
"""Items that the index is asked with."""
BLOCK = 1 << 14
"""Items that are copied at a time."""

Positions = NDArray[np.int64]


def compact(store: Store, *, device: DeviceName = "cpu", keep: int | None = None) -> int | None:
    """Make a version of the champion and the log as it is now, promote it, and give space of the log back.

    Args:
        keep: how many versions stay then (index.changes.retention); None for all.

    Returns:
        Its number; None where the log has not moved since the champion was made. What was put and deleted again is
        folded in, too: processes let go of it, and the log may.

    Raises:
        StoreError: there is no champion, or every item is deleted, of which no version can be made; or another was
            promoted meanwhile: the new version is there, and does not serve; or the store cannot be written.
        JobError: another job works on the store.
        TargetError, ConfigError: the index misses the target, and no other over what there is now meets it.
    """
    with store.written(), store.job("compact"):
        number = _renew(store, device)
        if keep is None:
            reclaim(store)
        else:
            prune(store, keep)
        return number


def _renew(store: Store, device: DeviceName) -> int | None:
    """Make and promote the new version; return its number, or None as `compact` does."""
    collection = open_collection(store, store.champion_number(), device)
    if collection.applied == collection.version.sequence:
        return None
    if not collection.items.count:
        raise StoreError(f"store {store.folder}", expected="items to make a version of", found="all deleted")
    with staging(store.versions) as folder:
        number = write_version(store, folder, _parts(folder, collection))
    store.promote(number, instead_of=collection.number, renews=True)
    return number


def _parts(folder: Path, collection: Collection) -> VersionParts:
    """Copy encoder, embeddings and items into the new version's folder, and return its other parts."""
    version = collection.version
    before, encoder = version.manifest, version.encoder
    shutil.copytree(version.sealed.folder / "encoder", folder / "encoder")
    save_maps(folder / ALIGNMENT, compose(version.maps, version.number, np.eye(encoder.latent_dim, dtype=np.float32)))
    order, held = _order(collection)
    _copy(folder, collection, order)
    embeddings, items = read_embeddings(folder, version.metric, encoder.latent_dim), read_items(folder)
    late = np.arange(len(order) - len(held), len(order))
    index, evidence, tuning = _index(collection, embeddings, late)
    retraining = before.retraining.model_copy(update={"gate": None}) if before.retraining else None
    return VersionParts(
        encoder,
        Base(index, embeddings, items, collection.items.local_scale_at(order)),
        version.novelty,
        canary=version.canary,
        held=late,
        held_rows=version.held[held],
        data=before.data,
        evidence=evidence,
        tuning=tuning,
        sequence=collection.applied,
        lineage=Lineage(parent=version.number, compacted=True, retraining=retraining),
    )


def _order(collection: Collection) -> tuple[Positions, Positions]:
    """The positions of all items, those last that the index is asked with, as a build has them; and which those are."""
    there = ~collection.items.gone
    wanted = np.array(collection.version.manifest.held, np.int64)
    held = np.flatnonzero(there[wanted])
    there[wanted] = False
    return np.concatenate([np.flatnonzero(there), wanted[held]]), held


def _copy(folder: Path, collection: Collection, order: Positions) -> None:
    """Copy embeddings, ids and payloads in a new order."""
    items, writer = collection.items, ItemWriter(folder, f"version {collection.number}")
    with (
        EmbeddingsWriter(folder, len(order), collection.encoder.latent_dim) as embeddings,
        progress_bar("compacting", len(order), "items") as advance,
    ):
        for start in range(0, len(order), BLOCK):
            some = order[start : start + BLOCK]
            embeddings.write(collection.vectors_at(some))
            places = some.tolist()
            payloads = [json.loads(items.payload_json(place)) for place in places]
            writer.write([items.id_at(place) for place in places], payloads)
            advance(len(some))
    writer.close()


def _index(collection: Collection, embeddings: Embeddings, late: Positions) -> tuple[VectorIndex, Evidence, Tuning]:
    """Return the index over all items: as it was tuned before, if it still meets the target, else a new one.

    Raises:
        TargetError, ConfigError: the old index misses the target, and no other index meets it.
    """
    before = collection.version.manifest
    target = Target(**before.tuning.target.model_dump())
    index = collection.version.index.emptied(collection.version.sealed.folder / INDEX)
    for _, block in embeddings.blocks():
        index.add(block)
    own = late if len(late) else embeddings.sample(ASKED, seed=0)
    measured = RecallBenchmark(embeddings, embeddings.at(own), own).take(index)[0]
    meets = measured.low >= target.recall or not len(late)
    if not meets or _finds_fewer(index, collection):
        try:
            return _tuned(target, embeddings, min(len(late) or ASKED, len(embeddings) // 2))
        except (TargetError, ConfigError):
            if not meets:
                raise
    fields = {**dataclasses.asdict(measured), "bytes": index.bytes}
    evidence = Evidence(**{name: fields[name] for name in ("k", "queries", *EVIDENCE)})
    return index, evidence, before.tuning


def _finds_fewer(index: VectorIndex, collection: Collection) -> bool:
    """Does it find fewer than K, and than the version's own does, of what is gone?

    Where most of what lay near one another is gone, the lists there are nearly empty.
    """
    gone = np.flatnonzero(collection.items.gone)
    asked = collection.vectors_at(gone[evenly(len(gone), ASKED)])
    now, then = ((each.search(asked, K)[1] >= 0).sum(axis=1) for each in (index, collection.version.index))
    return bool((now < np.minimum(then, len(index))).any())


def _tuned(target: Target, embeddings: Embeddings, apart: int) -> tuple[VectorIndex, Evidence, Tuning]:
    """Build another index over all items, tuned with the last `apart` items before they are added."""
    kept = len(embeddings) - apart
    last = embeddings.at(np.arange(kept, len(embeddings)))
    tuned = tune(embeddings.head(kept), last, target, total=len(embeddings))
    tuned.index.add(last)
    return tuned.index, Evidence(**tuned.evidence), Tuning(**tuned.told(target))


def main() -> int:
    """Run `python -m lookalike.index.changes.compact STORE KEEP`, as a service does, at a low priority."""
    lower_priority()
    try:
        compact(Store(Path(sys.argv[1])), keep=int(sys.argv[2]))
    except JobError:
        return BUSY
    except LookalikeError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compaction: the champion and the change log become a new version of the same encoder, while clients write.

Nothing is embedded again. The index keeps its training, unless it misses its target.
"""

import dataclasses
import json
import shutil
import sys
from contextlib import closing
from pathlib import Path

import numpy as np

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.recall import K, RecallBenchmark
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import EVIDENCE, tune
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.item_inputs import copy_inputs
from lookalike.index.changes.log import ChangeLog
from lookalike.index.changes.retention import prune, reclaim
from lookalike.index.errors import JobError, StoreError, TargetError
from lookalike.index.items.previews import PreviewWriter
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions.alignment import ALIGNMENT, compose, save_maps
from lookalike.index.versions.embed import embeddings_file
from lookalike.index.versions.manifest import Evidence, Lineage, Tuning
from lookalike.index.versions.searching import Base
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import INDEX
from lookalike.index.versions.writer import VersionParts, write_version
from lookalike.training.array_types import Positions
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ConfigError, LookalikeError
from lookalike.training.progress import progress_bar
from lookalike.training.rows import evenly
from lookalike.training.scheduling import lower_priority
from lookalike.training.sealed import staging

__all__ = ["BUSY", "REFUSED", "compact"]

REFUSED = 2  # The exit code after a LookalikeError, which is printed to standard error
BUSY = 75  # The exit code if another job works on the store: a temporary failure in sysexits.h
ASKED = 1_000  # Items that the index is measured with
BLOCK = 1 << 14  # Items that are copied at a time


def compact(store: Store, *, device: DeviceName = "cpu", keep: int | None = None) -> int | None:
    """Make a version from the champion and the log, promote it, and shrink the log; return the number of the version.

    Returns None if the log has no changes after the champion's. Items that were put and deleted again are a reason too:
    afterwards services and the log can drop them. `keep` is the number of versions to keep (index.changes.retention);
    None means all.

    Raises:
        StoreError: there is no champion, or every item is deleted, or the store cannot be written; or another version
            was promoted in the meantime: then the new version exists and does not serve.
        JobError: another job works on the store.
        TargetError, ConfigError: the index misses the target, and so does every other index over the current items.
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
        raise StoreError(f"store {store.folder}", expected="items for a new version", found="all deleted")
    with staging(store.versions) as folder:
        parts = _parts(folder, collection, store)
        _copy_previews(store, folder, collection)
        number = write_version(store, folder, parts)
    store.promote(number, instead_of=collection.number, renews=True)
    return number


def _parts(folder: Path, collection: Collection, store: Store) -> VersionParts:
    """Copy encoder, embeddings and items into the new version's folder, and return its other parts."""
    version = collection.version
    before, encoder = version.manifest, version.encoder
    shutil.copytree(version.sealed.folder / "encoder", folder / "encoder")
    save_maps(folder / ALIGNMENT, compose(version.maps, version.number, np.eye(encoder.latent_dim, dtype=np.float32)))
    order, held = _order(collection)
    _copy(folder, collection, order)
    if version.inputs:
        with closing(ChangeLog(store.folder)) as log:
            copy_inputs(folder, collection, order, log)
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
    """Return the positions of all items, the held-out rows last as in a build, and which held-out rows still exist."""
    present = ~collection.items.gone
    held_out = np.array(collection.version.manifest.held, np.int64)
    held = np.flatnonzero(present[held_out])
    present[held_out] = False
    return np.concatenate([np.flatnonzero(present), held_out[held]]), held


def _copy(folder: Path, collection: Collection, order: Positions) -> None:
    """Copy embeddings, ids and payloads in a new order."""
    items, writer = collection.items, ItemWriter(folder, f"version {collection.number}")
    with (
        embeddings_file(folder / EMBEDDINGS, len(order), collection.encoder.latent_dim) as append,
        progress_bar("compacting", len(order), "items") as advance,
    ):
        for start in range(0, len(order), BLOCK):
            some = order[start : start + BLOCK]
            append(collection.vectors_at(some))
            places = some.tolist()
            writer.write(items.ids_at(places), [json.loads(text) for text in items.payloads_json(places)])
            advance(len(some))
    writer.close()


def _copy_previews(store: Store, folder: Path, collection: Collection) -> None:
    """Copy the previews in the new order: of new items from the log. A version without previews stays without."""
    version, items, writer = collection.version, collection.items, PreviewWriter(folder)
    if version.previews is None:
        return
    order, _ = _order(collection)
    with closing(ChangeLog(store.folder)) as log:
        for start in range(0, len(order), BLOCK):
            some = list[bytes]()
            for place in order[start : start + BLOCK].tolist():
                if place < len(version.items):
                    some.append(version.previews.at(place))
                else:
                    change = log.find(items.id_at(place), collection.applied)
                    some.append((change.preview if change else None) or b"")
            writer.write(len(some), some)
    writer.close()


def _index(collection: Collection, embeddings: Embeddings, late: Positions) -> tuple[VectorIndex, Evidence, Tuning]:
    """Return the index over all items: tuned as before, if it still meets the target, else a new one.

    Raises TargetError or ConfigError if the old index misses the target, and no other index meets it.
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
    """Whether a search near some deleted item finds fewer than K items, and fewer than the version's index finds.

    If most items of a region are deleted, the lists of that region are nearly empty.
    """
    deleted = np.flatnonzero(collection.items.gone)
    queries = collection.vectors_at(deleted[evenly(len(deleted), ASKED)])
    new, old = ((each.search(queries, K)[1] >= 0).sum(axis=1) for each in (index, collection.version.index))
    return bool((new < np.minimum(old, len(index))).any())


def _tuned(target: Target, embeddings: Embeddings, apart: int) -> tuple[VectorIndex, Evidence, Tuning]:
    """Build a new index over all items, tuned with the last `apart` items before they are added."""
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

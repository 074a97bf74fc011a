"""Fold what has changed into a new version of the same encoder, while writing goes on.

Nothing is embedded again. The index keeps what it had learned, unless it no longer finds what is asked of it.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lookalike.index.ann.embeddings import EMBEDDINGS, Embeddings, read_embeddings
from lookalike.index.ann.recall import K, RecallBenchmark
from lookalike.index.ann.target import Target
from lookalike.index.ann.tune import EVIDENCE, tune
from lookalike.index.ann.vectors import VectorIndex
from lookalike.index.changes.collection import Collection, open_collection
from lookalike.index.changes.retention import prune, reclaim
from lookalike.index.errors import JobError, StoreError, TargetError
from lookalike.index.items.table import ItemWriter, read_items
from lookalike.index.versions.alignment import ALIGNMENT, compose, save_maps
from lookalike.index.versions.novelty import NEIGHBOURS
from lookalike.index.versions.searching import Searcher
from lookalike.index.versions.store import Store
from lookalike.index.versions.version import CANARY, CANARY_LIMIT, HELD, INDEX, LOCAL_SCALE, NOVELTY, canary_answer
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
    """Make and promote the new version; returns its number, or None as `compact` does."""
    collection = open_collection(store, store.champion_number(), device)
    if collection.applied == collection.version.sequence:
        return None
    if not collection.items.count:
        raise StoreError(f"store {store.folder}", expected="items to make a version of", found="all deleted")
    with staging(store.versions) as folder:
        number = store.publish(folder, _write(folder, collection))
    store.promote(number, instead_of=collection.number, renews=True)
    return number


def _write(folder: Path, collection: Collection) -> dict[str, Any]:
    """All files of the new version but its manifest, whose header it returns."""
    version = collection.version
    before = {name: told for name, told in version.manifest.items() if name not in ("format", "version", "gate")}
    shutil.copytree(version.sealed.folder / "encoder", folder / "encoder")
    shutil.copy(version.sealed.folder / CANARY, folder / CANARY)
    shutil.copy(version.sealed.folder / NOVELTY, folder / NOVELTY)
    same = np.eye(version.encoder.latent_dim, dtype=np.float32)
    save_maps(folder / ALIGNMENT, compose(version.maps, version.number, same))
    order, held = _order(collection)
    np.save(folder / HELD, version.held[held])
    np.save(folder / LOCAL_SCALE, collection.items.local_scale(order))
    _copy(folder, collection, order)
    embeddings, items = read_embeddings(folder, version.metric, version.encoder.latent_dim), read_items(folder)
    late = np.arange(len(order) - len(held), len(order))
    index, measured = _index(collection, embeddings, late)
    index.write(folder / INDEX)
    asked = version.embed(version.canary)
    scores, positions = Searcher(index, embeddings, items).search(asked, NEIGHBOURS)  # as Version.search will
    return {
        **before,
        **measured,
        "index": dataclasses.asdict(index.spec),
        "items": len(order),
        "held": late.tolist(),
        "answer": canary_answer(items, scores[0, :CANARY_LIMIT], positions[0, :CANARY_LIMIT]),
        "sequence": collection.applied,
        "parent": collection.number,
        "compacted": True,
    }


def _order(collection: Collection) -> tuple[Positions, Positions]:
    """The positions of all items, those last that the index is asked with, as a build has them; and which those are."""
    there = ~collection.items.gone
    wanted = np.array(collection.version.manifest["held"], np.int64)
    held = np.flatnonzero(there[wanted])
    there[wanted] = False
    return np.concatenate([np.flatnonzero(there), wanted[held]]), held


def _copy(folder: Path, collection: Collection, order: Positions) -> None:
    """Embeddings, ids and payloads."""
    items, writer = collection.items, ItemWriter(folder, f"version {collection.number}")
    shape = (len(order), collection.encoder.latent_dim)
    with (
        (folder / EMBEDDINGS).open("wb") as file,
        progress_bar("compacting", len(order), "items") as advance,
    ):
        npy.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<f4"})
        for start in range(0, len(order), BLOCK):
            some = order[start : start + BLOCK]
            file.write(collection.embeddings.at(some).tobytes())
            places = some.tolist()
            payloads = [json.loads(items.payload_json(place)) for place in places]
            writer.write([items.id_at(place) for place in places], payloads)
            advance(len(some))
    writer.close()


def _index(collection: Collection, embeddings: Embeddings, late: Positions) -> tuple[VectorIndex, dict[str, Any]]:
    """The index over all, and what is known of it: as it was tuned before, if it still finds what is asked of it.

    Raises:
        TargetError, ConfigError: it misses the target, and no index over these meets it.
    """
    before = collection.version.manifest
    target = Target(**before["tuning"]["target"])
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
    told = {**dataclasses.asdict(measured), "bytes": index.bytes}
    return index, {"evidence": {name: told[name] for name in ("k", "queries", *EVIDENCE)}}


def _finds_fewer(index: VectorIndex, collection: Collection) -> bool:
    """Does it find fewer than K, and than the version's own does, of what is gone?

    Where most of what lay near one another is gone, the lists there are nearly empty.
    """
    gone = np.flatnonzero(collection.items.gone)
    asked = collection.embeddings.at(gone[evenly(len(gone), ASKED)])
    now, then = ((each.search(asked, K)[1] >= 0).sum(axis=1) for each in (index, collection.version.index))
    return bool((now < np.minimum(then, len(index))).any())


def _tuned(target: Target, embeddings: Embeddings, apart: int) -> tuple[VectorIndex, dict[str, Any]]:
    """Another index over all, tuned with the last `apart` of them before it held those; and what is known of it."""
    kept = len(embeddings) - apart
    last = embeddings.at(np.arange(kept, len(embeddings)))
    tuned = tune(embeddings.head(kept), last, target, total=len(embeddings))
    tuned.index.add(last)
    return tuned.index, {"evidence": tuned.evidence, "tuning": tuned.told(target)}


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

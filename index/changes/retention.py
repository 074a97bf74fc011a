"""Which versions and which changes of the change log are kept.

`prune` keeps the N newest versions, the champion, the N versions to which `rollback` goes first, and the N nearest
ancestors of the champion. A compacted version and its compaction count as one, among the newest and for `rollback`: so
the last N encoders stay available. A version can be opened without all others: its folder contains what it needs of its
ancestors, the maps from their embeddings.

The change log keeps the last change of each id, which every version replays. For a retraining it also keeps the last
change of each id up to the change to which a kept version was trained, and up to the change to which an interrupted
retraining reads. All other changes are superseded, and are dropped.
"""

import json
from contextlib import closing
from dataclasses import dataclass

from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.store import Store
from lookalike.training.errors import ConfigError

__all__ = ["JOB", "PruneResult", "prune", "reclaim"]

JOB = "retraining/job.json"
"""The file in the store that describes an interrupted retraining (lookalike.retraining.job)."""


@dataclass(frozen=True)
class PruneResult:
    """The versions that were kept and removed, rising, and the number of changes that were dropped."""

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    changes: int


def prune(store: Store, keep: int, *, dry_run: bool = False) -> PruneResult:
    """Remove older versions, durably, then `reclaim`; a dry run only returns which versions.

    The versions are removed first, because on a full disk their space lets the log be changed. Raises ConfigError if
    `keep` is less than 1, and StoreError or LogError if the alias or the log cannot be written; what was removed before
    stays removed. Raises ArtifactError if the manifest of a kept version is damaged; then the log does not change.
    """
    if keep < 1:
        raise ConfigError("--keep", expected="1 at least", found=str(keep))
    numbers = store.numbers()
    kept = _newest(store, numbers, keep) | _origins(store, keep)
    removed = tuple(number for number in numbers if number not in kept)
    if dry_run:
        return PruneResult(tuple(number for number in numbers if number in kept), removed, 0)
    store.remove(removed)
    return PruneResult(tuple(store.numbers()), removed, reclaim(store))


def reclaim(store: Store) -> int:
    """Drop the superseded changes of the log, and shrink its file; return how many changes were dropped.

    Raises LogError if the log cannot be written; what was dropped before stays dropped. Raises ArtifactError if a
    manifest is damaged; then nothing was dropped.
    """
    trained = {store.manifest(number).trained_to for number in store.numbers()}
    with closing(ChangeLog(store.folder)) as log:
        return log.prune(trained | _interrupted(store))


def _newest(store: Store, numbers: list[int], keep: int) -> set[int]:
    """Return the last `keep` of the versions that were not compacted."""
    manifests = map(store.readable_manifest, numbers)
    compacted = {manifest.parent for manifest in manifests if manifest and manifest.compacted}
    return set([number for number in numbers if number not in compacted][-keep:])


def _origins(store: Store, keep: int) -> set[int]:
    """Return the champion, the versions that it replaced, and its ancestors, `keep` of each."""
    alias = store.champion()
    if alias is None:
        return set()
    kept, number = {alias.version, *store.reached(alias)[-keep:]}, alias.version
    for _ in range(keep):
        manifest = store.readable_manifest(number)
        if manifest is None or manifest.parent is None:
            break
        number = manifest.parent
        kept.add(number)
    return kept


def _interrupted(store: Store) -> set[int]:
    """Return the change up to which an interrupted retraining reads; empty if there is no such retraining."""
    try:
        return {int(json.loads((store.folder / JOB).read_bytes())["sequence"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return set()

"""Which versions stay: the newest, and those that the champion stands on.

Kept are the N newest by number, the champion, the N that `rollback` reaches first, and the champion's N nearest
ancestors, of which its items and its encoder came. What a compaction was made of counts as one with it, among the
newest and for `rollback`: so the last N encoders stay in reach. A version needs no other one to be opened: its folder
has what it needs of its ancestors, the maps from their embeddings.

Of the change log, the last change of each id stays: every version replays these. A retraining needs more: the last
change of each id up to the change to which a kept version was trained, and up to the change to which an interrupted
retraining reads. All other changes are superseded, and dropped.
"""

import json
from contextlib import closing
from dataclasses import dataclass

from lookalike.index.changes.log import ChangeLog
from lookalike.index.versions.manifest import VersionManifest
from lookalike.index.versions.store import Store
from lookalike.training.errors import ArtifactError, ConfigError

__all__ = ["JOB", "PruneResult", "prune", "reclaim"]

JOB = "retraining/job.json"
"""In the store: what a retraining was begun with, and its sequence (lookalike.retraining.job)."""


@dataclass(frozen=True)
class PruneResult:
    """The versions that stayed and those that were removed, rising, and how many changes of the log were dropped."""

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    changes: int


def prune(store: Store, keep: int, *, dry_run: bool = False) -> PruneResult:
    """Remove older versions, durably, then `reclaim`; a dry run only says which versions.

    In this order, because on a full disk the versions make room for the log's steps.

    Raises:
        ConfigError: `keep` is not 1 at least.
        StoreError, LogError: the alias or the log cannot be written; what was removed by then is gone.
        ArtifactError: a manifest that is to be kept is damaged; nothing was removed from the log.
    """
    if keep < 1:
        raise ConfigError("--keep", expected="1 at least", found=str(keep))
    numbers = store.numbers()
    kept = set(_newest(store, numbers, keep)) | _stood_on(store, keep)
    removed = [number for number in numbers if number not in kept]
    if dry_run:
        return PruneResult(tuple(n for n in numbers if n in kept), tuple(removed), 0)
    store.remove(removed)
    return PruneResult(tuple(store.numbers()), tuple(removed), reclaim(store))


def reclaim(store: Store) -> int:
    """Drop the superseded changes of the log, and give their space back; returns how many were dropped.

    Raises:
        LogError: the log cannot be written; what was dropped by then is gone.
        ArtifactError: a manifest is damaged; nothing was dropped.
    """
    trained = {store.manifest(number).trained_to for number in store.numbers()}
    with closing(ChangeLog(store.folder)) as log:
        return log.prune(trained | _cut_off(store))


def _newest(store: Store, numbers: list[int], keep: int) -> list[int]:
    """Return the last `keep` of the versions that no compaction was made of."""
    manifests = [_manifest(store, number) for number in numbers]
    renewed = {manifest.parent for manifest in manifests if manifest and manifest.compacted}
    return [number for number in numbers if number not in renewed][-keep:]


def _stood_on(store: Store, keep: int) -> set[int]:
    """Return the champion, the versions that it replaced, and the versions that it was made from."""
    alias = store.champion()
    if alias is None:
        return set()
    chain = {alias.version, *store.reached(alias)[-keep:]}
    number: int | None = alias.version
    for _ in range(keep):
        manifest = _manifest(store, number) if number is not None else None
        number = manifest.parent if manifest else None
        chain |= {number} if number is not None else set()
    return chain


def _manifest(store: Store, number: int) -> VersionManifest | None:
    """Return None for a version that was removed, or whose manifest is damaged: it has no parent to keep."""
    try:
        return store.manifest(number) if number in store.numbers() else None
    except ArtifactError:
        return None


def _cut_off(store: Store) -> set[int]:
    """The change up to which an interrupted retraining reads when it continues; none if there is no such retraining."""
    try:
        return {int(json.loads((store.folder / JOB).read_bytes())["sequence"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return set()

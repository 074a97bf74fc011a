"""Which versions stay: the newest, and those that the champion stands on.

Kept are the N newest by number, the champion, the N that `rollback` reaches first, and the champion's N nearest
ancestors, of which its items and its encoder came. What a compaction was made of counts as one with it, among the
newest and for `rollback`: so the last N encoders stay in reach. A version needs no other one to be opened: what it has
of its ancestors, the maps from their embeddings, lies in its own folder. Of the log, what no version that is kept could
be asked for is dropped: changes that a later one took the place of, before the oldest of them was made.
"""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from index.log import ItemLog
from index.store import Store
from training.errors import ArtifactError, ConfigError

__all__ = ["Pruned", "prune"]


@dataclass(frozen=True)
class Pruned:
    """The versions that stayed and those that went, rising, and how many changes went from the log."""

    kept: tuple[int, ...]
    removed: tuple[int, ...]
    changes: int


def prune(store: Store, keep: int, *, dry_run: bool = False) -> Pruned:
    """Remove older versions, durably, and what the log has for them alone; a dry run only says which versions.

    The versions first: on a full disk that makes room for the rest.

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
        return Pruned(tuple(n for n in numbers if n in kept), tuple(removed), 0)
    store.remove(removed)
    left = store.numbers()
    with closing(ItemLog(store.folder)) as log:
        dropped = log.prune(_oldest(store, left)) if left else 0
    return Pruned(tuple(left), tuple(removed), dropped)


def _newest(store: Store, numbers: list[int], keep: int) -> list[int]:
    """The last of those that no compaction was made of."""
    headers = [_header(store, number) for number in numbers]
    renewed = {header["parent"] for header in headers if header.get("compacted")}
    return [number for number in numbers if number not in renewed][-keep:]


def _stood_on(store: Store, keep: int) -> set[int]:
    """The champion, what it replaced, and what it was made from."""
    alias = store.champion()
    if alias is None:
        return set()
    there = set(store.numbers())
    chain = {alias.version, *[number for number in alias.replaced if number in there][-keep:]}
    number: int | None = alias.version
    for _ in range(keep):
        number = _header(store, number).get("parent") if number is not None else None
        chain |= {number} if number is not None else set()
    return chain


def _header(store: Store, number: int) -> dict[str, Any]:
    """Nothing of a version that is gone, or whose manifest is damaged: it has no parent to keep."""
    try:
        return store.manifest(number) if number in store.numbers() else {}
    except ArtifactError:
        return {}


def _oldest(store: Store, numbers: list[int]) -> int:
    """Up to which change nobody asks for what was replaced: a version replays what came after it was made, and a
    retraining wants what the encoder was trained on."""
    headers = [store.manifest(number) for number in numbers]
    made = [int(header["sequence"]) for header in headers]
    trained = [int(header["trained_to"]) for header in headers if header.get("trained_to")]
    return min(made + trained)

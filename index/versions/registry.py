"""The versions of a store, each with its role, its origin, and the version that it replaced."""

from dataclasses import dataclass

from lookalike.index.errors import StoreError
from lookalike.index.versions.manifest import VersionManifest
from lookalike.index.versions.store import Store

__all__ = ["CHALLENGER", "CHAMPION", "VersionSummary", "registry"]

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class VersionSummary:
    """A version of a store.

    Attributes:
        role: "champion" for the serving version; "challenger" for the newest version that a retraining made and that
            does not serve and was never replaced or compacted; else empty.
        replaced: the version that this one replaced as the champion, as far back as rollback reaches.
        manifest: None if it is damaged.
    """

    number: int
    role: str
    replaced: int | None
    manifest: VersionManifest | None

    @property
    def created_by(self) -> str:
        """How the version was made, and from which other version."""
        if self.manifest is None:
            return ""
        lineage = self.manifest.lineage
        if lineage is None:
            return "build"
        if lineage.compacted or lineage.retraining is None:
            return f"compact {lineage.parent}"
        return f"retrain {lineage.parent}" + (", forced" if lineage.retraining.forced else "")


def registry(store: Store) -> list[VersionSummary]:
    """Return all versions, ordered by number. Raises StoreError if there is no store."""
    if not store.folder.is_dir():
        raise StoreError("store", expected="a folder with versions", found=f"none at {store.folder}")
    chain = store.served()
    replaced = dict(zip(chain[1:], chain, strict=False))
    manifests = {number: store.readable_manifest(number) for number in store.numbers()}
    served = {*chain, *(manifest.parent for manifest in manifests.values() if manifest and manifest.compacted)}
    retrained = {number for number, known in manifests.items() if known and known.retraining and not known.compacted}
    roles = dict.fromkeys(sorted(retrained - served)[-1:], CHALLENGER) | dict.fromkeys(chain[-1:], CHAMPION)
    return [
        VersionSummary(number, roles.get(number, ""), replaced.get(number), manifest)
        for number, manifest in manifests.items()
    ]

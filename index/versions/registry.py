"""The versions of a store, each with its role, where it came from, and what it replaced."""

from dataclasses import dataclass
from typing import Any

from lookalike.index.errors import StoreError
from lookalike.index.versions.store import Store
from lookalike.training.errors import ArtifactError

__all__ = ["CHALLENGER", "CHAMPION", "VersionSummary", "registry"]

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class VersionSummary:
    """One version.

    Attributes:
        role: "champion" serves; "challenger" is the newest that a retraining made and that does not serve, nor was
            replaced or compacted; else empty.
        replaced: the version in whose place it was promoted, as far back as rollback goes.
        header: its manifest; None where that is damaged.
    """

    number: int
    role: str
    replaced: int | None
    header: dict[str, Any] | None

    @property
    def came(self) -> str:
        """How it was made, and of which version."""
        header = self.header or {}
        parent = header.get("parent")
        if header.get("compacted"):
            return f"compact {parent}"
        if "retrained" in header:
            return f"retrain {parent}" + (", forced" if header["forced"] else "")
        return "build" if header else ""


def registry(store: Store) -> list[VersionSummary]:
    """All versions, by number.

    Raises:
        StoreError: there is no store.
    """
    if not store.folder.is_dir():
        raise StoreError("store", expected="a folder with versions", found=f"none at {store.folder}")
    alias = store.champion()
    chain = [*alias.replaced, alias.version] if alias else []
    replaced = dict(zip(chain[1:], chain, strict=False))
    headers = {number: _header(store, number) for number in store.numbers()}
    served = {*chain, *(header["parent"] for header in headers.values() if header and header.get("compacted"))}
    made = [
        number
        for number, header in headers.items()
        if header and "retrained" in header and not header["compacted"] and number not in served
    ]
    roles = dict.fromkeys(made[-1:], CHALLENGER) | ({alias.version: CHAMPION} if alias else {})
    return [
        VersionSummary(number, roles.get(number, ""), replaced.get(number), header)
        for number, header in headers.items()
    ]


def _header(store: Store, number: int) -> dict[str, Any] | None:
    try:
        return store.manifest(number)
    except ArtifactError:
        return None

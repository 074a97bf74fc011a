"""The store: versions by number, and the alias `champion` that names the serving one.

STORE/versions/000001/   a version (index.versions.version), immutable
STORE/champion           {"version": 1, "replaced": []}, replaced atomically; a compaction takes its parent's place
STORE/verified/000001    which files of it were verified, and have not changed since (training.sealed)
STORE/building/          what an interrupted build had embedded (index.versions.embedding_cache)
STORE/items.db           what was put and deleted since (index.changes.log)
STORE/.lock              held while a version is numbered or the alias is changed
STORE/.job               held while a job makes a version of the champion: compacting, retraining
"""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookalike.index.errors import JobError, StoreError
from lookalike.index.versions.manifest import FORMAT, VersionManifest, read_version
from lookalike.training.choices import DeviceName
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import discard, locked, publish, replacing, seal, sync_folder

if TYPE_CHECKING:
    from lookalike.index.versions.version import Version

__all__ = ["Alias", "Store"]


@dataclass(frozen=True)
class Alias:
    """The serving version, and those it replaced, oldest first; a compaction stands in its parent's place."""

    version: int
    replaced: tuple[int, ...] = ()


class Store:
    """A folder of versions. Readers need no lock: versions never change and the alias is renamed into place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "versions"

    def numbers(self) -> list[int]:
        """The versions there are, rising."""
        if not self.versions.is_dir():
            return []
        return sorted(int(p.name) for p in self.versions.iterdir() if re.fullmatch(r"\d{6,}", p.name))

    def path(self, number: int) -> Path:
        """The folder of a version.

        Raises:
            StoreError: there is no such version.
        """
        if number not in self.numbers():
            raise StoreError(
                "version", expected=f"one that {self.folder} holds: {self.numbers() or 'none yet'}", found=str(number)
            )
        return self.versions / f"{number:06d}"

    def manifest(self, number: int) -> VersionManifest:
        """Return the manifest of a version; its files are not read.

        Raises:
            StoreError: there is no such version.
            ArtifactError: the manifest is damaged.
        """
        return read_version(self.path(number))

    def open(self, number: int, device: DeviceName = "cpu") -> "Version":
        """Verify and open a version; files that were verified before and have not changed since are not read again."""
        from lookalike.index.versions.version import (
            open_version,  # loads torch and FAISS, which `lookalike versions` does not need
        )

        return open_version(self.path(number), device, self._receipt(number))

    def open_champion(self, device: DeviceName = "cpu") -> "Version":
        """Verify and open the serving version.

        Raises:
            StoreError: none was promoted yet.
        """
        return self.open(self.champion_number(), device)

    def champion(self) -> Alias | None:
        """The alias, or None where nothing was promoted yet."""
        path = self.folder / "champion"
        try:
            text = json.loads(path.read_bytes())
            return Alias(int(text["version"]), tuple(int(n) for n in text["replaced"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ArtifactError(
                str(path),
                expected='{"version": N, "replaced": [...]}',
                found="something else",
                remedy="Promote a version again after removing it.",
            ) from error

    def champion_number(self) -> int:
        """The serving version's number.

        Raises:
            StoreError: none was promoted yet.
        """
        return self._require_champion().version

    def alias_stamp(self) -> tuple[int, ...]:
        """Changes whenever the alias is written: it costs a look at the folder, not at the file."""
        try:
            state = (self.folder / "champion").stat()
        except OSError:  # whoever reads it then says what is wrong
            return ()
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def publish(self, staged: Path, **fields: Any) -> int:
        """Number a staged version, seal it with its manifest, and put it in place; return its number.

        Args:
            fields: those of VersionManifest but for format and version.

        Raises:
            StoreError: the store cannot be written.
        """
        with self.written(), self._locked():
            number = max([0, *self.numbers(), *self._named()]) + 1
            manifest = VersionManifest(format=FORMAT, version=number, **fields)
            seal(staged, FORMAT, {name: value for name, value in manifest.to_json().items() if name != "format"})
            publish(staged, self.versions / f"{number:06d}")
            return number

    def promote(self, number: int, *, instead_of: int | None = None, renews: bool = False) -> Alias:
        """Make a version the champion, after reading all of it and asking it its canary query.

        Args:
            instead_of: the champion that it may replace; None for any.
            renews: it is that champion with what has changed folded in, to which nobody goes back: `rollback` goes to
                what that one had replaced.

        Raises:
            StoreError: no such version, or it does not answers its canary query, or another one is the champion, or the
                store cannot be written.
            ArtifactError: it is damaged. The champion stays what it was.
        """
        with self.written():
            self._verify(number)
            return self._promoted(number, instead_of, renews)

    def _promoted(self, number: int, instead_of: int | None, renews: bool) -> Alias:
        with self._locked():
            before = self.champion()
            if before and before.version == number:
                sync_folder(self.folder)  # whoever made it so may have failed at this
                return before
            self.path(number)  # it may have been removed meanwhile
            if before and instead_of not in (None, before.version):
                raise StoreError(
                    f"version {number}",
                    expected=f"version {instead_of} for a champion, of which it was made",
                    found=f"version {before.version}",
                    remedy="Promote it yourself, if it shall serve.",
                )
            chain = (*before.replaced, before.version) if before else ()
            return self._write(Alias(number, chain[:-1] if renews else chain))

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Around what writes to the store.

        Raises:
            StoreError: the system refuses: a full disk, say.
        """
        try:
            yield
        except OSError as error:
            raise StoreError(
                str(error.filename or self.folder),
                expected="a store that can be written",
                found=error.strerror or str(error)[:200],
                remedy="Make room, and see that the store can be written.",
            ) from error

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Work on the store alone; where the process dies, the kernel lets go.

        Raises:
            JobError: another job does.
        """
        lock = self.folder / ".job"
        if not self.folder.is_dir():
            raise StoreError("store", expected="a folder with versions", found=f"none at {self.folder}")
        lock.touch()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(lock, wait=False))
            except BlockingIOError:
                told = lock.read_text()[:80] or "another"
                remedy = "Wait until it is done."
                raise JobError(f"store {self.folder}", expected="no job at work", found=told, remedy=remedy) from None
            with contextlib.suppress(OSError):  # on a full disk, where prune must still run
                lock.write_text(f"{name}, process {os.getpid()}")
            yield

    def rollback(self) -> Alias:
        """Bring back the version that the champion, or what it was compacted from, replaced; verified as for `promote`.

        Raises:
            StoreError: the champion replaced none, or that one does not answers its canary query.
            ArtifactError: that one is damaged. The champion stays what it was.
        """
        self._require_champion()  # before the lock, which would need a store to lie in
        with self.written(), self._locked():
            alias = self._require_champion()
            replaced = self.reached(alias)
            if not replaced:
                raise StoreError(
                    f"store {self.folder}", expected="a champion that replaced another", found="none to go back to"
                )
            self._verify(replaced[-1])
            return self._write(Alias(replaced[-1], replaced[:-1]))

    def reached(self, alias: Alias) -> tuple[int, ...]:
        """The replaced versions that are still there, which `rollback` can reach."""
        there = self.numbers()
        return tuple(number for number in alias.replaced if number in there)

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove versions, but not the champion; it cannot be rolled back to them. A crash leaves each whole or gone.

        Processes that have one of them open go on with it: its files are there until they let go. The alias is written
        last, because a full disk may have no room for it before.
        """
        with self._locked():
            alias = self.champion()
            there = set(self.numbers()) - ({alias.version} if alias else set())
            for number in there.intersection(numbers):
                discard(self.path(number))
                self._receipt(number).unlink(missing_ok=True)
            left = self.reached(alias) if alias else ()
            if alias and left != alias.replaced:
                self._write(Alias(alias.version, left))

    def _require_champion(self) -> Alias:
        alias = self.champion()
        if alias is None:
            raise StoreError(
                f"store {self.folder}",
                expected="a promoted version",
                found="none",
                remedy="Build one with `lookalike build`, then `lookalike promote N`.",
            )
        return alias

    def _verify(self, number: int) -> None:
        self._receipt(number).unlink(missing_ok=True)
        if not self.open(number).answers_canary():
            raise StoreError(
                f"version {number}",
                expected="the known answer to its canary query",
                found="another",
                remedy="Build it again.",
            )

    def _receipt(self, number: int) -> Path:
        return self.folder / "verified" / f"{number:06d}"

    def _named(self) -> list[int]:
        """The numbers that the alias knows, also of versions that were removed since: none is given twice."""
        alias = self.champion()
        return [alias.version, *alias.replaced] if alias else []

    def _write(self, alias: Alias) -> Alias:
        text = json.dumps({"version": alias.version, "replaced": list(alias.replaced)})
        try:
            with replacing(self.folder / "champion") as new:
                new.write_text(text)
        except OSError as error:
            if self.champion() != alias:
                raise
            raise StoreError(
                f"store {self.folder}",
                expected=f"a disk that keeps version {alias.version} as the champion",
                found=f"{error.strerror}; it is the champion now, and may not be after a power cut",
                remedy=f"See that the store can be written, then promote version {alias.version} again.",
            ) from error
        return alias

    def _locked(self) -> AbstractContextManager[None]:
        """One writer at a time."""
        lock = self.folder / ".lock"
        lock.touch()
        return locked(lock)

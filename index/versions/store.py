"""The store: versions by number, and the alias `champion` that names the serving one.

STORE/versions/000001/   a version (index.versions.version), immutable
STORE/champion           {"version": 1, "replaced": []}, replaced atomically
STORE/verified/000001    which of its files were verified and have not changed since (training.sealed)
STORE/building/          the embeddings of an interrupted build (index.versions.embedding_cache)
STORE/items.db           the change log (index.changes.log)
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
    """The serving version, and the versions that it replaced, oldest first. A compaction takes its parent's place."""

    version: int
    replaced: tuple[int, ...] = ()


class Store:
    """A folder of versions. Readers need no lock: versions never change and the alias is renamed into place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = folder / "versions"

    def numbers(self) -> list[int]:
        """Return the numbers of all versions, rising."""
        if not self.versions.is_dir():
            return []
        return sorted(int(p.name) for p in self.versions.iterdir() if re.fullmatch(r"\d{6,}", p.name))

    def path(self, number: int) -> Path:
        """Return the folder of a version. Raises StoreError if there is no such version."""
        if number not in self.numbers():
            expected = f"a version in {self.folder}: {self.numbers() or 'none yet'}"
            raise StoreError("version", expected=expected, found=str(number))
        return self.versions / f"{number:06d}"

    def manifest(self, number: int) -> VersionManifest:
        """Return the manifest of a version; its files are not read.

        Raises StoreError if there is no such version, and ArtifactError if the manifest is damaged.
        """
        return read_version(self.path(number))

    def readable_manifest(self, number: int) -> VersionManifest | None:
        """Return the manifest of a version; None if the version was removed or its manifest is damaged."""
        try:
            return self.manifest(number)
        except (ArtifactError, StoreError):
            return None

    def open(self, number: int, device: DeviceName = "cpu") -> "Version":
        """Verify and open a version; files that were verified before and have not changed since are not read again."""
        # Loads torch and FAISS, which `lookalike versions` does not need.
        from lookalike.index.versions.version import open_version

        return open_version(self.path(number), device, self._receipt(number))

    def open_champion(self, device: DeviceName = "cpu") -> "Version":
        """Verify and open the serving version. Raises StoreError if none was promoted yet."""
        return self.open(self.champion_number(), device)

    def champion(self) -> Alias | None:
        """Return the alias; None if nothing was promoted yet."""
        path = self.folder / "champion"
        try:
            text = json.loads(path.read_bytes())
            return Alias(int(text["version"]), tuple(int(n) for n in text["replaced"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            expected, remedy = '{"version": N, "replaced": [...]}', "Remove it, then promote a version again."
            raise ArtifactError(str(path), expected=expected, found="a damaged file", remedy=remedy) from error

    def champion_number(self) -> int:
        """Return the number of the serving version. Raises StoreError if none was promoted yet."""
        return self._require_champion().version

    def served(self) -> tuple[int, ...]:
        """Return the versions that the champion replaced, oldest first, and the champion; also removed versions."""
        alias = self.champion()
        return (*alias.replaced, alias.version) if alias else ()

    def alias_stamp(self) -> tuple[int, ...]:
        """Return a value that changes whenever the alias is written; the file is not read. Empty if there is none."""
        try:
            state = (self.folder / "champion").stat()
        except OSError:  # `champion` reports what is wrong
            return ()
        return (state.st_ino, state.st_mtime_ns, state.st_size)

    def publish(self, staged: Path, **fields: Any) -> int:
        """Number a staged version, seal it with its manifest, and put it in place; return its number.

        `fields` are those of VersionManifest except format and version. Raises StoreError if the disk refuses a write.
        """
        with self.written(), self._locked():
            number = max([0, *self.numbers(), *self.served()]) + 1  # no number of a removed version is used twice
            manifest = VersionManifest(format=FORMAT, version=number, **fields)
            seal(staged, FORMAT, {name: value for name, value in manifest.to_json().items() if name != "format"})
            publish(staged, self.versions / f"{number:06d}")
            return number

    def promote(self, number: int, *, instead_of: int | None = None, renews: bool = False) -> Alias:
        """Make a version the champion, after verifying all its files and its canary query.

        It may replace only the champion `instead_of`; None means any. `renews`: the version is a compaction of that
        champion, and `rollback` skips the champion, to the version that the champion replaced.

        Raises:
            StoreError: no such version, or it does not answer its canary query, or another version is the champion, or
                the store cannot be written.
            ArtifactError: the version is damaged. The champion does not change.
        """
        with self.written():
            self._verify(number)
            return self._promoted(number, instead_of, renews)

    def _promoted(self, number: int, instead_of: int | None, renews: bool) -> Alias:
        with self._locked():
            before = self.champion()
            if before and before.version == number:
                sync_folder(self.folder)  # the process that promoted it may have failed here
                return before
            self.path(number)  # the version may have been removed in the meantime
            if before and instead_of not in (None, before.version):
                found, remedy = f"version {before.version}", "Promote it yourself if it is to serve."
                expected = f"version {instead_of}, from which it was made, as the champion"
                raise StoreError(f"version {number}", expected=expected, found=found, remedy=remedy)
            return self._write(Alias(number, self.served()[:-1] if renews else self.served()))

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Raise a StoreError if the system refuses a write to the store, for example on a full disk."""
        try:
            yield
        except OSError as error:
            place, found = str(error.filename or self.folder), error.strerror or str(error)[:200]
            remedy = "Free disk space, and check that the store can be written."
            raise StoreError(place, expected="a store that can be written", found=found, remedy=remedy) from error

    @contextlib.contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Hold the job lock of the store; the kernel releases it if the process dies.

        Raises JobError if another job holds it.
        """
        lock = self.folder / ".job"
        if not self.folder.is_dir():
            raise StoreError("store", expected="a folder with versions", found=f"none at {self.folder}")
        lock.touch()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(lock, wait=False))
            except BlockingIOError:
                holder = lock.read_text()[:80] or "another job"
                remedy = "Wait until it is done."
                raise JobError(f"store {self.folder}", expected="no job at work", found=holder, remedy=remedy) from None
            with contextlib.suppress(OSError):  # prune must run on a full disk too
                lock.write_text(f"{name}, process {os.getpid()}")
            yield

    def rollback(self) -> Alias:
        """Promote the version again that the champion replaced; it is verified as in `promote`.

        Raises StoreError if the champion replaced no version, or that version does not answer its canary query, and
        ArtifactError if it is damaged. Then the champion does not change.
        """
        self._require_champion()  # before the lock, which needs the folder of the store
        with self.written(), self._locked():
            alias = self._require_champion()
            replaced = self.reached(alias)
            if not replaced:
                found = "no version to go back to"
                raise StoreError(f"store {self.folder}", expected="a champion that replaced a version", found=found)
            self._verify(replaced[-1])
            return self._write(Alias(replaced[-1], replaced[:-1]))

    def reached(self, alias: Alias) -> tuple[int, ...]:
        """Return the replaced versions that still exist, to which `rollback` can go."""
        present = self.numbers()
        return tuple(number for number in alias.replaced if number in present)

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove versions, but never the champion. A crash leaves each version whole or removed.

        A process that has a removed version open can still use it: the system deletes its files when they are closed.
        The alias is written last, because a full disk may have no room for it before.
        """
        with self._locked():
            alias = self.champion()
            removable = set(self.numbers()) - ({alias.version} if alias else set())
            for number in removable.intersection(numbers):
                discard(self.path(number))
                self._receipt(number).unlink(missing_ok=True)
            left = self.reached(alias) if alias else ()
            if alias and left != alias.replaced:
                self._write(Alias(alias.version, left))

    def _require_champion(self) -> Alias:
        alias = self.champion()
        if alias is None:
            remedy = "Build one with `lookalike build`, then `lookalike promote N`."
            raise StoreError(f"store {self.folder}", expected="a promoted version", found="no champion", remedy=remedy)
        return alias

    def _verify(self, number: int) -> None:
        self._receipt(number).unlink(missing_ok=True)
        if not self.open(number).answers_canary():
            expected, remedy = "the known answer to its canary query", "Build it again."
            raise StoreError(f"version {number}", expected=expected, found="another answer", remedy=remedy)

    def _receipt(self, number: int) -> Path:
        return self.folder / "verified" / f"{number:06d}"

    def _write(self, alias: Alias) -> Alias:
        try:
            with replacing(self.folder / "champion") as new:
                new.write_text(json.dumps({"version": alias.version, "replaced": list(alias.replaced)}))
        except OSError as error:
            if self.champion() != alias:
                raise
            expected = f"a disk that keeps version {alias.version} as the champion"
            found = f"{error.strerror}; it is the champion now, and may not be after a power cut"
            remedy = f"Check that the store can be written, then promote version {alias.version} again."
            raise StoreError(f"store {self.folder}", expected, found, remedy) from error
        return alias

    def _locked(self) -> AbstractContextManager[None]:
        lock = self.folder / ".lock"
        lock.touch()
        return locked(lock)

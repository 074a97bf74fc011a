"""A sealed folder: files that are verified before one byte of them is parsed.

    folder/
        ...               the content, in any format
        manifest.json     {"format": ..., "files": {name: {"sha256", "bytes"}}, ...header}
        manifest.sha256   the digest of manifest.json, as `sha256sum` writes it

Encoders, checkpoints and versions are all sealed folders. A folder is written under a temporary
name, synced and renamed, so it is there whole or not at all.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lookalike.training.errors import ArtifactError

__all__ = [
    "MANIFEST",
    "REMEDY",
    "Sealed",
    "check_there",
    "discard",
    "locked",
    "open_sealed",
    "publish",
    "read_manifest",
    "remember",
    "replace_folder",
    "replacing",
    "seal",
    "staging",
    "sync_folder",
]

MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
_STAGED = ".lookalike-making-"
TICK_NS = 1_000_000_000
REMEDY = "Restore it from a copy, or make it again."
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}(/[A-Za-z0-9._-]{1,100}){0,9}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Sealed:
    """A verified folder: its header and its files.

    Attributes:
        fresh: whether a file was read to verify it; False if a receipt knew them all.
        stamps: of each file, what changes with it (`remember`).
    """

    def __init__(self, folder: Path, text: bytes) -> None:
        self.folder = folder
        self.digest = hashlib.sha256(text).hexdigest()
        self.header: dict[str, Any] = json.loads(text, parse_constant=_finite, parse_float=_finite)
        self.files: dict[str, dict[str, Any]] = self.header.pop("files")
        self.fresh = True
        self.stamps: dict[str, list[int] | None] = {}


def seal(folder: Path, format_name: str, header: dict[str, Any]) -> None:
    """Write the manifest of what `folder` holds now, and sync every file of it."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    for name in names:
        (folder / name).chmod(0o644)  # some writers leave a file to its owner alone; the service may be another user
    files = {name: _describe(folder / name) for name in names}
    manifest = {"format": format_name, **header, "files": files}
    text = json.dumps(manifest, indent=1, allow_nan=False).encode() + b"\n"
    (folder / MANIFEST).write_bytes(text)
    (folder / DIGEST).write_bytes(_digest_line(text))
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def open_sealed(folder: Path, format_name: str, needs: tuple[str, ...], receipt: Path | None = None) -> Sealed:
    """Check every file of `folder`, and that the manifest lists those in `needs`, then return it.

    Args:
        receipt: a file outside the folder that remembers which files were checked (`remember`); one that has not
            changed since, as the file system tells it, is not read again. None reads them all.

    Raises:
        ArtifactError: a file is missing, has another size or another digest (it is named), or the
            folder is of another format.
    """
    sealed = read_manifest(folder, format_name)
    for name in needs:
        if name not in sealed.files:
            raise _damaged(folder / name, "a file that the manifest lists", "none of that name")
    checked = _read_receipt(receipt, sealed)
    sealed.stamps = {name: _stamp(folder / name) for name in sealed.files}
    fresh = [name for name, stamp in sealed.stamps.items() if stamp is None or checked.get(name) != stamp]
    for name in fresh:
        _check(folder / name, sealed.files[name])
    sealed.fresh = bool(fresh)
    return sealed


def remember(sealed: Sealed, receipt: Path) -> None:
    """Note in a receipt that all files were checked; in a read-only store there is none, and all are read again."""
    if _read_receipt(receipt, sealed) == sealed.stamps:
        return
    with contextlib.suppress(OSError):
        receipt.parent.mkdir(parents=True, exist_ok=True)
        with replacing(receipt, durable=False) as new:
            new.write_text(json.dumps({"manifest": sealed.digest, "stamps": sealed.stamps}))


def read_manifest(folder: Path, format_name: str) -> Sealed:
    """Check and read the manifest alone; the files that it lists are not looked at.

    Raises:
        ArtifactError: the manifest is missing or damaged, or the folder is of another format.
    """
    text = _read(folder / MANIFEST)
    if _read(folder / DIGEST) != _digest_line(text):
        raise _damaged(folder / MANIFEST, f"the digest that stands in {DIGEST}", "another")
    try:
        sealed = Sealed(folder, text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder / MANIFEST, "a JSON object that lists its files", repr(error)) from error
    _check_files(sealed)
    if sealed.header.get("format") != format_name:
        raise _damaged(folder / MANIFEST, f"the format {format_name}", str(sealed.header.get("format"))[:80])
    return sealed


def check_there(sealed: Sealed) -> None:
    """Raises ArtifactError if a file of the folder is no longer at its path; none of them is read."""
    for name in (MANIFEST, DIGEST, *sealed.files):
        try:
            (sealed.folder / name).stat()
        except OSError as error:
            raise _damaged(sealed.folder / name, "a file", error.strerror or "none") from error


def _finite(text: str) -> float:
    """Raises ValueError unless it is a number within float64."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no number of JSON, or too large")
    return value


def _check_files(sealed: Sealed) -> None:
    """Names that stay inside the folder, each with a size and a digest."""
    place = f"{sealed.folder / MANIFEST}, files"
    if not isinstance(sealed.files, dict):
        raise _damaged(place, "an object, of each file its bytes and sha256", repr(sealed.files)[:80])
    for name, entry in sealed.files.items():
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise _damaged(place, "names of letters, digits and ._-, in folders inside this one", repr(name[:80]))
        if not isinstance(entry, dict) or entry.keys() != {"bytes", "sha256"}:
            raise _damaged(f"{place}.{name}", "bytes and sha256", repr(entry)[:80])
        if type(entry["bytes"]) is not int or entry["bytes"] < 0:
            raise _damaged(f"{place}.{name}.bytes", "a whole number, 0 or more", repr(entry["bytes"])[:80])
        if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
            raise _damaged(f"{place}.{name}.sha256", "64 hexadecimal digits", repr(entry["sha256"])[:80])


def _stamp(path: Path) -> list[int] | None:
    """What changes with any change to a file; None where there is none, or where it was changed just now.

    No program sets a file's time of change. Of two changes in one tick of the clock it tells one: hence the wait.
    """
    try:
        told = path.stat()
    except OSError:
        return None
    if time.time_ns() - told.st_ctime_ns < TICK_NS:
        return None
    return [told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]


def _read_receipt(receipt: Path | None, sealed: Sealed) -> dict[str, Any]:
    """The stamps of the files that were checked against this very manifest."""
    try:
        told = json.loads(receipt.read_bytes()) if receipt else {}
        return dict(told["stamps"]) if told.get("manifest") == sealed.digest else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, removed at the end unless it was renamed away.

    It is locked while it is worked on, and the kernel releases the lock of a process that dies: so what a
    killed one left behind is known from what another one works on, and removed here.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with locked(parent):
        _clear(parent)
        folder = Path(tempfile.mkdtemp(prefix=_STAGED, dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield the path of a new file; at the end it replaces the file at `path`, or is removed if an error was raised.

    Readers see the old content or the new content, never a part. Other writers of `path` do not disturb this one; the
    last one wins.

    Args:
        durable: whether the new content must survive a power failure.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    with staging(path.parent) as folder:
        new = folder / path.name
        yield new
        if durable:
            _sync(new)
        os.replace(new, path)
    if durable:
        sync_folder(path.parent)


def discard(folder: Path) -> None:
    """Remove a folder, durably, and what killed processes left beside it; this works on a full disk.

    A crash leaves it whole or gone: the rest of it is removed with whatever is staged or discarded there next.
    """
    with locked(folder.parent):
        _clear(folder.parent)
        aside = folder.with_name(f"{_STAGED}{folder.name}")
        os.rename(folder, aside)
    sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _clear(parent: Path) -> None:
    for left in parent.glob(f"{_STAGED}*"):
        with contextlib.suppress(OSError), locked(left, wait=False):
            shutil.rmtree(left)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file or folder that exists; the kernel releases that of a process that dies.

    Raises:
        BlockingIOError: another holds it, and there is to be no waiting.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def publish(folder: Path, target: Path) -> None:
    """Rename a sealed folder to its final name, durably; `target` must not exist."""
    os.rename(folder, target)
    sync_folder(target.parent)


def replace_folder(folder: Path, target: Path) -> None:
    """Put a sealed folder where `target` is, or is not yet.

    A crash in between leaves `target` missing, never half-written.
    """
    if target.exists():
        with staging(target.parent) as aside:
            os.rename(target, aside / target.name)
            publish(folder, target)
    else:
        publish(folder, target)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    _sync(folder)


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _check(path: Path, entry: dict[str, Any]) -> None:
    if not path.is_file():
        raise _damaged(path, "a file", "none")
    if path.stat().st_size != entry["bytes"]:
        raise _damaged(path, f"{entry['bytes']} bytes", f"{path.stat().st_size}")
    if _describe(path)["sha256"] != entry["sha256"]:
        raise _damaged(path, f"SHA-256 {entry['sha256'][:16]}…", "another")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, "a readable file", error.strerror or str(error)) from error


def _digest_line(text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(path: Path | str, expected: str, found: str) -> ArtifactError:
    return ArtifactError(str(path), expected=expected, found=found, remedy=REMEDY)

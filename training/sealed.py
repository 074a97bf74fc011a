"""A sealed folder: every file is verified before any byte of it is parsed.

    folder/
        ...               the content, in any format
        manifest.json     {"format": ..., "files": {name: {"sha256", "bytes"}}, ...header}
        manifest.sha256   the digest of manifest.json, as `sha256sum` writes it

Encoders, checkpoints and versions are sealed folders. A folder is written under a temporary name, synced and renamed,
so a reader sees a complete folder or none.
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
    "check_exists",
    "discard",
    "locked",
    "open_sealed",
    "publish",
    "read_manifest",
    "replace_folder",
    "replacing",
    "seal",
    "staging",
    "sync_folder",
    "write_receipt",
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
        fresh: whether a file was read to verify it; False if a receipt covered all files.
        stamps: for each file, the values of `stat` that change with the file (`write_receipt`).
    """

    def __init__(self, folder: Path, text: bytes) -> None:
        self.folder = folder
        self.digest = hashlib.sha256(text).hexdigest()
        self.header: dict[str, Any] = json.loads(text, parse_constant=_finite, parse_float=_finite)
        self.files: dict[str, dict[str, Any]] = self.header.pop("files")
        self.fresh = True
        self.stamps: dict[str, list[int] | None] = {}


def seal(folder: Path, format_name: str, header: dict[str, Any]) -> None:
    """Write the manifest of the files in `folder`, and sync every file."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    for name in names:
        (folder / name).chmod(0o644)  # some writers let only the owner read a file; the service may be another user
    files = {name: _describe(folder / name) for name in names}
    manifest = {"format": format_name, **header, "files": files}
    text = json.dumps(manifest, indent=1, allow_nan=False).encode() + b"\n"
    (folder / MANIFEST).write_bytes(text)
    (folder / DIGEST).write_bytes(_digest_line(text))
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def open_sealed(folder: Path, format_name: str, needs: tuple[str, ...], receipt: Path | None = None) -> Sealed:
    """Check every file of `folder`, and that the manifest lists the files in `needs`; return the sealed folder.

    Raises ArtifactError if a file is missing or has another size or digest, or if the folder has another format.

    Args:
        receipt: a file outside the folder that records which files were checked (`write_receipt`). A file that has not
            changed since, according to the file system, is not read again. None: every file is read.
    """
    sealed = read_manifest(folder, format_name)
    for name in needs:
        if name not in sealed.files:
            raise _damaged(folder / name, "a file that the manifest lists", "not listed")
    checked = _read_receipt(receipt, sealed)
    sealed.stamps = {name: _stamp(folder / name) for name in sealed.files}
    fresh = [name for name, stamp in sealed.stamps.items() if stamp is None or checked.get(name) != stamp]
    for name in fresh:
        _check(folder / name, sealed.files[name])
    sealed.fresh = bool(fresh)
    return sealed


def write_receipt(sealed: Sealed, receipt: Path) -> None:
    """Record in a receipt that all files were checked. A read-only store has no receipt: all files are read again."""
    if _read_receipt(receipt, sealed) == sealed.stamps:
        return
    with contextlib.suppress(OSError):
        receipt.parent.mkdir(parents=True, exist_ok=True)
        with replacing(receipt, durable=False) as new:
            new.write_text(json.dumps({"manifest": sealed.digest, "stamps": sealed.stamps}))


def read_manifest(folder: Path, format_name: str) -> Sealed:
    """Read only the manifest. Raises ArtifactError if it is missing or damaged, or if the folder has another format."""
    text = _read(folder / MANIFEST)
    if _read(folder / DIGEST) != _digest_line(text):
        raise _damaged(folder / MANIFEST, f"the digest in {DIGEST}", "a different digest")
    try:
        sealed = Sealed(folder, text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder / MANIFEST, "a JSON object that lists its files", repr(error)) from error
    _check_files(sealed)
    if sealed.header.get("format") != format_name:
        raise _damaged(folder / MANIFEST, f"the format {format_name}", str(sealed.header.get("format"))[:80])
    return sealed


def check_exists(sealed: Sealed) -> None:
    """Raise ArtifactError if a file of the folder is missing; no file is read."""
    for name in (MANIFEST, DIGEST, *sealed.files):
        try:
            (sealed.folder / name).stat()
        except OSError as error:
            raise _damaged(sealed.folder / name, "a file", error.strerror or "none") from error


def _finite(text: str) -> float:
    """Return the number; raise ValueError unless it is finite in float64."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite JSON number")
    return value


def _check_files(sealed: Sealed) -> None:
    """Check that the names stay inside the folder, and that each entry has a size and a digest."""
    place = f"{sealed.folder / MANIFEST}, files"
    if not isinstance(sealed.files, dict):
        raise _damaged(place, "an object with the bytes and sha256 of each file", repr(sealed.files)[:80])
    for name, entry in sealed.files.items():
        if not _NAME.fullmatch(name) or {".", ".."} & set(name.split("/")):
            raise _damaged(place, "relative paths of letters, digits and ._-", repr(name[:80]))
        if not isinstance(entry, dict) or entry.keys() != {"bytes", "sha256"}:
            raise _damaged(f"{place}.{name}", "bytes and sha256", repr(entry)[:80])
        if type(entry["bytes"]) is not int or entry["bytes"] < 0:
            raise _damaged(f"{place}.{name}.bytes", "a whole number, 0 or more", repr(entry["bytes"])[:80])
        if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
            raise _damaged(f"{place}.{name}.sha256", "64 hexadecimal digits", repr(entry["sha256"])[:80])


def _stamp(path: Path) -> list[int] | None:
    """Values that differ after any change to a file; None if the file is missing or was changed just now.

    No program can set a file's ctime. Two changes in one clock tick have the same ctime, so a file has no stamp until
    the tick has passed.
    """
    try:
        stat = path.stat()
    except OSError:
        return None
    if time.time_ns() - stat.st_ctime_ns < TICK_NS:
        return None
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_receipt(receipt: Path | None, sealed: Sealed) -> dict[str, Any]:
    """The recorded stamps if the receipt is for this very manifest, else none."""
    try:
        record = json.loads(receipt.read_bytes()) if receipt else {}
        return dict(record["stamps"]) if record.get("manifest") == sealed.digest else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder in `parent`; remove it at the end unless it was renamed away.

    The folder is locked while it is in use, and the kernel releases the locks of a dead process. So the folders that
    killed processes left behind can be distinguished from those in use, and are removed here.
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

    Readers see the old content or the new content, never a part. Of several writers of `path` the last one wins.
    `durable`: whether the new content must survive a power failure. Raises OSError if it cannot be written.
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
    """Remove a folder durably, with the temporary folders that killed processes left next to it; works on a full disk.

    After a crash the folder is complete or has a temporary name, which the next `staging` or `discard` there removes.
    """
    with locked(folder.parent):
        _clear(folder.parent)
        aside = folder.with_name(f"{_STAGED}{folder.name}")
        os.rename(folder, aside)
    sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _clear(parent: Path) -> None:
    for leftover in parent.glob(f"{_STAGED}*"):
        with contextlib.suppress(OSError), locked(leftover, wait=False):
            shutil.rmtree(leftover)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an existing file or folder. Without `wait`, raises BlockingIOError if the lock is held."""
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
    """Move a sealed folder to `target`, and replace it if it exists.

    A crash in between leaves `target` missing, never half-written.
    """
    if target.exists():
        with staging(target.parent) as aside:
            os.rename(target, aside / target.name)
            publish(folder, target)
    else:
        publish(folder, target)


def sync_folder(folder: Path) -> None:
    """Make the entries of `folder` durable."""
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
        raise _damaged(path, f"SHA-256 {entry['sha256'][:16]}…", "a different digest")


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

"""API keys with names and scopes; a file has their hashes, and is read again when it changes.

    {"format": "lookalike-keys-1",
     "keys": [{"name": "shop", "scope": "read", "sha256": "...", "added": "2026-01-31T12:00:00Z"}]}

A key is 256 random bits from the system. A slow hash (scrypt, Argon2) protects passwords, because people choose from
few; nobody can try a useful share of 2^256 keys at any speed. So a plain SHA-256 is safe, and a stranger cannot make
the service work hard by sending wrong keys.
"""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lookalike.service.settings import Settings
from lookalike.training.errors import ConfigError
from lookalike.training.sealed import locked, replacing

__all__ = ["ENVIRONMENT", "Caller", "KeyRing", "Scope", "StoredKey", "add_key", "read_keys", "remove_key"]

Scope = Literal["read", "write"]
"""The calls that a key allows; write includes read."""
ENVIRONMENT = "environment"
"""The name of the key in LOOKALIKE_API_KEY; it may write."""
MAX_BYTES = 1 << 20
PAUSE_S = 1.0
"""Seconds between two checks whether the file has changed."""
_NAME = r"^[A-Za-z0-9._-]{1,128}$"
_Stamp = tuple[int, ...]
log = logging.getLogger("lookalike.service")


class StoredKey(BaseModel):
    """One key in a key file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=_NAME)]
    scope: Scope
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    added: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["lookalike-keys-1"]
    keys: list[StoredKey]


@dataclass(frozen=True)
class Caller:
    """The name and the scope of a request's key."""

    name: str
    scope: Scope

    def may(self, needs: Scope) -> bool:
        """Whether the scope includes `needs`; write includes read."""
        return needs in {"read", self.scope}


class KeyRing:
    """The accepted keys: the environment's key, and the keys of the last valid state of the file.

    A damaged or missing file changes nothing: `refused` counts such files, `trouble` describes the current error.
    """

    def __init__(
        self, environment: str | None, file: Path | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ConfigError if the file cannot be used."""
        caller = Caller(ENVIRONMENT, "write")
        self._own = [(_digest(environment.encode("utf-8", "surrogateescape")), caller)] if environment else []
        self._file = file
        self._clock = clock
        self._checked = clock()
        self._known = self._own
        self._stamp: _Stamp | None = None
        self.refused = 0
        self.trouble = ""
        if file:
            self._load(file)

    @classmethod
    def of(cls, settings: Settings) -> "KeyRing | None":
        """The keys of a service with these settings; None if it requires no key. A file without keys admits nobody.

        Raises ConfigError if the key file cannot be used.
        """
        if not (settings.api_key or settings.keys):
            return None
        return cls(settings.api_key.get_secret_value() if settings.api_key else None, settings.keys)

    def find(self, key: bytes) -> Caller | None:
        """The caller with this key, or None. Every key is compared, so that the time reveals nothing about the keys."""
        self._check_file()
        digest, found = _digest(key), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _check_file(self) -> None:
        if self._file is None or self._clock() - self._checked < PAUSE_S:
            return
        self._checked = self._clock()
        if not self.trouble and _stamp_at(self._file) == self._stamp:
            return
        try:
            self._load(self._file)
        except ConfigError as error:
            if (trouble := str(error)) != self.trouble:  # log it once, not at each check of the file
                self.trouble = trouble
                self.refused += 1
                log.error("%s The keys that were read before are still accepted.", trouble)
        else:
            self.trouble = ""
            log.info("%s: read again, %d keys are accepted", self._file, len(self._known))

    def _load(self, file: Path) -> None:
        self._stamp, keys = _read(file)
        self._known = self._own + [(bytes.fromhex(key.sha256), Caller(key.name, key.scope)) for key in keys]


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file.

    Raises ConfigError if the file cannot be read, has another format, or users other than its owner may write it.
    """
    return _read(path)[1]


def add_key(path: Path, name: str, scope: Scope) -> str:
    """Create a key, store its hash, and return the key, which is stored nowhere. A missing file is created.

    Raises ConfigError if the name is used or not allowed, or the file is wrong.
    """
    if name == ENVIRONMENT or not re.fullmatch(_NAME, name):
        expected = f"1 to 128 of A-Z a-z 0-9 . _ -, and not {ENVIRONMENT}"
        raise ConfigError("NAME", expected=expected, found=repr(name))
    key = f"lookalike_{secrets.token_urlsafe(32)}"
    with _edited(path) as keys:
        if name in {known.name for known in keys}:
            remedy = "Add a key with a new name, let its users change to it, then remove this key."
            raise ConfigError("NAME", expected=f"a name that is not in {path}", found=repr(name), remedy=remedy)
        added = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        keys.append(StoredKey(name=name, scope=scope, sha256=_digest(key.encode()).hex(), added=added))
    return key


def remove_key(path: Path, name: str) -> None:
    """Raises ConfigError if no key has that name, or the file is wrong."""
    if not path.exists():  # a mistake leaves no lock file
        raise ConfigError("NAME", expected=f"one of no keys in {path}", found=repr(name))
    with _edited(path) as keys:
        if name not in (names := [key.name for key in keys]):
            raise ConfigError("NAME", expected=f"one of {', '.join(names) or 'no keys'} in {path}", found=repr(name))
        del keys[names.index(name)]


@contextmanager
def _edited(path: Path) -> Iterator[list[StoredKey]]:
    """The keys, to be changed in the context and then written; a lock keeps other writers out.

    The owner and the mode of the file stay, because the service may run as another user.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    lock.touch(0o600)
    with locked(lock):
        keys = read_keys(path) if path.exists() else []
        yield keys
        with replacing(path) as new:
            new.touch(0o600)
            if path.exists():
                old = path.stat()
                os.chown(new, old.st_uid, old.st_gid)
                new.chmod(stat.S_IMODE(old.st_mode))
            text = _KeyFile(format="lookalike-keys-1", keys=keys).model_dump_json(indent=1)
            new.write_text(f"{text}\n", encoding="utf-8")


def _read(path: Path) -> tuple[_Stamp, list[StoredKey]]:
    """The stamp of the file, and the keys that were read from it."""
    try:  # open without blocking: a pipe must not stop the service
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            _check_mode(path, status.st_mode)
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = "`lookalike keys add NAME --keys FILE` creates a key file."
        raise ConfigError(f"keys {path}", expected="a key file that can be read", found=found, remedy=remedy) from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"keys {path}", expected=f"at most {MAX_BYTES:,} bytes", found="a larger file")
    return _stamp(status), _parse(path, text)


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError(f"keys {path}", expected="a file", found="a folder, a pipe or a device")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        expected, found = "a file that only its owner may write", f"mode {stat.S_IMODE(mode):04o}"
        raise ConfigError(f"keys {path}", expected=expected, found=found, remedy=f"chmod go-w {path}")


def _parse(path: Path, text: bytes) -> list[StoredKey]:
    try:
        keys = _KeyFile.model_validate(json.loads(text)).keys
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top level"
        found = f"{type(first['input']).__name__} at {where}"  # not its value, which may be a key by mistake
        expected = first["msg"].removeprefix("Input should be ")
        raise ConfigError(f"keys {path}", expected=expected, found=found) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"keys {path}", expected="JSON", found=str(error)[:80]) from error
    for field in ("name", "sha256"):
        value, times = Counter(getattr(key, field) for key in keys).most_common(1)[0] if keys else ("", 0)
        if times > 1:
            raise ConfigError(f"keys {path}", expected=f"each {field} once", found=f"{value} {times} times")
    if any(key.name == ENVIRONMENT for key in keys):
        raise ConfigError(f"keys {path}", expected=f"names other than {ENVIRONMENT}", found=ENVIRONMENT)
    return keys


def _stamp_at(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    """Values that change if the file, or its mode, is changed or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(key: bytes) -> bytes:
    """SHA-256, so that compare_digest compares equal lengths."""
    return hashlib.sha256(key).digest()

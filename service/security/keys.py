"""API keys: several, named, each of a scope; a file holds their hashes, and is read again when it changes.

    {"format": "lookalike-keys-1",
     "keys": [{"name": "shop", "scope": "read", "sha256": "...", "added": "2026-01-31T12:00:00Z"}]}

A key is 256 bits from the system's generator. A slow hash (scrypt, Argon2) makes it dear to try the few passwords
that people choose; of 2^256 keys none is ever tried twice, whatever a try costs. So a plain SHA-256 keeps them, and
no stranger can make the service work hard by sending wrong ones.
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
from lookalike.training.sealed import locked, sync_folder

__all__ = ["ENVIRONMENT", "Caller", "KeyRing", "Scope", "StoredKey", "add_key", "read_keys", "remove_key"]

Scope = Literal["read", "write"]
"""What a key may do; write includes read."""
ENVIRONMENT = "environment"
"""The name of the key that stands in LOOKALIKE_API_KEY; it may write."""
MAX_BYTES = 1 << 20
PAUSE_S = 1.0
"""How often a service looks whether the file has changed."""
_NAME = r"^[A-Za-z0-9._-]{1,128}$"
_Stamp = tuple[int, ...]
log = logging.getLogger("lookalike.service")


class StoredKey(BaseModel):
    """What a file knows of a key."""

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
    """Whose key it is, and what it may do."""

    name: str
    scope: Scope

    def may(self, needs: Scope) -> bool:
        """Write includes read."""
        return needs in {"read", self.scope}


class KeyRing:
    """The keys in force: the environment's, and those of the file as it was last found right.

    A file that is broken or gone changes nothing: `refused` counts such files, `trouble` says what is wrong now.
    """

    def __init__(
        self, environment: str | None, file: Path | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises ConfigError where the file cannot be used."""
        mine = Caller(ENVIRONMENT, "write")
        self._own = [(_digest(environment.encode("utf-8", "surrogateescape")), mine)] if environment else []
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._known = self._own
        self._stamp: _Stamp | None = None
        self.refused = 0
        self.trouble = ""
        if file:
            self._take(file)

    @classmethod
    def of(cls, settings: Settings) -> "KeyRing | None":
        """The keys of a service with these settings; None if it requires no key. A file without keys admits nobody.

        Raises:
            ConfigError: the key file cannot be used.
        """
        if not (settings.api_key or settings.keys):
            return None
        return cls(settings.api_key.get_secret_value() if settings.api_key else None, settings.keys)

    def find(self, given: bytes) -> Caller | None:
        """Whose key this is. Every key is compared, so that the time taken tells nothing of which."""
        self._look()
        digest, found = _digest(given), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _look(self) -> None:
        if self._file is None or self._clock() - self._looked < PAUSE_S:
            return
        self._looked = self._clock()
        if not self.trouble and _stamp_at(self._file) == self._stamp:
            return
        try:
            self._take(self._file)
        except ConfigError as error:
            self._refuse(str(error))
        else:
            self.trouble = ""
            log.info("%s: read again, %d keys are in force", self._file, len(self._known))

    def _take(self, file: Path) -> None:
        self._stamp, keys = _load(file)
        self._known = self._own + [(bytes.fromhex(key.sha256), Caller(key.name, key.scope)) for key in keys]

    def _refuse(self, trouble: str) -> None:
        """Told once, however often the file is looked at."""
        if trouble != self.trouble:
            self.trouble = trouble
            self.refused += 1
            log.error("%s The keys that were read before stay in force.", trouble)


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file.

    Raises:
        ConfigError: it cannot be read, is not of the format, or others than its owner may write it.
    """
    return _load(path)[1]


def add_key(path: Path, name: str, scope: Scope) -> str:
    """Make a key and store its hash; the key itself is returned and nowhere else. A missing file is made.

    Raises:
        ConfigError: the name is taken or no name, or the file is not what it must be.
    """
    if name == ENVIRONMENT or not re.fullmatch(_NAME, name):
        expected = f"1 to 128 of A-Z a-z 0-9 . _ -, and not {ENVIRONMENT}"
        raise ConfigError("NAME", expected=expected, found=repr(name))
    key = f"lookalike_{secrets.token_urlsafe(32)}"
    with _edited(path) as keys:
        if name in {known.name for known in keys}:
            remedy = "Add another, let its users change over, then remove this one."
            raise ConfigError("NAME", expected=f"a name that is not in {path}", found=repr(name), remedy=remedy)
        added = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        keys.append(StoredKey(name=name, scope=scope, sha256=_digest(key.encode()).hex(), added=added))
    return key


def remove_key(path: Path, name: str) -> None:
    """Raises ConfigError where there is no key of that name, or the file is not what it must be."""
    with _edited(path) as keys:
        if name not in (names := [key.name for key in keys]):
            raise ConfigError("NAME", expected=f"one of {', '.join(names) or 'no keys'} in {path}", found=repr(name))
        del keys[names.index(name)]


@contextmanager
def _edited(path: Path) -> Iterator[list[StoredKey]]:
    """The keys to change; written at the end, while nobody else writes."""
    path = path.resolve()
    with locked(path.parent):
        keys = read_keys(path) if path.exists() else []
        yield keys
        _write(path, keys)


def _write(path: Path, keys: list[StoredKey]) -> None:
    """Whole or not at all; owner and mode of the file that is there stay, for the service may be another user."""
    made = path.with_name(f".{path.name}.making")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if path.exists():
            told = path.stat()
            os.chown(made, told.st_uid, told.st_gid)
            made.chmod(stat.S_IMODE(told.st_mode))
        file.write(_KeyFile(format="lookalike-keys-1", keys=keys).model_dump_json(indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(made, path)
    sync_folder(path.parent)


def _load(path: Path) -> tuple[_Stamp, list[StoredKey]]:
    """The keys, and the stamp of the very file that they were read from."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            told = os.fstat(file.fileno())
            _check_mode(path, told.st_mode)
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        found = error.strerror or str(error)
        remedy = "`lookalike keys add NAME --keys FILE` makes one."
        raise ConfigError(f"keys {path}", expected="a key file that can be read", found=found, remedy=remedy) from error
    if len(text) > MAX_BYTES:
        raise ConfigError(f"keys {path}", expected=f"at most {MAX_BYTES:,} bytes", found="more")
    return _stamp(told), _parse(path, text)


def _open_at_once(path: str, flags: int) -> int:
    """A pipe must not hold the service up."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_mode(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError(f"keys {path}", expected="a file", found="something else")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        expected, found = "a file that its owner alone may write", f"mode {stat.S_IMODE(mode):04o}"
        raise ConfigError(f"keys {path}", expected=expected, found=found, remedy=f"chmod go-w {path}")


def _parse(path: Path, text: bytes) -> list[StoredKey]:
    try:
        keys = _KeyFile.model_validate(json.loads(text)).keys
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        found = f"{type(first['input']).__name__} at {where}"  # its value may be a key, put there by mistake
        raise ConfigError(f"keys {path}", expected=_wanted(first["msg"]), found=found) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"keys {path}", expected="JSON", found=str(error)[:80]) from error
    for field in ("name", "sha256"):
        value, times = Counter(getattr(key, field) for key in keys).most_common(1)[0] if keys else ("", 0)
        if times > 1:
            raise ConfigError(f"keys {path}", expected=f"each {field} once", found=f"{value} {times} times")
    if any(key.name == ENVIRONMENT for key in keys):
        raise ConfigError(f"keys {path}", expected=f"names other than {ENVIRONMENT}", found=ENVIRONMENT)
    return keys


def _wanted(message: str) -> str:
    return message.removeprefix("Input should be ")


def _stamp_at(path: Path) -> _Stamp | None:
    try:
        return _stamp(path.stat())
    except OSError:
        return None


def _stamp(told: os.stat_result) -> _Stamp:
    """What changes with a file, with its mode and with what is put in its place."""
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def _digest(key: bytes) -> bytes:
    """Of one length, as compare_digest wants it."""
    return hashlib.sha256(key).digest()

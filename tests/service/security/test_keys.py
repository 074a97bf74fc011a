import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lookalike.service.security.keys import Caller, KeyRing, add_key, read_keys, remove_key
from lookalike.service.settings import Settings
from lookalike.training.errors import ConfigError

SHOP = {"name": "shop", "scope": "read", "sha256": hashlib.sha256(b"s").hexdigest(), "added": "2026-01-31T12:00:00Z"}
DOOR = {"name": "door", "scope": "write", "sha256": hashlib.sha256(b"d").hexdigest(), "added": "2026-01-31T12:00:00Z"}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *keys: dict[str, Any], mode: int = 0o600) -> Path:
    """Write the file by a rename, like an editor or the command."""
    made = path.with_name("made")
    made.write_text(json.dumps({"format": "lookalike-keys-1", "keys": keys}))
    made.chmod(mode)
    return made.replace(path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.json", SHOP, DOOR)


def test_a_key_is_found_by_its_hash(file: Path) -> None:
    ring = KeyRing("e", file)
    assert ring.find(b"s") == Caller("shop", "read")
    assert ring.find(b"d") == Caller("door", "write")
    assert ring.find(b"e") == Caller("environment", "write")
    for wrong in (b"", b"S", b"ss", b"shop", SHOP["sha256"].encode(), b"\xff"):
        assert ring.find(wrong) is None


@pytest.mark.parametrize(("environment", "required"), [(None, False), ("", False), ("e", True)])
def test_a_key_is_required_if_there_is_one_or_a_file(environment: str | None, required: bool, tmp_path: Path) -> None:
    key = None if environment is None else SecretStr(environment)
    assert (KeyRing.of(Settings(store=tmp_path, api_key=key)) is not None) is required
    ring = KeyRing.of(Settings(store=tmp_path, api_key=key, keys=write(tmp_path / "empty.json")))
    assert ring is not None
    assert ring.find(b"") is None


def test_write_includes_read_and_read_does_not_include_write() -> None:
    assert [Caller("a", "read").may("read"), Caller("a", "read").may("write")] == [True, False]
    assert [Caller("a", "write").may("read"), Caller("a", "write").may("write")] == [True, True]


def test_a_new_file_is_in_force_a_second_later_and_not_looked_for_before(file: Path) -> None:
    clock = Clock()
    ring = KeyRing("e", file, clock=clock)
    write(file, DOOR)
    clock.now += 0.9
    assert ring.find(b"s") == Caller("shop", "read")
    clock.now += 0.2
    assert ring.find(b"s") is None
    assert ring.find(b"d") == Caller("door", "write")
    assert ring.find(b"e") == Caller("environment", "write")
    write(file, DOOR, SHOP)
    clock.now += 1
    assert ring.find(b"s") == Caller("shop", "read")
    assert (ring.refused, ring.trouble) == (0, "")


def test_a_file_that_is_written_in_place_is_seen_too(file: Path) -> None:
    clock = Clock()
    ring = KeyRing(None, file, clock=clock)
    other = SHOP | {"sha256": hashlib.sha256(b"t").hexdigest()}
    file.write_text(json.dumps({"format": "lookalike-keys-1", "keys": [other, DOOR]}))  # of the same size
    os.utime(file, ns=(0, 0))
    clock.now += 1
    assert ring.find(b"s") is None
    assert ring.find(b"t") == Caller("shop", "read")


def cut(file: Path) -> None:
    file.write_text(file.read_text()[:-9])


BROKEN: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut off": cut,
    "empty": lambda file: file.write_text(""),
    "others may write it": lambda file: file.chmod(0o602),
    "its group may write it": lambda file: file.chmod(0o620),
    "the same name twice": lambda file: write(file, SHOP, DOOR | {"name": "shop"}),
    "the same key twice": lambda file: write(file, SHOP, DOOR | {"sha256": SHOP["sha256"]}),
    "another scope": lambda file: write(file, SHOP | {"scope": "admin"}),
    "the name of the environment's": lambda file: write(file, SHOP | {"name": "environment"}),
    "no name": lambda file: write(file, SHOP | {"name": "a\nb"}),
    "a key and no hash": lambda file: write(file, SHOP | {"sha256": "my secret"}),
    "one thing too many": lambda file: write(file, SHOP | {"key": "my secret"}),
    "one thing too few": lambda file: write(file, {"name": "shop"}),
    "another format": lambda file: file.write_text('{"format": "lookalike-keys-2", "keys": []}'),
    "no object": lambda file: file.write_text("[]"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "large": lambda file: file.write_text(" " * (1 << 20) + "{}"),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_keeps_the_keys_and_logs_once_if_the_file_is_damaged(
    damage: Callable[[Path], object], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    ring = KeyRing(None, file, clock=clock)
    damage(file)
    for _ in range(3):
        clock.now += 1
        assert ring.find(b"s") == Caller("shop", "read")
    assert ring.refused == 1
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told.startswith(f"keys {file}: expected ")
    assert told.startswith(ring.trouble)
    assert "still accepted" in told
    assert "secret" not in told

    write(file, DOOR)
    clock.now += 1
    assert ring.find(b"s") is None
    assert ring.find(b"d") == Caller("door", "write")
    assert (ring.refused, ring.trouble) == (1, "")


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_no_service_starts_with_a_broken_file(damage: Callable[[Path], object], file: Path) -> None:
    damage(file)
    with pytest.raises(ConfigError) as refused:
        KeyRing("e", file)
    assert str(file) in refused.value.field
    assert refused.value.expected
    assert refused.value.found


def test_refuses_a_pipe_or_folder_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match=r"expected a (key )?file"):
            KeyRing(None, path)


def test_a_made_key_opens_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = add_key(file, "shop", "write")
    assert len(key) == len("lookalike_") + 43  # 32 bytes in base64, without the padding
    assert key != add_key(file, "door", "read")
    assert KeyRing(None, file).find(key.encode()) == Caller("shop", "write")
    assert key.removeprefix("lookalike_") not in file.read_text()
    (shop, door) = read_keys(file)
    assert shop.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (door.name, door.scope) == ("door", "read")
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_a_removed_key_is_refused_and_the_others_stay(file: Path) -> None:
    remove_key(file, "shop")
    ring = KeyRing(None, file)
    assert ring.find(b"s") is None
    assert ring.find(b"d") == Caller("door", "write")
    with pytest.raises(ConfigError, match="expected one of door in"):
        remove_key(file, "shop")


@pytest.mark.parametrize("name", ["", "a b", "a\n", "../x", "é", "a" * 129, "environment", "shop"])
def test_refuses_a_duplicate_name_or_one_that_a_log_cannot_hold(name: str, file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(ConfigError) as refused:
        add_key(file, name, "read")
    assert refused.value.field == "NAME"
    assert file.read_bytes() == before


def test_a_file_that_others_may_write_is_not_written_either(file: Path) -> None:
    file.chmod(0o622)
    for change in (lambda: add_key(file, "new", "read"), lambda: remove_key(file, "shop"), lambda: read_keys(file)):
        with pytest.raises(ConfigError, match=r"mode 0622\. chmod go-w"):
            change()


def test_a_change_keeps_the_mode_and_the_link(file: Path, tmp_path: Path) -> None:
    file.chmod(0o644)
    link = tmp_path / "link.json"
    link.symlink_to(file)
    add_key(link, "new", "read")
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o644
    assert [key.name for key in read_keys(file)] == ["shop", "door", "new"]


def test_a_killed_commands_leftovers_do_not_matter(file: Path) -> None:
    left = file.with_name(".lookalike-making-killed")
    left.mkdir()
    (left / file.name).write_text("half")
    add_key(file, "new", "read")
    assert len(read_keys(file)) == 3
    assert not left.exists()


def test_concurrent_additions_all_succeed(file: Path) -> None:
    threads = [threading.Thread(target=add_key, args=(file, f"n{number}", "read")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {key.name for key in read_keys(file)} == {"shop", "door", *(f"n{number}" for number in range(8))}

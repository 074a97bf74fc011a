import json
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lookalike.training import sealed as sealed_module
from lookalike.training.errors import ArtifactError
from lookalike.training.sealed import (
    check_exists,
    open_sealed,
    publish,
    read_manifest,
    replace_folder,
    replacing,
    seal,
    staging,
    write_receipt,
)
from tests.training.helpers import flip_bit

FORMAT = "lookalike-test/1"
CONTENT = {"a.bin": b"some bytes", "inner/b.json": b'{"n": 1}'}
ALL_FILES = [*CONTENT, "manifest.json", "manifest.sha256"]

contents = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=8), st.binary(max_size=64), max_size=5)


def sealed(folder: Path, content: dict[str, bytes] | None = None) -> Path:
    for name, data in (CONTENT if content is None else content).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    seal(folder, FORMAT, {"made_by": "hand", "size": [1, 2]})
    return folder


def resealed(folder: Path, manifest: str) -> None:
    """Write a changed manifest, with the digest that matches it."""
    (folder / "manifest.json").write_text(manifest)
    line = subprocess.run(["sha256sum", "manifest.json"], cwd=folder, capture_output=True, check=True).stdout
    (folder / "manifest.sha256").write_bytes(line)


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_sealed(folder, FORMAT, needs=())
    return str(caught.value)


@settings(max_examples=25)
@given(content=contents)
def test_a_sealed_folder_opens_with_its_header_and_files(content: dict[str, bytes]) -> None:
    with TemporaryDirectory() as name:
        opened = open_sealed(sealed(Path(name), content), FORMAT, needs=tuple(content))
    assert opened.header == {"format": FORMAT, "made_by": "hand", "size": [1, 2]}
    assert set(opened.files) == set(content)


@settings(max_examples=60)
@given(name=st.sampled_from(ALL_FILES), bit=st.integers(0, 1 << 20))
def test_refuses_any_flipped_bit_and_names_the_file(name: str, bit: int) -> None:
    with TemporaryDirectory() as folder:
        flip_bit(sealed(Path(folder)) / name, bit)
        assert name in refused(Path(folder))


@settings(max_examples=60)
@given(name=st.sampled_from(ALL_FILES), keep=st.floats(0, 1, exclude_max=True))
def test_refuses_any_truncation_and_names_the_file(name: str, keep: float) -> None:
    with TemporaryDirectory() as folder:
        path = sealed(Path(folder)) / name
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        assert name in refused(Path(folder))


@pytest.mark.parametrize("name", ALL_FILES)
def test_refuses_a_missing_or_longer_file_and_names_it(tmp_path: Path, name: str) -> None:
    path = sealed(tmp_path) / name
    whole = path.read_bytes()
    path.write_bytes(whole + b" ")
    assert name in refused(tmp_path)
    path.unlink()
    assert name in refused(tmp_path)
    path.write_bytes(whole)
    open_sealed(tmp_path, FORMAT, needs=())


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "a.bin"])
def test_check_there_names_a_removed_file_and_reads_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"a")
    seal(tmp_path, "test-1", {})
    opened = open_sealed(tmp_path, "test-1", needs=())
    (tmp_path / name).write_bytes(b"other")
    check_exists(opened)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}: expected a file, found No such file"):
        check_exists(opened)


def test_refuses_two_swapped_files(tmp_path: Path) -> None:
    sealed(tmp_path, {"a": b"same size, one", "b": b"same size, two"})
    (tmp_path / "a").rename(tmp_path / "c")
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "c").rename(tmp_path / "b")
    assert "SHA-256" in refused(tmp_path)


def test_refuses_a_different_format_and_names_both(tmp_path: Path) -> None:
    sealed(tmp_path)
    with pytest.raises(ArtifactError, match=r"expected the format lookalike-test/2, found lookalike-test/1"):
        open_sealed(tmp_path, "lookalike-test/2", needs=())


def test_refuses_a_needed_file_that_is_not_listed(tmp_path: Path) -> None:
    sealed(tmp_path)
    (tmp_path / "c.bin").write_bytes(b"slipped in")
    with pytest.raises(ArtifactError, match=r"c\.bin: expected a file that the manifest lists"):
        open_sealed(tmp_path, FORMAT, needs=("c.bin",))


def test_refuses_a_missing_folder(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent")


@pytest.mark.parametrize(
    "manifest",
    [
        *("", "[]", "{}", "3", '{"files": ', f'{{"format": "{FORMAT}"}}'),
        *(
            f'{{"format": "{FORMAT}", "files": {files}}}'
            for files in (
                *("[]", '{"a.bin": 3}', '{"a.bin": {"bytes": 1}}', '{"a.bin": {"bytes": "1", "sha256": "x"}}'),
                *('{"../a.bin": {"bytes": 1, "sha256": "x"}}', '{"/a.bin": {"bytes": 1, "sha256": "x"}}'),
            )
        ),
    ],
)
def test_refuses_an_invalid_file_list_even_if_the_digest_matches(tmp_path: Path, manifest: str) -> None:
    resealed(sealed(tmp_path), manifest)
    assert "manifest.json" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        *((name, {"bytes": 1, "sha256": "0" * 64}) for name in ("", ".", "a/../b", "a//b", "a\0", "é", "x" * 999)),
        *(("a", {"bytes": size, "sha256": "0" * 64}) for size in (-1, True, 1.0, None, "1")),
        *(("a", {"bytes": 1, "sha256": digest}) for digest in ("", "0" * 63, "G" * 64, None, 0)),
        ("a", None),
        ("a", []),
        ("a", {}),
        ("a", {"bytes": 1, "sha256": "0" * 64, "more": 1}),
    ],
)
def test_refuses_invalid_file_names_and_entries(tmp_path: Path, name: str, entry: object) -> None:
    resealed(sealed(tmp_path), json.dumps({"format": FORMAT, "files": {name: entry}}))
    assert "manifest.json, files" in refused(tmp_path)


def test_sha256sum_agrees_with_the_digest(tmp_path: Path) -> None:
    opened = open_sealed(sealed(tmp_path), FORMAT, needs=())
    check = subprocess.run(["sha256sum", "--check", "manifest.sha256"], cwd=tmp_path, capture_output=True)
    assert check.returncode == 0
    assert (tmp_path / "manifest.sha256").read_text().split()[0] == opened.digest


def test_reading_only_the_manifest_reads_no_other_file(tmp_path: Path) -> None:
    flip_bit(sealed(tmp_path) / "a.bin", 3)
    assert set(read_manifest(tmp_path, FORMAT).files) == set(CONTENT)
    flip_bit(tmp_path / "manifest.json", 3)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        read_manifest(tmp_path, FORMAT)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to be checked; no file counts as changed just now."""
    names: list[str] = []
    check = sealed_module._check

    def recording(path: Path, entry: dict[str, Any]) -> None:
        names.append(path.name)
        check(path, entry)

    monkeypatch.setattr(sealed_module, "_check", recording)
    monkeypatch.setattr(sealed_module, "TICK_NS", 0)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path / "folder")


def open_again(folder: Path) -> None:
    """Open a folder with its receipt."""
    receipt = folder.parent / "receipts" / "it"
    write_receipt(open_sealed(folder, FORMAT, needs=tuple(CONTENT), receipt=receipt), receipt)


def test_with_a_receipt_a_file_is_read_once(folder: Path, checked: list[str]) -> None:
    open_again(folder)
    assert sorted(checked) == ["a.bin", "b.json"]
    open_again(folder)
    assert sorted(checked) == ["a.bin", "b.json"]
    open_sealed(folder, FORMAT, needs=())
    assert sorted(checked) == ["a.bin", "a.bin", "b.json", "b.json"]


def test_a_file_that_was_just_written_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock, a change may not show."""
    monkeypatch.setattr(sealed_module, "TICK_NS", 10**18)
    open_again(folder)
    record = json.loads((folder.parent / "receipts" / "it").read_text())
    assert record["stamps"] == {"a.bin": None, "inner/b.json": None}


def replaced(path: Path) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"SOME bytes")


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "a bit": lambda path: flip_bit(path, 3),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "replaced": replaced,
    "deleted": Path.unlink,
    "a folder": made_a_folder,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_detects_a_change_even_if_its_mtime_is_set_back(
    folder: Path, checked: list[str], change: Callable[[Path], object]
) -> None:
    open_again(folder)
    before = (folder / "a.bin").stat()
    change(folder / "a.bin")
    with suppress(FileNotFoundError):
        os.utime(folder / "a.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ArtifactError, match=r"a\.bin"):
        open_again(folder)


def test_a_touched_file_is_read_once_more(folder: Path, checked: list[str]) -> None:
    open_again(folder)
    (folder / "a.bin").touch()
    checked.clear()
    open_again(folder)
    open_again(folder)
    assert checked == ["a.bin"]


def test_a_damaged_file_is_not_recorded_as_checked(folder: Path, checked: list[str]) -> None:
    flip_bit(folder / "a.bin", 3)
    for _ in range(2):
        with pytest.raises(ArtifactError, match=r"a\.bin"):
            open_again(folder)
    assert not (folder.parent / "receipts" / "it").exists()


def test_a_receipt_is_for_one_manifest(folder: Path, checked: list[str]) -> None:
    """The same files, listed by a second manifest with a wrong digest of one file."""
    open_again(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["a.bin"]["sha256"] = "0" * 64
    resealed(folder, json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"a\.bin"):
        open_again(folder)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"3", b"[]", b"null", b"\xff\xfe", b'{"manifest": "x"}', b"[" * 100_000),
        *(b'{"manifest": "DIGEST"}', b'{"manifest": "DIGEST", "stamps": 3}', b'{"manifest": "DIGEST", "stamps": null}'),
        b'{"manifest": "DIGEST", "stamps": {"a.bin": [1, 2, 3, 4, 5], "inner/b.json": null}}',
    ],
    ids=lambda content: str(content[:40]),
)
def test_an_invalid_receipt_is_ignored_and_replaced(folder: Path, checked: list[str], content: bytes) -> None:
    digest = open_sealed(folder, FORMAT, needs=()).digest
    receipt = folder.parent / "receipts" / "it"
    receipt.parent.mkdir()
    receipt.write_bytes(content.replace(b"DIGEST", digest.encode()))
    checked.clear()
    open_again(folder)
    assert sorted(checked) == ["a.bin", "b.json"]
    checked.clear()
    open_again(folder)
    assert checked == []


def test_without_a_writable_receipt_every_file_is_read_each_time(folder: Path, checked: list[str]) -> None:
    (folder.parent / "receipts").write_text("in the way")
    for _ in range(2):
        checked.clear()
        open_again(folder)
        assert sorted(checked) == ["a.bin", "b.json"]


def test_writing_a_receipt_leaves_no_other_file(folder: Path, checked: list[str]) -> None:
    open_again(folder)
    assert [path.name for path in (folder.parent / "receipts").iterdir()] == ["it"]
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == sorted(ALL_FILES)


def test_refuses_a_header_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        seal(tmp_path, FORMAT, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_staged_folder_is_removed_unless_it_was_published(tmp_path: Path) -> None:
    target = tmp_path / "done"
    with staging(tmp_path) as folder:
        publish(sealed(folder), target)
    with suppress(InterruptedError), staging(tmp_path) as folder:
        sealed(folder)
        raise InterruptedError
    assert list(tmp_path.iterdir()) == [target]
    open_sealed(target, FORMAT, needs=tuple(CONTENT))


def test_publishing_never_replaces_a_folder(tmp_path: Path) -> None:
    sealed(tmp_path / "done", {"a": b"old"})
    with pytest.raises(OSError, match="not empty"), staging(tmp_path) as folder:
        publish(sealed(folder, {"a": b"new"}), tmp_path / "done")
    assert (tmp_path / "done" / "a").read_bytes() == b"old"


@pytest.mark.parametrize("before", [None, {"old": b"1"}])
def test_replace_folder_creates_or_replaces_the_target(tmp_path: Path, before: dict[str, bytes] | None) -> None:
    target = tmp_path / "done"
    if before:
        sealed(target, before)
    with staging(tmp_path) as folder:
        replace_folder(sealed(folder, {"new": b"2"}), target)
    assert list(tmp_path.iterdir()) == [target]
    assert set(open_sealed(target, FORMAT, needs=("new",)).files) == {"new"}


def test_a_new_file_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in ("old", "new"):
        with replacing(path) as new:
            assert not new.exists()
            new.write_text(content)
        assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("durable", [True, False])
def test_an_error_leaves_the_old_file(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path, durable=durable) as new:
            new.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

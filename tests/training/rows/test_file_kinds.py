import gzip
from pathlib import Path

import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows.file_kinds import ending, file_kind, folder_kind


def folder_of(folder: Path, names: list[str]) -> Path:
    """A folder of files with these names and no contents."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.CSV", ".csv"), ("a.csv.GZ", ".csv"), ("a.gz", ""), ("a", ""), ("a.b.zst", ".b"), (".csv", "")],
)
def test_ending(name: str, expected: str) -> None:
    assert ending(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "contents", "kind"),
    [
        ("a.csv", b"x\n", "text"),
        ("a.txt", b"", "text"),
        ("a.csv", gzip.compress(b"x\n", mtime=0), "text"),
        ("a.parquet", b"PAR1....", "parquet"),
        ("a.arrow", b"\xff\xff\xff\xff", "arrow"),
        ("a.feather", b"ARROW1..", "arrow"),
        ("a.xlsx", b"PK\x03\x04", "excel"),
        ("a.npz", b"PK\x03\x04", "npz"),
        ("a.gz", gzip.compress(b"\0\0\x08\x01....", mtime=0), "idx"),
        ("a.gz", gzip.compress(b"\x93NUMPY", mtime=0), "npy"),
        ("a.gz", gzip.compress(b"PAR1", mtime=0), "parquet"),
        ("a.gz", gzip.compress(b"x,y\n", mtime=0), "text"),
        ("a.gz", gzip.compress(b"", mtime=0), "text"),
        ("a.doc", b"x\n", ""),
        ("a", b"PAR1", ""),
        ("a.gz", b"x,y\n", ""),
    ],
)
def test_the_kind_of_a_file(tmp_path: Path, name: str, contents: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(contents)
    assert file_kind(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("names", "kind", "found"),
    [
        (["b.png", "c/a.JPG"], "images", []),
        (["_a/b.png"], "images", []),
        (["a.png", "labels.csv", "readme.txt", "._b.csv"], "images", []),
        (["b/2.csv", "a/1.CSV.gz", "c.tsv"], "text", ["a/1.CSV.gz", "b/2.csv", "c.tsv"]),
        (["y=2/a.parquet", "y=1/b.parquet", "_SUCCESS", ".a.parquet.crc", "readme.txt"], "parquet", None),
        (["_delta_log/a.jsonl", "a.parquet"], "parquet", ["a.parquet"]),
        (["b.ndjson", "a.jsonl.zst"], "json", ["a.jsonl.zst", "b.ndjson"]),
    ],
)
def test_the_kind_of_a_folder(tmp_path: Path, names: list[str], kind: str, found: list[str] | None) -> None:
    of_folder, paths = folder_kind(folder_of(tmp_path / "f", names))
    assert of_folder == kind
    if found is not None:
        assert [str(path.relative_to(tmp_path / "f")) for path in paths] == found


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "found no photos."),
        (["a.txt"], "found no photos, only a.txt."),
        (["a.wav", "b.npy"], "found 2 recordings. To cut recordings into windows, add --window."),
        (["a.csv", "b.parquet", "c.parquet"], "found 2 parquet files, 1 text files"),
        (["a.csv", "b.csv", "c.png"], "found 2 text files, 1 images. Keep one kind in the folder."),
    ],
)
def test_refuses_a_folder_of_nothing_or_of_several_kinds(tmp_path: Path, names: list[str], found: str) -> None:
    with pytest.raises(
        DataError, match=r"expected a folder of images: \.avif .*; or of tables of one kind: \.csv"
    ) as caught:
        folder_kind(folder_of(tmp_path / "f", names))
    assert found in str(caught.value)

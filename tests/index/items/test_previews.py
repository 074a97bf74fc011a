from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.items import previews
from lookalike.index.items.previews import CONTENT, PLACES, PreviewWriter, expected_bytes, read_previews
from lookalike.training.errors import ArtifactError
from lookalike.training.rows import Chunk
from tests.factories import cloud, made_rows


def written(folder: Path, *batches: list[bytes], last: list[int] | None = None) -> list[bytes]:
    """Write previews in batches, and read all of them."""
    writer = PreviewWriter(folder)
    for batch in batches:
        writer.write(len(batch), batch)
    count = sum(map(len, batches))
    writer.close(None if last is None else np.isin(np.arange(count), last))
    found = read_previews(folder, count)
    found.check(folder)
    return [found.at(position) for position in range(count)]


def test_keeps_each_preview_and_moves_some_to_the_end(tmp_path: Path) -> None:
    assert written(tmp_path, [b"a", b"bb"], [b"", b"dddd", b"e"], last=[0, 3]) == [b"bb", b"", b"e", b"a", b"dddd"]
    assert (tmp_path / CONTENT).read_bytes() == b"abbdddde"
    assert np.load(tmp_path / PLACES).tolist() == [[1, 3], [3, 3], [7, 8], [0, 1], [3, 7]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONTENT, PLACES]


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_the_size_of_a_block_makes_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(previews, "BLOCK", block)
    assert written(tmp_path, [b"a", b"bb", b"", b"dddd", b"e"], last=[0, 3]) == [b"bb", b"", b"e", b"a", b"dddd"]


def test_items_without_previews_need_no_files(tmp_path: Path) -> None:
    writer = PreviewWriter(tmp_path)
    writer.write(3, [])
    writer.write(1, [b""])
    writer.close()
    assert not list(tmp_path.iterdir())


def test_a_batch_without_previews_is_between_batches_with_some(tmp_path: Path) -> None:
    writer = PreviewWriter(tmp_path)
    writer.write(1, [b"a"])
    writer.write(2, [])
    writer.write(1, [b"d"])
    writer.close()
    found = read_previews(tmp_path, 4)
    assert [found.at(position) for position in range(4)] == [b"a", b"", b"", b"d"]


def test_refuses_previews_of_other_items(tmp_path: Path) -> None:
    written(tmp_path, [b"a", b"b"])
    with pytest.raises(ArtifactError, match=r"previews\.npy: expected \(3, 2\) int64 places, found int64 \(2, 2\)"):
        read_previews(tmp_path, 3)


@pytest.mark.parametrize("name", [CONTENT, PLACES])
def test_needs_both_files(tmp_path: Path, name: str) -> None:
    written(tmp_path, [b"a", b"b"])
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match="expected previews of items"):
        read_previews(tmp_path, 2)


@pytest.mark.parametrize("place", [[-1, 1], [0, 3], [2, 1]])
def test_refuses_a_place_outside_of_the_file(tmp_path: Path, place: list[int]) -> None:
    written(tmp_path, [b"a", b"b"])
    np.save(tmp_path / PLACES, np.array([[0, 1], place]))
    with pytest.raises(ArtifactError, match="expected places in the 2 bytes"):
        read_previews(tmp_path, 2).check(tmp_path)


def test_estimates_the_bytes_from_the_first_rows() -> None:
    rows = made_rows(cloud(200, 2))

    def read(size: int) -> Iterator[Chunk]:
        for chunk in rows.read(size):
            yield replace(chunk, previews=[b"x" * (10 if int(name[4:]) < 64 else 99) for name in chunk.ids])

    assert expected_bytes(replace(rows, read_with_previews=read)) == 200 * 10
    assert expected_bytes(rows) == 0

import io
from pathlib import Path

import numpy as np
import pytest

from lookalike.index.arrays import is_permutation, load_array, map_array
from lookalike.training.errors import ArtifactError


def test_maps_or_reads_an_array_as_written(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", array)
    mapped = load_array(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, array)
    np.testing.assert_array_equal(load_array(io.BytesIO((tmp_path / "a.npy").read_bytes())), array)


def test_refuses_an_array_of_objects(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        load_array(tmp_path / "a.npy")


@pytest.mark.parametrize("kept", [0, 5, 100, 130])
def test_a_damaged_array_is_named(tmp_path: Path, kept: int) -> None:
    np.save(tmp_path / "a.npy", np.arange(12))
    whole = (tmp_path / "a.npy").read_bytes()
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), np.arange(12))
    (tmp_path / "a.npy").write_bytes(whole[:kept])
    with pytest.raises(ArtifactError, match=r"a\.npy: expected a NumPy array"):
        map_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("parts", "count", "expected"),
    [
        ([[2, 0, 1]], 3, True),
        ([[2], [], [0, 1]], 3, True),
        ([], 0, True),
        ([[0, 1]], 3, False),
        ([[0, 1, 1]], 3, False),
        ([[0, 1, 2], [1]], 3, False),
        ([[0, 1, 3]], 3, False),
        ([[0, 1, -1]], 3, False),
        ([[0]], 0, False),
    ],
)
def test_parts_are_a_permutation_if_each_number_occurs_once(parts: list[list[int]], count: int, expected: bool) -> None:
    assert is_permutation([np.array(part, np.int64) for part in parts], count) is expected

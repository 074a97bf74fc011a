import io
from pathlib import Path

import numpy as np
import pytest

from index.arrays import load_array


def test_an_array_is_mapped_or_read_as_it_was_written(tmp_path: Path) -> None:
    wanted = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "a.npy", wanted)
    mapped = load_array(tmp_path / "a.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, wanted)
    np.testing.assert_array_equal(load_array(io.BytesIO((tmp_path / "a.npy").read_bytes())), wanted)


def test_what_holds_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickle"):
        load_array(tmp_path / "a.npy")

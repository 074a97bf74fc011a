from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lookalike.index.ann.target import Target
from lookalike.index.versions import stored_inputs
from lookalike.index.versions.build import BuildExtras, build
from lookalike.index.versions.store import Store
from lookalike.index.versions.stored_inputs import INPUTS, InputWriter, read_inputs, size_line
from lookalike.training.errors import ArtifactError
from tests.factories import cloud, encoder_at, made_rows

FLAT = Target(key="Flat")


def written(folder: Path, blocks: list[NDArray[np.float32]], last: NDArray[np.bool_] | None = None) -> NDArray[Any]:
    """Write the blocks, and return the file's array."""
    writer = InputWriter(folder, sum(map(len, blocks)), blocks[0].shape[1])
    for block in blocks:
        writer.write(block)
    writer.finish(last)
    assert [path.name for path in folder.iterdir()] == [INPUTS]
    values: NDArray[Any] = np.load(folder / INPUTS, allow_pickle=False)
    return values


def test_whole_numbers_up_to_255_take_one_byte_each(tmp_path: Path) -> None:
    block = np.array([[0, 255], [7, 8]], np.float32)
    stored = written(tmp_path, [block, block])
    assert stored.dtype == np.uint8
    assert stored.tolist() == [[0, 255], [7, 8], [0, 255], [7, 8]]


@pytest.mark.parametrize("value", [0.5, -1, 256, 1e30, np.nan])
@pytest.mark.parametrize("at", [0, 3])
def test_any_other_value_makes_all_of_them_float32(tmp_path: Path, value: float, at: int) -> None:
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    rows[at, 1] = value
    stored = written(tmp_path, [rows[:2], rows[2:3], rows[3:]])
    assert stored.dtype == np.float32
    assert np.array_equal(stored, rows, equal_nan=True)


@given(
    rows=arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(0, 300)),
    size=st.integers(1, 4),
    copied=st.sampled_from([1, 7, 1 << 24]),
    data=st.data(),
)
def test_the_last_rows_move_to_the_end_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, rows: NDArray[np.float32], size: int, copied: int, data: st.DataObject
) -> None:
    last = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    blocks = [rows[start : start + size] for start in range(0, len(rows), size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_inputs, "COPIED", copied)
        stored = written(tmp_path_factory.mktemp("inputs"), blocks, last)
    assert np.array_equal(stored, np.concatenate([rows[~last], rows[last]]))


@pytest.mark.parametrize("origin", [None, [1_000.0, 0, 0, 0, 0, 0]])
def test_a_version_has_each_input_minus_the_origin_at_its_position(tmp_path: Path, origin: list[float] | None) -> None:
    rows = cloud(300, 6)
    encoder = encoder_at(tmp_path / "encoder", np.eye(6, dtype=np.float32), origin=origin)
    store = Store(tmp_path / "store")
    version = store.open(build(made_rows(rows, batch=64), encoder, store, target=FLAT, device="cpu"))
    assert version.inputs is not None
    numbers = [int(version.items.id_at(position).removeprefix("row-")) for position in range(300)]
    assert numbers != sorted(numbers)  # the held-out rows are last
    wanted = (rows - np.array(origin or 0)).astype(np.float32)[numbers]
    assert np.array_equal(version.inputs.at(np.arange(300)), wanted)
    assert np.array_equal(version.inputs.at(np.array(version.manifest.held)), version.held)


def test_a_build_may_leave_them_out(tmp_path: Path) -> None:
    encoder, store = encoder_at(tmp_path / "encoder", np.eye(6, dtype=np.float32)), Store(tmp_path / "store")
    number = build(made_rows(cloud(20, 6)), encoder, store, target=FLAT, device="cpu", extras=BuildExtras(inputs=False))
    version = store.open(number)
    assert version.inputs is None
    assert not list(store.path(number).glob("inputs*"))


@pytest.mark.parametrize(
    "values", [np.zeros((3, 2), np.float64), np.zeros((2, 2), np.uint8), np.zeros((3, 1), np.float32)]
)
def test_refuses_another_type_or_shape(tmp_path: Path, values: NDArray[Any]) -> None:
    np.save(tmp_path / INPUTS, values)
    with pytest.raises(ArtifactError, match=r"uint8 or float32 \(3, 2\)"):
        read_inputs(tmp_path, 3, 2)


@pytest.mark.parametrize(
    ("value", "gaps", "valid"), [(1, False, True), (np.nan, True, True), (np.nan, False, False), (np.inf, True, False)]
)
def test_only_a_table_may_have_missing_values(tmp_path: Path, value: float, gaps: bool, valid: bool) -> None:
    np.save(tmp_path / INPUTS, np.array([[0, value]], np.float32))
    inputs = read_inputs(tmp_path, 1, 2)
    if valid:
        inputs.check(tmp_path, gaps=gaps)
    else:
        with pytest.raises(ArtifactError, match="finite inputs"):
            inputs.check(tmp_path, gaps=gaps)


@pytest.mark.parametrize(("value", "size"), [(7, "0.1 MB"), (0.5, "0.4 MB")])
def test_the_size_is_known_before_the_build(value: float, size: str) -> None:
    assert f" {size};" in size_line(made_rows(np.full((1_000, 100), value, np.float32)))

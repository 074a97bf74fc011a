from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.index.evaluation.input_parts import parts_of
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.tables.columns import Column
from lookalike.training.transforms import WindowTransform
from tests.factories import encoder_at


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(encoder_at(tmp_path_factory.mktemp("encoder") / "encoder", np.eye(2, dtype=np.float32)))


def shaped(encoder: Encoder, *shape: int, channels: tuple[str, ...] | None = None) -> Encoder:
    """The same encoder, which says that its rows have another shape."""
    header: dict[str, Any] = {**encoder.header, "input_shape": list(shape)}
    if channels:
        header["transform"] = WindowTransform(window=shape[0], hop=1, channels=channels).model_dump(mode="json")
    return replace(encoder, header=header)


SHAPES = st.one_of(
    st.tuples(st.integers(1, 300)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 9])),
)


@given(shape=SHAPES, window=st.booleans())
def test_each_value_is_in_one_part(plain: Encoder, shape: tuple[int, ...], window: bool) -> None:
    channels = tuple(f"c{number}" for number in range(shape[1])) if window and len(shape) == 2 else None
    parts = parts_of(shaped(plain, *shape, channels=channels))
    assert sorted(np.concatenate([part.at for part in parts])) == list(range(int(np.prod(shape))))
    assert len({part.name for part in parts}) == len(parts) <= 640


def test_a_picture_has_tiles_of_at_least_two_pixels(plain: Encoder) -> None:
    tiles = parts_of(shaped(plain, 8, 6))
    assert len(tiles) == 4 * 3
    assert tiles[4].bounds == {"top": 2, "left": 2, "bottom": 4, "right": 4}
    assert tiles[4].name == "rows 2-3, columns 2-3"
    assert tiles[4].at.tolist() == [14, 15, 20, 21]
    assert len(parts_of(shaped(plain, 64, 64, 3))) == 49


def test_a_window_has_segments_of_each_channel(plain: Encoder) -> None:
    segments = parts_of(shaped(plain, 64, 2, channels=("x", "y")))
    assert len(segments) == 32
    assert segments[17].bounds == {"channel": "y", "start": 4, "stop": 8}
    assert segments[17].at.tolist() == [9, 11, 13, 15]
    assert segments[17].name == "y, samples 4-7"


@pytest.mark.parametrize(("channels", "parts"), [(16, 16 * 16), (64, 64 * 4), (65, 16)])
def test_many_channels_have_fewer_segments(plain: Encoder, channels: int, parts: int) -> None:
    names = tuple(map(str, range(channels)))
    assert len(parts_of(shaped(plain, 64, channels, channels=names))) == parts


def test_other_rows_have_single_values_or_a_few_together(plain: Encoder) -> None:
    assert [part.name for part in parts_of(plain)] == ["value 0", "value 1"]
    assert [part.name for part in parts_of(shaped(plain, 128))][:2] == ["values 0-1", "values 2-3"]


def test_columns_of_one_field_are_one_part(plain: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    derived = [SimpleNamespace(name=f"when.{part}", field="when", kind="numeric") for part in ("hour", "month")]
    columns = (Column("age"), derived[0], Column("color", "categorical", ("red",)), derived[1])
    monkeypatch.setattr(Encoder, "columns", property(lambda self: columns))
    parts = parts_of(plain)
    assert [(part.name, part.at.tolist()) for part in parts] == [("age", [0]), ("when", [1, 3]), ("color", [2])]
    assert [column.name for column in parts[1].columns] == ["when.hour", "when.month"]

"""Normalized windows by hand and against NumPy; the same bits in every batch."""

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lookalike.training.artifact.normalizer import Normalizer, normalizer_of
from lookalike.training.transforms import WindowTransform

Kind = Literal["center", "standard"]


def test_center_by_hand() -> None:
    rows = torch.tensor([[1.0, 10.0, 3.0, 20.0]])  # the channels 1, 3 and 10, 20
    assert Normalizer(2, 2, "center", "channel")(rows).tolist() == [[-1, -5, 1, 5]]
    assert Normalizer(2, 2, "center", "all")(rows).tolist() == [[-7.5, 1.5, -5.5, 11.5]]


def test_standard_by_hand() -> None:
    rows = torch.tensor([[1.0, 10.0, 3.0, 20.0]])
    assert Normalizer(2, 2, "standard", "channel")(rows).tolist() == [[-1, -1, 1, 1]]


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, 3e30])
@pytest.mark.parametrize("window", [1, 7, 256, 1_000])
def test_a_constant_window_becomes_zero(value: float, window: int) -> None:
    rows = torch.full((3, window), value)
    assert not Normalizer(window, 1, "standard", "channel")(rows).any()


@given(
    seed=st.integers(0, 99),
    window=st.integers(1, 40),
    channels=st.integers(1, 4),
    kind=st.sampled_from(["center", "standard"]),
    over=st.sampled_from(["channel", "all"]),
)
def test_agrees_with_numpy(seed: int, window: int, channels: int, kind: Kind, over: Literal["channel", "all"]) -> None:
    rows = np.random.default_rng(seed).normal(3, 2, (5, window, channels)).astype(np.float32)
    axes = 1 if over == "channel" else (1, 2)
    exact = rows.astype(np.float64)
    expected = exact - exact.mean(axis=axes, keepdims=True)
    if kind == "standard":
        deviation = exact.std(axis=axes, keepdims=True)
        expected = expected / np.where(deviation > 1e-12, deviation, 1)
    found = Normalizer(window, channels, kind, over)(torch.from_numpy(rows.reshape(5, -1)))
    np.testing.assert_allclose(found.numpy().reshape(rows.shape), expected, atol=1e-6, rtol=1e-6)


def test_a_window_has_the_same_bits_in_every_batch() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(1e3, 1, (300, 250 * 3)).astype(np.float32))
    normalizer = Normalizer(250, 3, "standard", "channel")
    whole = normalizer(rows)
    for count in (1, 2, 3, 8, 65):
        assert torch.equal(normalizer(rows[:count]), whole[:count])
        assert torch.equal(normalizer(rows[-count:]), whole[-count:])


def test_blocks_are_normalized_as_the_whole() -> None:
    rows = np.random.default_rng(0).normal(size=(5_000, 6)).astype(np.float32)
    normalizer = Normalizer(3, 2, "center", "channel")
    np.testing.assert_array_equal(normalizer.each_block(rows), normalizer(torch.from_numpy(rows)).numpy())


def test_only_windows_that_are_normalized_have_a_normalizer() -> None:
    plain = WindowTransform(window=4, hop=2, channels=("a", "b"))
    assert normalizer_of(plain) is None
    assert normalizer_of(None) is None
    found = normalizer_of(plain.model_copy(update={"normalize": "center", "normalize_over": "all"}))
    assert found == Normalizer(4, 2, "center", "all")

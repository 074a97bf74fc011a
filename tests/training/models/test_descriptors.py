import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lookalike.training.models.descriptors import (
    ORIENTATIONS,
    SMALLEST,
    Gradients,
    WithDescriptor,
    automatic_cell,
    fit_descriptor,
)


def pictures(count: int, height: int, width: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, height * width * channels, generator=generator)


def by_angles(picture: NDArray[np.float64], cell: int) -> NDArray[np.float64]:
    """The descriptor of one picture, (h, w, c), pixel by pixel and with an arc tangent."""
    height, width, channels = picture.shape
    rows, columns = math.ceil(height / cell), math.ceil(width / cell)
    votes, lengths = np.zeros((rows, columns, ORIENTATIONS)), np.zeros((rows, columns))
    for y in range(height):
        for x in range(width):
            gradients = [
                (
                    picture[y, min(x + 1, width - 1), c] - picture[y, max(x - 1, 0), c],
                    picture[min(y + 1, height - 1), x, c] - picture[max(y - 1, 0), x, c],
                )
                for c in range(channels)
            ]
            across, down = max(gradients, key=lambda gradient: math.hypot(*gradient))
            length, angle = math.hypot(across, down), math.atan2(down, across)
            for number in range(ORIENTATIONS):
                share = math.cos(angle - number * math.pi / ORIENTATIONS) ** 16 * length / cell**2
                votes[y // cell, x // cell, number] += share
            lengths[y // cell, x // cell] += length / cell**2
    padded = np.pad(lengths, 1)
    around = np.mean([padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)
    return np.asarray(np.sqrt(votes / (around[..., None] + SMALLEST)).reshape(-1))


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 7, 1), (8, 12, 3)])
def test_gradients_are_those_of_the_definition(shape: tuple[int, int, int]) -> None:
    rows = 10 * pictures(3, *shape)
    expected = [by_angles(row.double().numpy().reshape(shape), 3) for row in rows]
    np.testing.assert_allclose(Gradients(*shape, 3)(rows).numpy(), expected, atol=2e-3)


def test_an_edge_has_the_orientation_across_it() -> None:
    ramp = torch.arange(8.0).repeat(8, 1)  # brighter to the right: the gradient is horizontal
    right, down = (Gradients(8, 8, 1, 4)(each.reshape(1, -1)).reshape(4, ORIENTATIONS) for each in (ramp, ramp.T))
    assert right.argmax(dim=1).tolist() == [0, 0, 0, 0]
    assert set(down.argmax(dim=1).tolist()) <= {4, 5}  # 80 and 100 degrees are equally near to 90


def test_brightness_changes_nothing_and_contrast_little() -> None:
    rows, describe = 10 * pictures(5, 8, 8), Gradients(8, 8, 1, 2)
    torch.testing.assert_close(describe(rows + 3), describe(rows), atol=1e-4, rtol=0)
    torch.testing.assert_close(describe(5 * rows), describe(rows), atol=1e-2, rtol=0)


def test_a_flat_picture_has_no_direction() -> None:
    assert not Gradients(8, 8, 1, 2)(torch.full((2, 64), 7.0)).any()


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.integers(1, 3),
    cell=st.integers(1, 8),
    count=st.integers(1, 40),
)
def test_a_row_has_the_same_descriptor_in_every_batch(
    height: int, width: int, channels: int, cell: int, count: int
) -> None:
    rows, describe = pictures(count, height, width, channels), Gradients(height, width, channels, cell)
    together = describe(rows)
    assert together.shape == (count, describe.outs)
    assert bool(((together >= 0) & torch.isfinite(together)).all())
    assert torch.equal(together[-1:], describe(rows[-1:]))


def test_a_fitted_layer_appends_centered_values_of_deviation_1() -> None:
    rows, base = pictures(600, 8, 8), torch.full((64,), 0.5)
    layer = fit_descriptor(Gradients(8, 8, 1, 2), rows, base)
    output = layer(rows)
    assert torch.equal(output[:, :64], rows)
    added = output[:, 64:].double()
    assert float(added.mean(dim=0).abs().max()) < 1e-4
    assert float(added.square().mean()) == pytest.approx(1, abs=1e-4)
    expected = (Gradients(8, 8, 1, 2)(rows + base) - layer.offset) * layer.factor
    torch.testing.assert_close(output[:, 64:], expected)


def test_rows_without_edges_are_scaled_by_1() -> None:
    layer = fit_descriptor(Gradients(8, 8, 1, 4), torch.zeros(3, 64), torch.zeros(64))
    assert isinstance(layer, WithDescriptor)
    assert not layer.describe(torch.zeros(2, 64)).any()


@pytest.mark.parametrize(("sides", "cell"), [((8, 8), 2), ((28, 28), 4), ((64, 64), 8), ((32, 48), 6), ((4, 4), 2)])
def test_the_automatic_cell_is_an_eighth_of_the_longer_side(sides: tuple[int, int], cell: int) -> None:
    assert automatic_cell(*sides) == cell

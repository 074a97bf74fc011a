import math
from typing import Any, cast, get_args

import pytest
import torch
from torch import Tensor, nn

from lookalike.training.config import ModelConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.layers import (
    ACTIVATIONS,
    ToPicture,
    ToRows,
    ToSeries,
    fans,
    inner,
    latent,
    outer,
    picture_shape,
)


def kinds(parts: list[nn.Module]) -> list[str]:
    return [type(part).__name__ for part in parts]


def spread(layer: nn.Module, pictures: Tensor) -> float:
    """The mean square of a layer's output for pictures of mean square 1, away from the edges."""
    output: Tensor = layer(pictures).detach()
    return float(output[:, :, 4:-4, 4:-4].square().mean())


def test_every_configurable_activation_exists() -> None:
    named = {kind for field in ("activation", "output") for kind in get_args(ModelConfig.__annotations__[field])}
    assert named == set(ACTIVATIONS)


def test_a_row_is_a_picture_line_by_line_with_adjacent_channels() -> None:
    # 2 x 2 pixels of red, green and blue: the red ones are the values 0, 3, 6 and 9.
    picture = ToPicture(2, 2, 3)(torch.arange(12.0)[None])
    assert picture.shape == (1, 3, 2, 2)
    assert picture[0, 0].tolist() == [[0, 3], [6, 9]]
    assert picture[0, 2].tolist() == [[2, 5], [8, 11]]


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 1), (1, 7, 4), (3, 2, 3)])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_a_picture_becomes_the_original_row(shape: tuple[int, int, int], count: int) -> None:
    rows = torch.randn(count, math.prod(shape))
    assert torch.equal(ToRows()(ToPicture(*shape)(rows)), rows)


@pytest.mark.parametrize(
    ("shape", "expected"), [((8, 6), (8, 6, 1)), ((8, 6, 3), (8, 6, 3)), ((1, 1), (1, 1, 1)), ((4, 4, 1), (4, 4, 1))]
)
def test_a_picture_has_height_width_and_channels(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert picture_shape(shape, "model.kind") == expected


@pytest.mark.parametrize("shape", [(), (64,), (2, 3, 4, 5)])
def test_refuses_rows_that_are_not_pictures_and_names_the_setting(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        picture_shape(shape, "corruption.kind")
    assert caught.value.field == "corruption.kind"
    assert caught.value.expected == "pictures: rows of shape (height, width) or (height, width, channels)"
    assert caught.value.found == f"rows of shape ({', '.join(map(str, shape))})"


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (nn.Linear(2, 5), "BatchNorm1d"),
        (nn.Conv2d(2, 5, 3), "BatchNorm2d"),
        (nn.ConvTranspose2d(2, 5, 3), "BatchNorm2d"),
    ],
)
def test_between_layers_come_batch_norm_activation_and_dropout_as_configured(layer: Any, norm: str) -> None:
    parts = inner(layer, ModelConfig(activation="gelu", dropout=0.2))
    assert kinds(parts) == [type(layer).__name__, norm, "GELU", "Dropout"]
    assert len(cast(nn.BatchNorm1d, parts[1]).weight) == 5
    assert cast(nn.Dropout, parts[3]).p == 0.2
    assert kinds(inner(layer, ModelConfig(activation="gelu", batch_norm=False))) == [type(layer).__name__, "GELU"]


@pytest.mark.parametrize("layer", [nn.Conv2d(16, 32, 3, 2, 1), nn.ConvTranspose2d(32, 16, 3, 2, 1)])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_before_a_rectifier_a_convolution_doubles_the_power_in_either_direction(layer: Any, activation: str) -> None:
    # He et al. 2015, section 2.2: this makes up for the half that the rectifier removes. Biases start at 0.
    torch.manual_seed(0)
    outer(layer, activation)
    assert spread(layer, torch.randn(20, layer.in_channels, 40, 40)) == pytest.approx(2, rel=0.1)
    assert not layer.bias.any()


def test_before_other_activations_forward_and_backward_power_are_balanced() -> None:
    # Glorot and Bengio 2010, equation 12. With a 3 x 3 kernel in steps of 2, 9 places reach an output, and an input
    # reaches 9 / 4 on average: 16 * 9 = 144 and 32 * 9 / 4 = 72, so the output power is 144 * 2 / 216 of the input
    # power. For the transposed convolution, which goes the other way, it is 72 * 2 / 216.
    torch.manual_seed(0)
    for layer, expected in ((nn.Conv2d(16, 32, 3, 2, 1), 4 / 3), (nn.ConvTranspose2d(32, 16, 3, 2, 1), 2 / 3)):
        outer(layer, "tanh")
        pictures = torch.randn(20, layer.in_channels, 40, 40)
        assert spread(layer, pictures) == pytest.approx(expected, rel=0.1)


def test_a_last_layer_has_only_its_activation() -> None:
    assert kinds(outer(nn.Linear(2, 2), "sigmoid")) == ["Linear", "Sigmoid"]


def test_the_latent_layer_is_normalized_and_has_noise_in_training_only() -> None:
    # Half of the outputs are 1 and half are 5: mean 3, deviation 2.
    linear, norm, _, noise = latent(nn.Linear(1, 1), ModelConfig(latent_noise=0.25))
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    nn.init.constant_(linear.weight, 4.0)
    nn.init.constant_(linear.bias, 1.0)
    halves = torch.tensor([[0.0], [1.0]]).repeat(20_000, 1)
    scaled = norm(linear(halves)).detach()
    assert scaled[:2].flatten().tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    assert not any(weights.requires_grad for weights in norm.parameters())
    assert float((noise(scaled) - scaled).std()) == pytest.approx(0.25, rel=0.02)
    assert torch.equal(noise.eval()(scaled), scaled)


def test_a_plain_latent_layer_is_linear() -> None:
    parts = latent(nn.Linear(3, 2), ModelConfig(latent_norm=False, latent_noise=0.0))
    assert [type(part) for part in parts] == [nn.Linear, nn.Identity]


def test_a_series_has_the_channels_first_and_becomes_the_same_row() -> None:
    series = ToSeries(3, 2)(torch.arange(6.0)[None])
    assert series.tolist() == [[[0, 2, 4], [1, 3, 5]]]
    assert ToRows()(series).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_initializes_convolutions_of_series_for_half_of_the_places() -> None:
    # Stride 2: an input sample reaches half of the kernel's 5 places; transposed, an output sample depends on half.
    assert fans(nn.Conv1d(3, 4, 5, 2, 2)) == (15, 10)
    assert fans(nn.ConvTranspose1d(3, 4, 5, 2, 2)) == (7.5, 20)

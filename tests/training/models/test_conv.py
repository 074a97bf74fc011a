import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lookalike.training.config import ModelConfig, OptimizerConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.conv import conv_stacks
from lookalike.training.models.losses import LOSSES
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.rows import open_rows, read_sample

FEW = st.lists(st.integers(1, 5), max_size=5).map(tuple)


def conv(channels: tuple[int, ...] = (4, 6), **changes: object) -> ModelConfig:
    return ModelConfig(kind="conv", channels=channels, latent_norm=False, latent_noise=0.0, **changes)  # type: ignore[arg-type]


def sizes(stack: nn.Sequential, rows: Tensor) -> list[tuple[int, ...]]:
    """The output shapes of the convolutions and the linear layers, without the batch."""
    seen: list[tuple[int, ...]] = []
    for layer in stack:
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda part, inputs, output: seen.append(tuple(output.shape[1:])))
    stack(rows)
    return seen


def ones(stack: nn.Sequential) -> nn.Sequential:
    """All weights 1, all biases 0."""
    for name, weights in stack.named_parameters():
        nn.init.constant_(weights, float(name.endswith("weight")))
    return stack


@settings(max_examples=60)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 17), st.integers(1, 17)),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
    ),
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple),
    decoder=st.one_of(st.just("mirror"), FEW),
    latent=st.integers(1, 4),
)
def test_pictures_of_any_size_keep_their_size(
    shape: tuple[int, ...], channels: tuple[int, ...], decoder: object, latent: int
) -> None:
    encoder, decode = conv_stacks(shape, latent, conv(channels, decoder=decoder))
    rows = torch.randn(2, math.prod(shape))
    assert encoder(rows).shape == (2, latent)
    assert decode(encoder(rows)).shape == rows.shape


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 7)),
    channels=st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple),
    decoder=st.one_of(st.just("mirror"), FEW),
    latent=st.integers(1, 4),
)
def test_windows_of_any_length_keep_their_length(
    shape: tuple[int, int], channels: tuple[int, ...], decoder: object, latent: int
) -> None:
    encoder, decode = conv_stacks(shape, latent, conv(channels, decoder=decoder), series=True)
    rows = torch.randn(2, math.prod(shape))
    assert encoder(rows).shape == (2, latent)
    assert decode(encoder(rows)).shape == rows.shape


def test_convolutions_of_windows_halve_the_time_and_transposed_convolutions_restore_it() -> None:
    encoder, decoder = conv_stacks((50, 3), 2, conv((4, 5, 6)), series=True)
    assert sizes(encoder, torch.randn(2, 150)) == [(4, 25), (5, 13), (6, 7), (2,)]
    assert sizes(decoder, torch.randn(2, 2)) == [(6 * 7,), (5, 13), (4, 25), (3, 50)]


def test_a_convolution_of_a_window_as_worked_out_by_hand() -> None:
    # Of 4 samples of 1 in 2 channels, a kernel of five ones covers the samples 0 to 2 and 0 to 3: 3 and 4 of each
    # channel. The latent value is the sum: 14.
    encoder, decoder = conv_stacks((4, 2), 1, conv((1,), activation="linear", batch_norm=False), series=True)
    assert ones(encoder)(torch.ones(1, 8)).item() == 14
    # Back: the two places 0 and 2 add ones to the samples 0 to 2, and 0 to 3, of both channels.
    assert ones(decoder)(torch.ones(1, 1)).tolist() == [[2, 2, 2, 2, 2, 2, 1, 1]]


def test_the_channels_of_a_sample_are_adjacent_in_a_row() -> None:
    encoder, _ = conv_stacks((4, 3), 1, conv((1,), activation="linear", batch_norm=False), series=True)
    first = next(layer for layer in encoder if isinstance(layer, nn.Conv1d))
    with torch.no_grad():
        ones(encoder)
        first.weight[:, 1:] = 0
    rows = torch.ones(1, 12, requires_grad=True)
    (slope,) = torch.autograd.grad(encoder(rows).sum(), rows)
    assert slope.tolist() == [[2, 0, 0, 2, 0, 0, 2, 0, 0, 1, 0, 0]]


@pytest.mark.parametrize("shape", [(64,), (8, 8, 1)])
def test_refuses_rows_that_are_not_windows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.kind: expected windows: .*, found rows of shape \("):
        Autoencoder(shape, 2, conv(), series=True)


def test_convolutions_halve_the_sides_rounding_up_and_transposed_convolutions_restore_them() -> None:
    encoder, decoder = conv_stacks((28, 9), 3, conv((4, 5, 6)))
    assert sizes(encoder, torch.randn(2, 28 * 9)) == [(4, 14, 5), (5, 7, 3), (6, 4, 2), (3,)]
    assert sizes(decoder, torch.randn(2, 3)) == [(6 * 4 * 2,), (5, 7, 3), (4, 14, 5), (1, 28, 9)]


def test_a_decoder_may_have_separate_channels_and_any_number_of_steps() -> None:
    encoder, decoder = conv_stacks((28, 9), 3, conv((4,), decoder=(7, 2, 3)))
    assert sizes(encoder, torch.randn(2, 28 * 9)) == [(4, 14, 5), (3,)]
    assert sizes(decoder, torch.randn(2, 3)) == [(7 * 4 * 2,), (2, 7, 3), (3, 14, 5), (1, 28, 9)]


def test_a_decoder_without_channels_is_one_matrix() -> None:
    _, decoder = conv_stacks((4, 4), 3, conv(decoder=(), output="tanh"))
    assert [type(layer) for layer in decoder] == [nn.Linear, nn.Tanh]


def test_a_convolution_as_worked_out_by_hand() -> None:
    # On 3 x 3 pixels of 1, a kernel of ones centered on each corner covers four pixels. The latent value
    # is the sum over the four places: 16.
    encoder, _ = conv_stacks((3, 3), 1, conv((1,), activation="linear", batch_norm=False))
    result = ones(encoder)(torch.ones(1, 9))
    assert result.item() == 16


def test_a_transposed_convolution_as_worked_out_by_hand() -> None:
    # Each of 2 x 2 places adds a kernel of ones to the 3 x 3 pixels, centered on its corner: the sides are covered
    # twice and the center four times.
    _, decoder = conv_stacks((3, 3), 1, conv((1,), activation="linear", batch_norm=False))
    result = ones(decoder)(torch.ones(1, 1))
    assert result.tolist() == [[1, 2, 1, 2, 4, 2, 1, 2, 1]]


def test_the_colors_of_a_pixel_are_adjacent_in_a_row() -> None:
    # An encoder that sees only red depends on the first of each three values.
    encoder, _ = conv_stacks((2, 2, 3), 1, conv((1,), activation="linear", batch_norm=False))
    first = next(layer for layer in encoder if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        ones(encoder)
        first.weight[:, 1:] = 0
    rows = torch.ones(1, 12, requires_grad=True)
    (slope,) = torch.autograd.grad(encoder(rows).sum(), rows)
    assert slope.tolist() == [[1, 0, 0] * 4]


@pytest.mark.parametrize(("batch_norm", "count"), [(False, 690), (True, 766)])
def test_the_number_of_parameters_matches_a_count_by_hand(batch_norm: bool, count: int) -> None:
    # Encoder: 1*4*9+4 = 40, 4*6*9+6 = 222, (2*2*6)*3+3 = 75; decoder: 3*24+24 = 96, 6*4*9+4 = 220, 4*1*9+1 = 37.
    # Batch norms have two parameters for each of 4 and 6 channels, 24 values, and 4 channels.
    model = Autoencoder((8, 8), 3, conv((4, 6), batch_norm=batch_norm))
    assert sum(weights.numel() for weights in model.parameters()) == count


def test_the_stacks_have_the_configured_layers() -> None:
    encoder, decoder = conv_stacks((8, 8), 3, conv((4,), activation="relu", dropout=0.1, output="sigmoid"))
    inner = ["BatchNorm2d", "ReLU", "Dropout"]
    assert [type(layer).__name__ for layer in encoder] == [
        "ToPicture",
        "Conv2d",
        *inner,
        "ToRows",
        "Linear",
        "Identity",
    ]
    assert [type(layer).__name__ for layer in decoder] == [
        *("Linear", "BatchNorm1d", "ReLU", "Dropout", "ToPicture"),
        *("ConvTranspose2d", "Sigmoid", "ToRows"),
    ]


@pytest.mark.parametrize("shape", [(64,), (2, 2, 2, 2)])
def test_refuses_rows_that_are_not_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.kind: expected pictures: .*, found rows of shape \("):
        Autoencoder(shape, 2, conv())


def test_learns_digits_better_than_the_mean_of_each_column() -> None:
    torch.manual_seed(0)
    inputs, _ = read_sample(open_rows("digits"), 400, seed=0)
    rows = torch.from_numpy(inputs) / 16  # (400, 64)
    model = Autoencoder((8, 8), 16, conv((8, 16)))
    optimizer = build_optimizer(OptimizerConfig(lr=0.01), model)
    for _ in range(20):
        for batch in torch.split(rows, 50):
            optimizer.zero_grad()
            LOSSES["mse"](model(batch), batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    error = (model.eval()(rows) - rows).square().mean().item()
    assert error < 0.4 * rows.var(dim=0, correction=0).mean().item()

import math
from typing import Any, cast

import pytest
import torch
from torch import nn

from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder, latent_dim_for


def kinds(stack: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in stack]


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Linear)]


def test_the_decoder_mirrors_the_encoder() -> None:
    model = Autoencoder((6,), 2, ModelConfig(hidden=(5, 4)))
    assert [tuple(w.shape) for w in weights(model)] == [(5, 6), (4, 5), (2, 4), (4, 2), (5, 4), (6, 5)]


@pytest.mark.parametrize(
    ("decoder", "widths"),
    [((7, 3, 9), [(7, 2), (3, 7), (9, 3), (6, 9)]), ((4,), [(4, 2), (6, 4)]), ((), [(6, 2)])],
)
def test_a_decoder_may_have_separate_widths_from_the_latent_space_to_the_output(
    decoder: tuple[int, ...], widths: list[tuple[int, int]]
) -> None:
    model = Autoencoder((6,), 2, ModelConfig(hidden=(5,), decoder=decoder))
    assert [tuple(w.shape) for w in weights(model.encoder)] == [(5, 6), (2, 5)]
    assert [tuple(w.shape) for w in weights(model.decoder)] == widths
    assert model(torch.randn(3, 6)).shape == (3, 6)


def test_an_mlp_flattens_rows_of_any_shape() -> None:
    model = Autoencoder((2, 3, 4), 2, ModelConfig(hidden=()))
    assert [tuple(w.shape) for w in weights(model)] == [(2, 24), (24, 2)]


def test_a_convolutional_autoencoder_has_the_same_interface() -> None:
    model = Autoencoder((5, 4), 2, ModelConfig(kind="conv", channels=(3,)))
    assert kinds(model.encoder)[:2] == ["ToPicture", "Conv2d"]
    assert model.encoder(torch.randn(3, 20)).shape == (3, 2)
    assert model(torch.randn(3, 20)).shape == (3, 20)


@pytest.mark.parametrize(("batch_norm", "count"), [(False, 80), (True, 96)])
def test_the_number_of_parameters_matches_a_count_by_hand(batch_norm: bool, count: int) -> None:
    # 6*4+4 + 4*2+2 + 2*4+4 + 4*6+6 = 80; a batch norm over 4 values has 8, one in each half.
    model = Autoencoder((6,), 2, ModelConfig(hidden=(4,), batch_norm=batch_norm, latent_norm=False, latent_noise=0.0))
    assert sum(p.numel() for p in model.parameters()) == count


def test_between_linear_layers_come_batch_norm_activation_and_dropout_and_the_latent_is_linear() -> None:
    config = ModelConfig(
        hidden=(4,), activation="relu", dropout=0.2, output="sigmoid", latent_norm=False, latent_noise=0.0
    )
    model = Autoencoder((6,), 2, config)
    inner = ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert kinds(model.encoder) == [*inner, "Identity"]
    assert kinds(model.decoder) == [*inner, "Sigmoid"]


def test_without_hidden_layers_each_half_is_one_matrix() -> None:
    model = Autoencoder((3,), 2, ModelConfig(hidden=(), latent_norm=False, latent_noise=0.0))
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    encoder, decoder = weights(model)
    torch.testing.assert_close(model(rows), rows @ encoder.T @ decoder.T)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "gelu", "silu"])
def test_rectifiers_have_he_initialization(activation: str) -> None:
    # He et al. 2015, equation 10: variance 2 / fan_in; uniform within sqrt(3 * variance).
    torch.manual_seed(0)
    first = weights(Autoencoder((300,), 2, ModelConfig(hidden=(200,), activation=cast(Any, activation))))[0]
    assert float(first.std()) == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert float(first.abs().max()) <= math.sqrt(6 / 300)


def test_other_activations_have_glorot_initialization() -> None:
    # Glorot and Bengio 2010, equation 16: uniform within sqrt(6 / (fan_in + fan_out)).
    torch.manual_seed(0)
    stacks = weights(Autoencoder((300,), 100, ModelConfig(hidden=(200,), activation="tanh")))
    for weight, fans in zip(stacks, (500, 300, 300, 500), strict=True):
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / fans), rel=0.02)
        assert float(weight.abs().max()) <= math.sqrt(6 / fans)


def test_the_latent_and_output_layers_always_have_glorot_initialization() -> None:
    torch.manual_seed(0)
    _, latent, _, output = weights(Autoencoder((300,), 100, ModelConfig(hidden=(200,), activation="relu")))
    for weight, fans in ((latent, 300), (output, 500)):
        assert float(weight.std()) == pytest.approx(math.sqrt(2 / fans), rel=0.02)


def test_biases_start_at_0() -> None:
    model = Autoencoder((6,), 2, ModelConfig())
    assert all(not layer.bias.any() for layer in model.modules() if isinstance(layer, nn.Linear))


@pytest.mark.parametrize(("output", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1)])
def test_a_squashing_output_stays_in_its_range(output: str, low: float, high: float) -> None:
    torch.manual_seed(0)
    model = Autoencoder((6,), 2, ModelConfig(output=cast(Any, output))).eval()
    output_rows = model(100 * torch.randn(50, 6)).detach()
    assert low <= float(output_rows.min()) < float(output_rows.max()) <= high


def test_dropout_and_batch_norm_act_in_training_only() -> None:
    torch.manual_seed(0)
    model = Autoencoder((6,), 2, ModelConfig(hidden=(64,), dropout=0.5))
    rows = torch.randn(8, 6)
    assert not torch.equal(model.train()(rows), model(rows))
    assert torch.equal(model.eval()(rows), model(rows))
    torch.testing.assert_close(model(rows)[:1], model(rows[:1]))  # a row's output does not depend on its batch


@pytest.mark.parametrize(("width", "expected"), [(1, 16), (64, 16), (80, 20), (128, 32), (784, 32)])
def test_auto_is_a_quarter_of_the_columns_between_16_and_32(width: int, expected: int) -> None:
    assert latent_dim_for(width, ModelConfig()) == expected


def test_a_configured_latent_dimension_is_used_unchanged() -> None:
    assert latent_dim_for(4, ModelConfig(latent_dim=7)) == 7

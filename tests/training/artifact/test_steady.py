from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.export import fold
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.artifact.steady import Conv, Deconv, Dense, Product, SeriesConv, SeriesDeconv, steady_activation
from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import ACTIVATIONS

SIZES = (1, 2, 3, 8, 16, 65)


@pytest.fixture(autouse=True)
def restore_thread_count() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def parts_differ(run: Callable[[Tensor], Tensor], rows: Tensor) -> list[tuple[int, int, int]]:
    """The (threads, start, count) for which a part of the rows has other bits than each row alone."""
    with torch.inference_mode():
        torch.set_num_threads(1)
        alone = torch.cat([run(rows[n : n + 1]) for n in range(len(rows))])
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for count in SIZES:
                for start in {0, len(rows) - count}:
                    part = slice(start, start + count)
                    if not torch.equal(run(rows[part].clone()), alone[part]):
                        found.append((threads, start, count))
    return found


class UnsteadyBlocks(Product):
    """A library that sums in a different order for each number of rows, in blocks."""

    def _in_blocks(self, rows: Tensor) -> Tensor:
        return super()._in_blocks(rows) * (1 + 1e-6 * len(rows))


class NothingSteady(UnsteadyBlocks):
    def _by_onednn(self, rows: Tensor) -> Tensor:
        return super()._by_onednn(rows) * (1 + 1e-6 * len(rows))


@pytest.mark.parametrize("kind", [Product, UnsteadyBlocks, NothingSteady])
@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (3, 5), (784, 33), (1500, 2), (64, 128)])
def test_a_product_has_the_same_bits_in_every_batch(kind: type[Product], ins: int, outs: int) -> None:
    torch.manual_seed(0)
    weight, bias, rows = torch.randn(outs, ins), torch.randn(outs), torch.randn(100, ins)
    product = kind(weight, bias)
    exact = rows.double() @ weight.double().T + bias.double()
    np.testing.assert_allclose(product(rows).double(), exact, rtol=1e-3, atol=2e-4)
    assert parts_differ(product, rows) == []


@pytest.mark.parametrize("count", [0, 1, 40, 500])
@pytest.mark.parametrize("sliced", [False, True])
def test_a_dense_layer_is_correct_for_few_and_many_rows(count: int, sliced: bool) -> None:
    """500 rows of 512 values are enough for several blocks."""
    layer, rows = Dense(512, 200).requires_grad_(False), torch.randn(count, 1024)
    rows = rows[:, ::2] if sliced else rows[:, :512].contiguous()
    exact = rows.double().numpy() @ layer.weight.double().numpy().T + layer.bias.double().numpy()
    with torch.inference_mode():
        result = layer(rows)
    assert (result.dtype, result.layout, result.shape) == (torch.float32, torch.strided, (count, 200))
    np.testing.assert_allclose(result.numpy(), exact, atol=1e-5)


def test_no_rows_have_no_results() -> None:
    assert Product(torch.ones(3, 2), torch.ones(3))(torch.empty(0, 2)).shape == (0, 3)


def test_weights_that_change_in_place_change_the_result() -> None:
    layer = Dense(2, 1).requires_grad_(False)
    layer.weight.fill_(1)
    layer.bias.fill_(0)
    rows = torch.tensor([[1.0, 2.0]])
    assert layer(rows).tolist() == [[3]]
    layer.weight.fill_(2)
    layer.bias.fill_(0.5)
    assert layer(rows).tolist() == [[6.5]]


@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (5, 8), (7, 2)])
def test_convolutions_match_those_of_torch(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pictures = torch.randn(3, 4, *sides)
    conv = Conv(4, 5, 3, 2, 1).requires_grad_(False)
    torch.testing.assert_close(conv(pictures), nn.Conv2d.forward(conv, pictures))
    for more in ((0, 0), (1, 0), (1, 1)):
        deconv = Deconv(4, 5, 3, 2, 1, output_padding=more).requires_grad_(False)
        torch.testing.assert_close(deconv(pictures), nn.ConvTranspose2d.forward(deconv, pictures))


@pytest.mark.parametrize("length", [1, 4, 5, 50])
def test_convolutions_of_series_match_those_of_torch(length: int) -> None:
    torch.manual_seed(0)
    series = torch.randn(3, 4, length)
    conv = SeriesConv(4, 6, 5, 2, 2).requires_grad_(False)
    torch.testing.assert_close(conv(series), nn.Conv1d.forward(conv, series))
    for more in (0, 1):
        deconv = SeriesDeconv(4, 6, 5, 2, 2, output_padding=more).requires_grad_(False)
        torch.testing.assert_close(deconv(series), nn.ConvTranspose1d.forward(deconv, series))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_the_same_bits_at_every_position(name: str) -> None:
    torch.manual_seed(0)
    values = torch.randn(100, 1001) * 3
    activation = steady_activation(ACTIVATIONS[name])
    torch.testing.assert_close(activation(values), ACTIVATIONS[name]()(values))
    assert parts_differ(activation, values) == []


def untrained_encoder(folder: Path, shape: tuple[int, ...], config: ModelConfig, output: str) -> Encoder:
    torch.manual_seed(0)
    model = Autoencoder(shape, 3, config, series=len(shape) == 2).eval()
    rows = np.random.default_rng(0).normal(size=(50, int(np.prod(shape)))).astype(np.float32)
    header = {"input_shape": list(shape), "latent_dim": 3, "output": output}
    folder.mkdir()
    write_encoder(
        folder, fold(model.encoder), fold(model.decoder), preprocess=fit_preprocessor(rows, "standard"), header=header
    )
    return load_encoder(folder)


@pytest.mark.parametrize("output", ["values", "logits"])
@pytest.mark.parametrize(
    ("shape", "config"),
    [
        ((30,), ModelConfig(hidden=(65, 7), activation="silu")),
        ((400,), ModelConfig(hidden=(9,), activation="gelu")),
        ((3,), ModelConfig(hidden=())),
        ((4, 5, 1), ModelConfig(kind="conv", channels=(3, 8), activation="gelu")),
        ((9, 7, 3), ModelConfig(kind="conv", channels=(5, 6), activation="silu")),
        ((51, 6), ModelConfig(kind="conv", channels=(32, 9), activation="silu")),
        ((7, 1), ModelConfig(kind="conv", channels=(3,), activation="gelu")),
    ],
)
def test_a_row_has_the_same_embedding_error_and_reconstruction_in_every_batch(
    tmp_path: Path, shape: tuple[int, ...], config: ModelConfig, output: str
) -> None:
    encoder = untrained_encoder(tmp_path / "e", shape, config, output)
    rows = torch.randn(70, int(np.prod(shape)), generator=torch.Generator().manual_seed(1))

    def run(part: Tensor) -> Tensor:
        latent, errors = encoder.encode_with_errors(part.numpy())
        assert np.array_equal(latent, encoder.encode(part.numpy()))
        return torch.from_numpy(np.column_stack([latent, errors, encoder.reconstruct(part.numpy())]))

    assert parts_differ(run, rows) == []

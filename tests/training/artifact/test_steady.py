from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.export import fold
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.artifact.steady import Conv, Deconv, Dense, Product, steady_activation
from lookalike.training.config import ModelConfig
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import ACTIVATIONS

SIZES = (1, 2, 3, 8, 16, 65)


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def parts_differ(answer: Callable[[Tensor], Tensor], rows: Tensor) -> list[tuple[int, int, int]]:
    """The (threads, start, count) for which a part of the rows is answered by other bits than all of them alone."""
    with torch.inference_mode():
        torch.set_num_threads(1)
        alone = torch.cat([answer(rows[n : n + 1]) for n in range(len(rows))])
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for count in SIZES:
                for start in {0, len(rows) - count}:
                    part = slice(start, start + count)
                    if not torch.equal(answer(rows[part].clone()), alone[part]):
                        found.append((threads, start, count))
    return found


class UnsteadyBlocks(Product):
    """A library that adds up in another order for each number of rows, by and large."""

    def _in_blocks(self, rows: Tensor) -> Tensor:
        return super()._in_blocks(rows) * (1 + 1e-6 * len(rows))


class NothingSteady(UnsteadyBlocks):
    def _by_onednn(self, rows: Tensor) -> Tensor:
        return super()._by_onednn(rows) * (1 + 1e-6 * len(rows))


@pytest.mark.parametrize("kind", [Product, UnsteadyBlocks, NothingSteady])
@pytest.mark.parametrize(("ins", "outs"), [(1, 1), (3, 5), (784, 33), (1500, 2), (64, 128)])
def test_a_row_is_multiplied_to_the_same_bits_in_every_batch(kind: type[Product], ins: int, outs: int) -> None:
    torch.manual_seed(0)
    weight, bias, rows = torch.randn(outs, ins), torch.randn(outs), torch.randn(100, ins)
    product = kind(weight, bias)
    exact = rows.double() @ weight.double().T + bias.double()
    np.testing.assert_allclose(product(rows).double(), exact, rtol=1e-3, atol=2e-4)
    assert parts_differ(product, rows) == []


@pytest.mark.parametrize("count", [0, 1, 40, 500])
@pytest.mark.parametrize("sliced", [False, True])
def test_a_dense_layer_multiplies_few_rows_and_many_alike(count: int, sliced: bool) -> None:
    """500 rows of 512 values into 200 are so many that they are multiplied in several blocks."""
    layer, rows = Dense(512, 200).requires_grad_(False), torch.randn(count, 1024)
    rows = rows[:, ::2] if sliced else rows[:, :512].contiguous()
    exact = rows.double().numpy() @ layer.weight.double().numpy().T + layer.bias.double().numpy()
    with torch.inference_mode():
        made = layer(rows)
    assert (made.dtype, made.layout, made.shape) == (torch.float32, torch.strided, (count, 200))
    np.testing.assert_allclose(made.numpy(), exact, atol=1e-5)


def test_no_rows_make_no_rows() -> None:
    assert Product(torch.ones(3, 2), torch.ones(3))(torch.empty(0, 2)).shape == (0, 3)


def test_weights_that_change_in_place_are_those_that_answer() -> None:
    layer = Dense(2, 1).requires_grad_(False)
    layer.weight.fill_(1)
    layer.bias.fill_(0)
    rows = torch.tensor([[1.0, 2.0]])
    assert layer(rows).tolist() == [[3]]
    layer.weight.fill_(2)
    layer.bias.fill_(0.5)
    assert layer(rows).tolist() == [[6.5]]


@pytest.mark.parametrize("sides", [(1, 1), (4, 4), (5, 8), (7, 2)])
def test_convolutions_make_what_those_of_torch_make(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    pictures = torch.randn(3, 4, *sides)
    conv = Conv(4, 5, 3, 2, 1).requires_grad_(False)
    torch.testing.assert_close(conv(pictures), nn.Conv2d.forward(conv, pictures))
    for more in ((0, 0), (1, 0), (1, 1)):
        deconv = Deconv(4, 5, 3, 2, 1, output_padding=more).requires_grad_(False)
        torch.testing.assert_close(deconv(pictures), nn.ConvTranspose2d.forward(deconv, pictures))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_value_is_activated_to_the_same_bits_wherever_it_stands(name: str) -> None:
    torch.manual_seed(0)
    values = torch.randn(100, 1001) * 3
    activation = steady_activation(ACTIVATIONS[name])
    torch.testing.assert_close(activation(values), ACTIVATIONS[name]()(values))
    assert parts_differ(activation, values) == []


def made(folder: Path, shape: tuple[int, ...], config: ModelConfig, output: str) -> Encoder:
    torch.manual_seed(0)
    model = Autoencoder(shape, 3, config).eval()
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
    ],
)
def test_a_row_has_the_same_embedding_error_and_reconstruction_in_every_batch(
    tmp_path: Path, shape: tuple[int, ...], config: ModelConfig, output: str
) -> None:
    encoder = made(tmp_path / "e", shape, config, output)
    rows = torch.randn(70, int(np.prod(shape)), generator=torch.Generator().manual_seed(1))

    def answer(some: Tensor) -> Tensor:
        latent, errors = encoder.encode_with_errors(some.numpy())
        assert np.array_equal(latent, encoder.encode(some.numpy()))
        return torch.from_numpy(np.column_stack([latent, errors, encoder.reconstruct(some.numpy())]))

    assert parts_differ(answer, rows) == []

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import nn

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.export import export, fold, live_embeddings, neighbor_agreement
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import ModelConfig
from lookalike.training.errors import ExportError
from lookalike.training.models.autoencoder import Autoencoder
from tests.factories import blobs

ROWS = blobs(200)
SCALING = fit_preprocessor(ROWS, "standard")
HEADER = {"input_shape": [6], "latent_dim": 2, "output": "values"}


def used_model(
    config: ModelConfig, seed: int = 0, shape: tuple[int, ...] = (6,), *, series: bool = False
) -> Autoencoder:
    """A model whose batch norms have seen rows, and whose scales and shifts are not 1 and 0."""
    torch.manual_seed(seed)
    model = Autoencoder(shape, 2, config, series=series).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
    for _ in range(30):
        model(torch.randn(32, math.prod(shape)) * 3 + 1)
    return model.eval()


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


@settings(max_examples=15)
@given(
    activation=st.sampled_from(["relu", "leaky_relu", "gelu", "silu", "tanh"]),
    hidden=st.lists(st.integers(1, 16), max_size=3),
    dropout=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1_000),
)
def test_a_folded_model_has_the_same_results(activation: str, hidden: list[int], dropout: float, seed: int) -> None:
    model = used_model(ModelConfig(hidden=tuple(hidden), activation=activation, dropout=dropout), seed)  # type: ignore[arg-type]
    rows = SCALING.apply(torch.from_numpy(ROWS))
    folded = fold(model.encoder)
    assert {type(layer) for layer in folded}.isdisjoint({nn.BatchNorm1d, nn.Dropout})
    torch.testing.assert_close(folded(rows), model.encoder(rows), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(fold(model.decoder)(folded(rows)), model(rows), atol=1e-5, rtol=1e-5)


@settings(max_examples=15)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)),
        st.tuples(st.integers(1, 20), st.integers(1, 4)),
    ),
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    decoder=st.one_of(st.just("mirror"), st.lists(st.integers(1, 6), max_size=3).map(tuple)),
    dropout=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1_000),
)
def test_a_folded_convolutional_model_has_the_same_results(
    shape: tuple[int, ...], channels: list[int], decoder: Any, dropout: float, seed: int
) -> None:
    config = ModelConfig(kind="conv", channels=tuple(channels), decoder=decoder, dropout=dropout)
    model = used_model(config, seed, shape, series=len(shape) == 2)
    rows = torch.randn(20, math.prod(shape))
    for stack, inputs in ((model.encoder, rows), (model.decoder, model.encoder(rows))):
        folded = fold(stack)
        assert {type(layer) for layer in folded}.isdisjoint({nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout})
        torch.testing.assert_close(folded(inputs), stack(inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_folding_into_a_convolution_as_worked_out_by_hand(kind: type[nn.Conv2d]) -> None:
    # Channel by channel: 3x + 1, then (v - 4) / 2 * 10 + 5, is 15x - 10; 2x, then v * 7, is 14x.
    layer, norm = kind(1, 2, 1), nn.BatchNorm2d(2)
    shift = norm.eps
    values: list[tuple[torch.Tensor | None, list[float]]] = [
        (layer.weight, [3, 2]),
        (layer.bias, [1, 0]),
        (norm.weight, [10, 7]),
        (norm.bias, [5, 0]),
        (norm.running_mean, [4, 0]),
        (norm.running_var, [4 - shift, 1 - shift]),
    ]
    with torch.no_grad():
        for tensor, numbers in values:
            assert tensor is not None
            tensor.copy_(torch.tensor(numbers).reshape(tensor.shape))
    (folded,) = fold(nn.Sequential(layer, norm))
    assert isinstance(folded, kind)
    assert folded.bias is not None
    assert folded.weight.flatten().tolist() == pytest.approx([15, 14])
    assert folded.bias.tolist() == pytest.approx([-10, 0])


def test_folding_as_worked_out_by_hand() -> None:
    # 3x + 1, then (v - 4) / 2 * 10 + 5: together 15x - 10. The variance is 4 minus its epsilon, so the root is 2.
    linear, norm = nn.Linear(1, 1), nn.BatchNorm1d(1)
    values = [(linear.weight, 3), (linear.bias, 1), (norm.weight, 10), (norm.bias, 5)]
    for tensor, value in [*values, (norm.running_mean, 4), (norm.running_var, 4 - norm.eps)]:
        assert tensor is not None
        nn.init.constant_(tensor, value)
    (folded,) = fold(nn.Sequential(linear, norm))
    assert isinstance(folded, nn.Linear)
    assert (folded.weight.item(), folded.bias.item()) == pytest.approx((15, -10))


def test_folding_does_not_change_the_live_model() -> None:
    model = used_model(ModelConfig(hidden=(4,)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fold(model.train().encoder)
    assert all(layer.training for layer in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_refuses_a_batch_norm_without_a_linear_layer_before_it() -> None:
    with pytest.raises(ExportError, match="a linear layer or a convolution before it, found ReLU"):
        fold(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)))


def test_the_exported_encoder_equals_the_live_model_and_the_folder(tmp_path: Path) -> None:
    model = used_model(ModelConfig(hidden=(8,), dropout=0.3))
    encoder = export(tmp_path / "encoder", model, SCALING, probe=ROWS, header=HEADER)
    np.testing.assert_allclose(encoder.encode(ROWS), live_embeddings(model, SCALING, ROWS), atol=1e-5)
    rebuilt = SCALING.invert(model(SCALING.apply(torch.from_numpy(ROWS)))).detach()
    np.testing.assert_allclose(encoder.reconstruct(ROWS), rebuilt, atol=1e-4)
    assert load_encoder(tmp_path / "encoder").digest == encoder.digest
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


@pytest.mark.parametrize("shape", [(7, 5), (6, 4, 3)])
def test_an_exported_convolutional_encoder_equals_the_live_model(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = used_model(ModelConfig(kind="conv", channels=(4, 5), dropout=0.3), shape=shape)
    rows = np.random.default_rng(0).uniform(0, 255, (300, math.prod(shape))).astype(np.float32)
    scaling = fit_preprocessor(rows, "center")
    header = {"input_shape": list(shape), "latent_dim": 2, "output": "values"}
    encoder = export(tmp_path / "encoder", model, scaling, probe=rows, header=header)
    assert encoder.input_shape == shape
    np.testing.assert_allclose(encoder.encode(rows), live_embeddings(model, scaling, rows), atol=1e-4)
    rebuilt = scaling.invert(model(scaling.apply(torch.from_numpy(rows)))).detach()
    np.testing.assert_allclose(encoder.reconstruct(rows), rebuilt, atol=1e-2)  # of 255


def test_an_encoder_with_different_results_is_never_published(tmp_path: Path) -> None:
    model = used_model(ModelConfig(hidden=(8,), activation="leaky_relu"))
    good = export(tmp_path / "encoder", model, SCALING, probe=ROWS, header=HEADER)
    model.encoder[2] = nn.LeakyReLU(0.5)  # the artifact always has leaky_relu's default slope
    with pytest.raises(ExportError, match=r"exported embeddings: expected at most 0\.0001"):
        export(tmp_path / "encoder", model, SCALING, probe=ROWS, header=HEADER)
    assert load_encoder(tmp_path / "encoder").digest == good.digest
    assert [p.name for p in tmp_path.iterdir()] == ["encoder"]


def test_refuses_an_encoder_with_close_numbers_but_different_neighbors(tmp_path: Path) -> None:
    # Far from the origin, the difference of the slopes is small compared with the numbers but not with the distances.
    model = used_model(ModelConfig(hidden=(8,), activation="leaky_relu", latent_norm=False, latent_noise=0.0))
    model.encoder[2] = nn.LeakyReLU(0.5)
    nn.init.constant_(model.encoder[-2].bias, 1e6)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"exported neighbors: expected at least 99\.9%"):
        export(tmp_path / "encoder", model, SCALING, probe=ROWS, header=HEADER)


def test_equal_embeddings_agree_completely() -> None:
    assert neighbor_agreement(ROWS, ROWS) == 1.0


def test_agreement_as_worked_out_by_hand() -> None:
    # Nearest other rows: live 0 -> 1, 1 -> 0, 2 -> 1; exported 0 -> 1, 1 -> 2, 2 -> 1.
    assert neighbor_agreement(column(0, 1, 3), column(0, 2.2, 3), k=1) == pytest.approx(2 / 3)


def test_agreement_does_not_depend_on_the_origin() -> None:
    assert neighbor_agreement(column(0, 1, 3) + 500, column(0, 2.2, 3) + 500, k=1) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("live", "exported"),
    [
        (column(0, 0, 0, 0), column(0, 0, 0, 0)),
        (column(0, 1, -1), column(0, -1, 1)),  # mirrored: 1 and 2 are equally far from 0 in both
        (column(0, 0, 1, 1), column(1, 1, 0, 0)),
    ],
)
def test_neighbors_at_the_same_distance_have_no_order(live: NDArray[np.float32], exported: NDArray[np.float32]) -> None:
    assert neighbor_agreement(live, exported, k=1) == 1.0


def test_duplicates_beyond_k_do_not_make_equal_embeddings_disagree() -> None:
    rows = np.repeat(ROWS[:3], 30, axis=0)
    assert neighbor_agreement(rows, rows[:, ::-1].copy()) == 1.0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_rows_are_compared_on_fewer_neighbors(count: int) -> None:
    assert neighbor_agreement(ROWS[:count], ROWS[:count]) == 1.0


@pytest.mark.parametrize("noise", [0.05, 0.5, 5.0])
def test_agreement_is_the_share_of_common_neighbors_that_scikit_learn_finds(noise: float) -> None:
    rng = np.random.default_rng(0)
    live = rng.normal(size=(150, 4)).astype(np.float32)
    exported = live + noise * rng.normal(size=live.shape).astype(np.float32)
    near, far = (
        NearestNeighbors(n_neighbors=10).fit(rows).kneighbors(return_distance=False) for rows in (live, exported)
    )
    common = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, far, strict=True)])
    assert neighbor_agreement(live, exported) == pytest.approx(float(common), abs=0.005)

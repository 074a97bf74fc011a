import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from lookalike.training.config import LossConfig
from lookalike.training.models.descriptors import Gradients, fit_descriptor
from lookalike.training.models.losses import build_loss
from lookalike.training.models.targets import DescriptorTarget, fit_target, with_target
from lookalike.training.rows import open_rows, read_sample

DIGITS = torch.from_numpy(read_sample(open_rows("digits"), 500, 0)[0] / 16).float()


@pytest.fixture(scope="module")
def target() -> DescriptorTarget:
    layer = fit_descriptor(Gradients(8, 8, 1, 2), DIGITS, torch.zeros(64))
    return fit_target(layer, DIGITS)


def test_a_target_is_the_principal_components_with_the_root_of_their_deviation(target: DescriptorTarget) -> None:
    described = target.layer.describe(DIGITS).double().numpy()
    pca = PCA(8).fit(described)
    expected = pca.transform(described) / pca.explained_variance_**0.25
    found = target(DIGITS)[:, :8].double().numpy()
    for one, other in zip(found.T, expected.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) == pytest.approx(1, abs=1e-4)
    shares = found.std(axis=0) / found.std(axis=0)[0]
    np.testing.assert_allclose(shares, expected.std(axis=0) / expected.std(axis=0)[0], rtol=1e-3)


def test_a_target_has_mean_0_and_a_mean_square_of_1(target: DescriptorTarget) -> None:
    found = target(DIGITS).double()
    assert found.shape == (500, target.size)
    assert float(found.mean(dim=0).abs().max()) < 1e-3
    assert float(found.square().mean()) == pytest.approx(1, abs=1e-3)


def test_a_target_of_few_rows_has_as_many_components() -> None:
    layer = fit_descriptor(Gradients(8, 8, 1, 2), DIGITS[:5], torch.zeros(64))
    assert fit_target(layer, DIGITS[:5]).size == 4  # centered


def test_the_loss_is_that_of_the_rows_plus_the_weighted_error_of_the_target(target: DescriptorTarget) -> None:
    loss = with_target(build_loss(LossConfig(kind="mse")), target, 3.0)
    rows = DIGITS[:4]
    output = torch.cat([rows + 0.5, target(rows) - 2.0], dim=1)
    assert float(loss(output, rows)) == pytest.approx(0.25 + 3 * 4.0)
    assert loss.function(output, rows, reduction="none").shape == (4, 64 + target.size)


def test_an_exact_output_has_no_loss_and_a_constant_one_that_of_the_variance(target: DescriptorTarget) -> None:
    loss = with_target(build_loss(LossConfig(kind="mse")), target, 1.0)
    assert loss.constant is not None
    assert float(loss(loss.constant(DIGITS), DIGITS)) == 0
    mean = loss.constant(DIGITS.mean(dim=0)).expand(len(DIGITS), -1)
    expected = float(DIGITS.var(dim=0, correction=0).mean()) + 1
    assert float(loss(mean, DIGITS)) == pytest.approx(expected, rel=1e-3)

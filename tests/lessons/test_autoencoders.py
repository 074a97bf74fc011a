"""A linear autoencoder is PCA, to the digit; one with activations is better."""

import pytest
import torch
from sklearn.decomposition import PCA

from lookalike.lessons.autoencoders import SIZES, principal_axes, same_subspace
from lookalike.lessons.workbench import digits
from tests.lessons.conftest import Experiment


def test_linear_is_pca(numbers: Experiment) -> None:
    told = numbers("autoencoders")
    linear, pca = (told[f"test error with 6 numbers, {name}"] for name in ("linear autoencoder", "PCA"))
    assert linear == pytest.approx(pca, rel=0.005)
    assert told["share of the linear decoder's directions that lie in PCA's"] > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_activations_are_better(numbers: Experiment, size: int) -> None:
    told = numbers("autoencoders")
    assert (
        told[f"test error with {size} numbers, autoencoder with activations"]
        < 0.95 * told[f"test error with {size} numbers, PCA"]
    )


def test_less_so_at_two(numbers: Experiment) -> None:
    told = numbers("autoencoders")
    ratios = [
        told[f"test error with {size} numbers, autoencoder with activations"]
        / told[f"test error with {size} numbers, PCA"]
        for size in SIZES
    ]
    assert ratios[0] == max(ratios)
    assert told["test error with 2 numbers, PCA"] < told["test error of the mean picture"]


def test_the_axes_are_scikit_learns() -> None:
    rows = digits(0).train
    theirs = torch.tensor(PCA(6).fit(rows.numpy()).components_.T)
    assert same_subspace(principal_axes(rows - rows.mean(0), 6), theirs) == pytest.approx(1.0, abs=1e-5)


def test_subspaces_by_hand() -> None:
    x, y, z = torch.eye(3).unbind(1)
    assert same_subspace(torch.stack([x, y], 1), torch.stack([x + y, x - y], 1) / 2**0.5) == pytest.approx(1.0)
    assert same_subspace(torch.stack([x, y], 1), torch.stack([x, z], 1)) == pytest.approx(0.5)

"""A linear autoencoder equals PCA; an autoencoder with activations is better."""

import pytest
import torch
from sklearn.decomposition import PCA

from lookalike.lessons.autoencoders import SIZES, principal_axes, same_subspace
from lookalike.lessons.workbench import digits
from tests.lessons.conftest import Experiment


def test_a_linear_autoencoder_equals_pca(numbers: Experiment) -> None:
    measured = numbers("autoencoders")
    linear, pca = (measured[f"test error with 6 numbers, {name}"] for name in ("linear autoencoder", "PCA"))
    assert linear == pytest.approx(pca, rel=0.005)
    assert measured["share of the linear decoder's directions within PCA's"] > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_activations_make_it_better_than_pca(numbers: Experiment, size: int) -> None:
    measured = numbers("autoencoders")
    assert (
        measured[f"test error with {size} numbers, autoencoder with activations"]
        < 0.95 * measured[f"test error with {size} numbers, PCA"]
    )


def test_the_advantage_is_least_with_two_numbers(numbers: Experiment) -> None:
    measured = numbers("autoencoders")
    ratios = [
        measured[f"test error with {size} numbers, autoencoder with activations"]
        / measured[f"test error with {size} numbers, PCA"]
        for size in SIZES
    ]
    assert ratios[0] == max(ratios)
    assert measured["test error with 2 numbers, PCA"] < measured["test error of the mean picture"]


def test_the_axes_match_scikit_learn() -> None:
    rows = digits(0).train
    expected = torch.tensor(PCA(6).fit(rows.numpy()).components_.T)
    assert same_subspace(principal_axes(rows - rows.mean(0), 6), expected) == pytest.approx(1.0, abs=1e-5)


def test_same_subspace_as_worked_out_by_hand() -> None:
    x, y, z = torch.eye(3).unbind(1)
    assert same_subspace(torch.stack([x, y], 1), torch.stack([x + y, x - y], 1) / 2**0.5) == pytest.approx(1.0)
    assert same_subspace(torch.stack([x, y], 1), torch.stack([x, z], 1)) == pytest.approx(0.5)

"""Neighbors in the latent space are alike, more so with more dimensions; its midpoints resemble the data."""

import pytest
import torch

from lookalike.lessons.latent_space import off_the_data
from tests.lessons.conftest import Experiment


def test_neighbors_share_their_label(numbers: Experiment) -> None:
    measured = numbers("latent-space")
    flat, large, chance = (
        measured[f"precision@10 {kind}"]
        for kind in ("in a 2-dimensional latent space", "in an 8-dimensional latent space", "by chance")
    )
    assert chance == pytest.approx(0.1, abs=0.005)
    assert flat > 4 * chance
    assert large > 0.87
    assert flat == pytest.approx(measured["precision@10 in PCA's 2 numbers"], abs=0.08)


def test_a_latent_midpoint_is_nearer_to_the_data_than_a_pixel_midpoint(numbers: Experiment) -> None:
    measured = numbers("latent-space")
    pixels, latent, real = (
        measured[f"distance to the nearest real digit, {kind}"]
        for kind in ("halfway between pixels", "halfway in the latent space", "a test digit")
    )
    assert real < latent < 0.96 * pixels


def test_off_the_data_as_worked_out_by_hand() -> None:
    real = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    assert off_the_data(torch.tensor([[3.0, 4.0], [10.0, 1.0]]), real) == pytest.approx(3.0)  # (5 + 1) / 2

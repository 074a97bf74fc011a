"""Neighbours in the latent space are alike, more so with room; its midpoints look like data."""

import pytest
import torch

from lookalike.lessons.latent_space import off_the_data
from tests.lessons.conftest import Experiment


def test_neighbours_are_alike(numbers: Experiment) -> None:
    told = numbers("latent-space")
    flat, roomy, chance = (told[f"precision@10 {how}"] for how in ("in a latent of 2", "in a latent of 8", "by chance"))
    assert chance == pytest.approx(0.1, abs=0.005)
    assert flat > 4 * chance
    assert roomy > 0.87
    assert flat == pytest.approx(told["precision@10 in PCA's 2 numbers"], abs=0.08)


def test_between_two_embeddings_is_nearer_to_the_data(numbers: Experiment) -> None:
    told = numbers("latent-space")
    pixels, latent, real = (
        told[f"distance to the nearest real digit, {how}"]
        for how in ("halfway between pixels", "halfway in the latent", "a test digit")
    )
    assert real < latent < 0.96 * pixels


def test_off_the_data_by_hand() -> None:
    real = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    assert off_the_data(torch.tensor([[3.0, 4.0], [10.0, 1.0]]), real) == pytest.approx(3.0)  # (5 + 1) / 2

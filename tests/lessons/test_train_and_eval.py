"""In train mode a row's embedding depends on chance and on the batch; in eval mode only on the row."""

import pytest
import torch

from lookalike.lessons.train_and_eval import noisy_autoencoder
from tests.lessons.conftest import Experiment

EVAL, TRAIN = "eval mode", "left in train mode"


def test_only_in_eval_mode_a_row_has_one_embedding(numbers: Experiment) -> None:
    measured = numbers("train-and-eval")
    spread = "spread of one row's embeddings, relative to the rows' spread"
    assert measured[f"{spread}, {EVAL}"] < 1e-5
    assert measured[f"{spread}, {TRAIN}"] > 0.1


def test_train_mode_is_worse(numbers: Experiment) -> None:
    measured = numbers("train-and-eval")
    assert measured[f"test error, {TRAIN}"] > 1.02 * measured[f"test error, {EVAL}"]
    assert measured[f"precision@10, {TRAIN}"] < measured[f"precision@10, {EVAL}"]


def test_train_mode_is_worst_for_a_batch_of_equal_rows(numbers: Experiment) -> None:
    measured = numbers("train-and-eval")
    name = "test error if all rows of the batch are zeros"
    assert measured[f"{name}, {TRAIN}"] > 2 * measured[f"{name}, {EVAL}"]


def test_train_mode_refuses_a_single_row() -> None:
    model = noisy_autoencoder()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.zeros(1, 64))
    assert model.eval()(torch.zeros(1, 64)).shape == (1, 64)


def test_evaluating_in_train_mode_changes_the_model() -> None:
    model = noisy_autoencoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        model(torch.rand(32, 64))
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())

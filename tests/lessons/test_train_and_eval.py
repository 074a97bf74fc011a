"""In train mode a row's embedding depends on chance and on company; in eval mode on the row."""

import pytest
import torch

from lookalike.lessons.train_and_eval import noisy_autoencoder
from tests.lessons.conftest import Experiment

EVAL, TRAIN = "eval mode", "left in train mode"


def test_one_row_one_embedding(numbers: Experiment) -> None:
    told = numbers("train-and-eval")
    spread = "spread of one row's embeddings, as a share of the rows' own"
    assert told[f"{spread}, {EVAL}"] < 1e-5
    assert told[f"{spread}, {TRAIN}"] > 0.1


def test_train_mode_is_worse(numbers: Experiment) -> None:
    told = numbers("train-and-eval")
    assert told[f"test error, {TRAIN}"] > 1.02 * told[f"test error, {EVAL}"]
    assert told[f"precision@10, {TRAIN}"] < told[f"precision@10, {EVAL}"]


def test_a_batch_of_like_rows_is_worst(numbers: Experiment) -> None:
    told = numbers("train-and-eval")
    where = "test error where all rows of the batch are zeros"
    assert told[f"{where}, {TRAIN}"] > 2 * told[f"{where}, {EVAL}"]


def test_one_row_alone_is_refused_in_train_mode() -> None:
    model = noisy_autoencoder()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(torch.zeros(1, 64))
    assert model.eval()(torch.zeros(1, 64)).shape == (1, 64)


def test_asking_in_train_mode_changes_the_model() -> None:
    model = noisy_autoencoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        model(torch.rand(32, 64))
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())

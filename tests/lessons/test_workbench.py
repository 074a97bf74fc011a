"""The shared parts of the experiments."""

import pytest
import torch
from torch import nn

from lookalike.lessons.workbench import (
    accuracy,
    agreement,
    autoencoder,
    batches,
    digits,
    error,
    fit,
    isolated,
    network,
    trained,
)


def test_training_and_test_digits_never_overlap() -> None:
    data = digits(0)
    assert (data.train.shape, data.test.shape) == ((1437, 64), (360, 64))
    assert (float(data.train.min()), float(data.train.max())) == (0.0, 1.0)
    assert data.train.dtype == torch.float32
    assert not data.train[:, 0].any()  # the dark pixel of the optimizers
    few = digits(0, 25)
    assert torch.equal(few.train, data.train[:25])
    assert torch.equal(few.test, data.test)
    assert not torch.equal(digits(1).test, data.test)
    assert not (torch.cdist(data.test, data.train) == 0).any()  # no row on both sides


def test_isolated_restores_the_global_state() -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    with isolated(3):
        first = torch.rand(4)
    with isolated(3):
        assert torch.equal(torch.rand(4), first)
    with pytest.raises(RuntimeError), isolated(4):
        torch.rand(2) @ torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_a_network_has_the_given_widths() -> None:
    model = network(64, 16, 4, activation="tanh")
    assert [type(layer) for layer in model] == [nn.Linear, nn.Tanh, nn.Linear]
    assert autoencoder(3)(torch.zeros(2, 64)).shape == (2, 64)
    assert autoencoder(3)[0](torch.zeros(2, 64)).shape == (2, 3)


def test_initial_weights_suit_the_activation() -> None:
    with isolated(0):
        he, glorot = (next(network(400, 100, activation=kind).parameters()) for kind in ("relu", "tanh"))
    assert float(he.detach().var()) == pytest.approx(2 / 400, rel=0.05)
    assert float(glorot.detach().var()) == pytest.approx(2 / 500, rel=0.05)


def test_batches_contain_each_row_once() -> None:
    with isolated(0):
        parts = list(batches(10, 4))
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert [len(part) for part in parts] == [4, 3, 3]


def test_fit_yields_each_epoch_in_eval_mode() -> None:
    with isolated(0):
        model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        rows = torch.rand(20, 64)
        modes = [
            (epoch, model.training) for epoch in fit(model, optimizer, nn.functional.mse_loss, rows, rows, epochs=3)
        ]
    assert modes == [(1, False), (2, False), (3, False)]


def test_training_lowers_the_error() -> None:
    rows = digits(0, 200).train
    with isolated(0):
        model = autoencoder(8)
        before = error(model, rows, rows)
        assert error(trained(model, rows, rows, epochs=5, lr=0.01), rows, rows) < 0.5 * before


def test_accuracy_and_agreement_as_worked_out_by_hand() -> None:
    assert accuracy(nn.Identity(), torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 1, 1])) == (
        pytest.approx(2 / 3)
    )
    items, labels = torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 1, 1])
    assert agreement(items, labels, torch.tensor([[0.2], [4.0]]), torch.tensor([0, 1]), k=2) == 0.75

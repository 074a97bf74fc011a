import pytest
import torch
from torch import nn

from lookalike.training.fit import step_cost as steps
from lookalike.training.fit.step_cost import few_threads, is_short, work_of


def test_the_work_of_a_linear_layer_is_its_weights() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    assert work_of(model, torch.zeros(9, 6)) == 6 * 4 + 4 * 3


def test_the_work_of_a_convolution_is_its_weights_at_every_position() -> None:
    # 2 channels of 8 x 8 become 5 of 4 x 4, each by 2 x 3 x 3 weights.
    model = nn.Sequential(nn.Unflatten(1, (2, 8, 8)), nn.Conv2d(2, 5, 3, stride=2, padding=1))
    assert work_of(model, torch.zeros(1, 128)) == 5 * 4 * 4 * 2 * 3 * 3


@pytest.mark.parametrize("training", [True, False])
def test_work_of_changes_nothing(training: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    drawn = torch.get_rng_state()
    work_of(model, torch.ones(3, 2))
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_is_short_depends_on_weights_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SHORT_STEP", 1_000)
    model, rows = nn.Linear(10, 10), torch.zeros(1, 10)
    assert is_short(model, rows, 9)
    assert not is_short(model, rows, 10)


def test_a_short_step_uses_one_thread_and_restores_the_count() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for short, within in ((True, 1), (False, 2)):
            with few_threads(short=short):
                assert torch.get_num_threads() == within
            assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), few_threads(short=True):
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

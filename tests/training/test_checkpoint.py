import dataclasses
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn, optim

from tests.training.helpers import blobs, flip_bit
from training.checkpoint import latest_checkpoint, restore, save_checkpoint
from training.config import CorruptionConfig, ModelConfig, OptimizerConfig
from training.corruption import build_corruption
from training.errors import ArtifactError, TrainingError
from training.loop import Data, Epoch, FitPlan, Hooks, State, fit
from training.model import Autoencoder
from training.optim import build_optimizer, build_schedule
from training.preprocess import fit_preprocessor
from training.sealed import Sealed

SETTINGS: dict[str, Any] = {"config": {"seed": 1}, "data": "these"}
ROWS = blobs()
SCALING = fit_preprocessor(ROWS, "standard")


class Bench:
    """A small denoising autoencoder with everything random in it: dropout, batch norm, corruption, shuffling."""

    def __init__(self, kind: str = "adam") -> None:
        torch.manual_seed(0)
        config = OptimizerConfig(kind=cast(Any, kind), lr=0.01)
        self.model = Autoencoder(ROWS.shape[1], 2, ModelConfig(hidden=(8,), dropout=0.2))
        self.optimizer = build_optimizer(config, self.model)
        corrupt = build_corruption(CorruptionConfig(), SCALING)
        self.plan = FitPlan(6, 16, patience=100, seed=3, schedule=build_schedule(config), corrupt=corrupt)

    def fit(self, state: State, run: Path | None = None, until: int = 99) -> State:
        def on_epoch(state: State) -> None:
            if run:
                save_checkpoint(run, state, self.model, self.optimizer, SETTINGS)

        rows = SCALING.apply(torch.from_numpy(ROWS))
        hooks = Hooks(on_epoch=on_epoch, should_stop=lambda: len(state.history) >= until)
        data = Data(rows[:50], rows[50:])
        return fit(self.model, nn.MSELoss(), self.optimizer, data, plan=self.plan, hooks=hooks, state=state)


def reopened(run: Path) -> Sealed:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return checkpoint


def numbered(run: Path, number: int, value: float = 0.0) -> Path:
    """Save a checkpoint of a one-weight model after `number` epochs."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    history = [Epoch(i, 1.0, 1.0, 0.1, 0.0) for i in range(1, number + 1)]
    save_checkpoint(run, State(history, 1, model.state_dict()), model, optim.SGD(model.parameters()), SETTINGS)
    return run / f"checkpoint-{number:06d}"


def weight_in(run: Path) -> float:
    model = nn.Linear(1, 1, bias=False)
    restore(reopened(run), model, optim.SGD(model.parameters()), SETTINGS)
    return model.weight.item()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(state: State) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in state.history]


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("until", [1, 4])
def test_a_run_that_is_broken_off_and_resumed_is_the_unbroken_run_bit_for_bit(
    tmp_path: Path, kind: str, until: int
) -> None:
    whole, first, second = (Bench(kind) for _ in range(3))
    expected = whole.fit(State())
    first.fit(State(), tmp_path, until)
    torch.manual_seed(12_345)  # a new process begins with other random numbers
    state = restore(reopened(tmp_path), second.model, second.optimizer, SETTINGS)
    assert (len(state.history), state.stopped) == (until, "interrupted")
    second.fit(state)
    assert losses(state) == losses(expected)
    assert state.best_epoch == expected.best_epoch
    assert equal(second.model.state_dict(), whole.model.state_dict())


def test_a_checkpoint_keeps_the_best_weights_beside_the_latest(tmp_path: Path) -> None:
    best, latest = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = optim.SGD(latest.parameters())
    history = [Epoch(1, 1.0, 1.0, 0.1, 0.5), Epoch(2, 1.0, 2.0, 0.1, 0.5)]
    save_checkpoint(tmp_path, State(history, 1, best.state_dict()), latest, optimizer, SETTINGS)
    model = nn.Linear(1, 1)
    state = restore(reopened(tmp_path), model, optim.SGD(model.parameters()), SETTINGS)
    assert equal(state.best_weights, best.state_dict())
    assert equal(model.state_dict(), latest.state_dict())
    assert (state.history, state.best_epoch) == (history, 1)


def test_a_new_checkpoint_replaces_the_old_one_and_what_a_killed_run_left(tmp_path: Path) -> None:
    numbered(tmp_path, 1)
    (tmp_path / ".lookalike-making-abc").mkdir()
    newest = numbered(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [newest]


def test_a_run_without_a_checkpoint_has_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None


def test_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    older = numbered(tmp_path / "run", 1, value=0.25)
    older.rename(aside)
    newer = numbered(tmp_path / "run", 2, value=0.5)
    aside.rename(older)
    assert weight_in(tmp_path / "run") == 0.5
    flip_bit(newer / "weights.safetensors", 999)
    assert weight_in(tmp_path / "run") == 0.25


def test_where_none_is_whole_the_damaged_file_is_named(tmp_path: Path) -> None:
    flip_bit(numbered(tmp_path, 1) / "weights.safetensors", 999)
    with pytest.raises(ArtifactError, match=r"checkpoint-000001/weights\.safetensors"):
        latest_checkpoint(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_epoch_comes_again(tmp_path: Path) -> None:
    flip_bit(numbered(tmp_path, 1, value=0.25) / "weights.safetensors", 999)
    numbered(tmp_path, 1, value=0.5)
    assert weight_in(tmp_path) == 0.5


@pytest.mark.parametrize(
    ("changed", "named"), [({"data": "others"}, "data"), ({"config": {"seed": 2}}, "config"), ({"more": 1}, "more")]
)
def test_a_run_goes_on_only_with_the_settings_and_data_it_began_with(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    numbered(tmp_path, 1)
    model = nn.Linear(1, 1, bias=False)
    with pytest.raises(TrainingError) as caught:
        restore(reopened(tmp_path), model, optim.SGD(model.parameters()), SETTINGS | changed)
    assert caught.value.field.endswith(f", {named}")

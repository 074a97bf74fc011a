import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import load_config
from lookalike.training.corruption import build_corruption
from lookalike.training.errors import ArtifactError, TrainingError
from lookalike.training.fit.checkpoint import latest_checkpoint, read_state, restore, save_checkpoint
from lookalike.training.fit.loop import fit
from lookalike.training.history import Epoch, State
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.losses import LOSSES
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.plan import Data, FitPlan, Hooks
from lookalike.training.schedules import build_schedule
from lookalike.training.sealed import Sealed
from tests.factories import blobs
from tests.training.helpers import flip_bit

DATA_ENTRY: dict[str, Any] = {"name": "these", "rows": 3, "sha256": "0" * 64}
SETTINGS: dict[str, Any] = {"config": {"fit": {"seed": 1}}, "data": DATA_ENTRY}
ROWS = blobs()
SCALING = fit_preprocessor(ROWS, "standard")
SHAPE = (2, 3)


class Bench:
    """A small denoising autoencoder that uses all sources of randomness: dropout, corruption, shuffling."""

    def __init__(self, *lines: str) -> None:
        torch.manual_seed(0)
        config = load_config(None, ["model.hidden=[8]", "model.dropout=0.2", "optimizer.lr=0.01", *lines])
        self.model = Autoencoder(SHAPE, 2, config.model)
        self.optimizer = build_optimizer(config.optimizer, self.model)
        corrupt = build_corruption(config.corruption, SCALING, SHAPE)
        schedule, clip = build_schedule(config.optimizer), config.optimizer.clip
        self.plan = FitPlan(6, 16, patience=100, seed=3, schedule=schedule, corrupt=corrupt, clip=clip)

    def fit(self, state: State, run: Path | None = None, until: int = 99, within: int = 0) -> State:
        steps = 0

        def should_save() -> bool:
            nonlocal steps
            steps += 1
            return steps == within

        def on_save(state: State) -> None:
            save_checkpoint(run or Path(), state, self.model, self.optimizer, SETTINGS)
            raise KeyboardInterrupt

        def on_epoch(state: State) -> None:
            if run:
                save_checkpoint(run, state, self.model, self.optimizer, SETTINGS)

        rows = SCALING.apply(torch.from_numpy(ROWS))
        stop = lambda: len(state.history) >= until  # noqa: E731
        hooks = Hooks(on_epoch=on_epoch, should_stop=stop, should_save=should_save, on_save=on_save)
        data = Data(rows[:50], rows[50:])
        return fit(self.model, LOSSES["mse"], self.optimizer, data, plan=self.plan, hooks=hooks, state=state)


def open_latest(run: Path) -> Sealed:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return checkpoint


def save_numbered(run: Path, number: int, value: float = 0.0) -> Path:
    """Save a checkpoint of a one-weight model after `number` epochs."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    history = [Epoch(i, 1.0, 1.0, 0.1, 0.0) for i in range(1, number + 1)]
    save_checkpoint(run, State(history, 1, model.state_dict()), model, optim.SGD(model.parameters()), SETTINGS)
    return run / f"checkpoint-{number:06d}"


def restored_weight(run: Path) -> float:
    model = nn.Linear(1, 1, bias=False)
    restore(open_latest(run), model, optim.SGD(model.parameters()), SETTINGS)
    return model.weight.item()


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def losses(state: State) -> list[Epoch]:
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in state.history]


@pytest.mark.parametrize(
    "lines",
    [
        ["optimizer.kind=adam"],
        ["optimizer.kind=adamw", "optimizer.weight_decay=0.1", "optimizer.decoder_lr=0.003", "optimizer.clip=0.5"],
        ["optimizer.kind=sgd", "optimizer.nesterov=true", "optimizer.schedule=plateau", "optimizer.warmup=0.3"],
        ["model.kind=conv", "model.channels=[4, 5]", "corruption.kind=blocks", "corruption.level=0.3"],
        ["corruption.kind=swap", "corruption.level=0.2", "optimizer.schedule=one_cycle"],
    ],
)
@pytest.mark.parametrize("until", [1, 4])
def test_a_resumed_run_equals_the_uninterrupted_run_bit_for_bit(tmp_path: Path, lines: list[str], until: int) -> None:
    whole, first, second = (Bench(*lines) for _ in range(3))
    expected = whole.fit(State())
    first.fit(State(), tmp_path, until)
    torch.manual_seed(12_345)  # a new process begins with other random numbers
    state = restore(open_latest(tmp_path), second.model, second.optimizer, SETTINGS)
    assert (len(state.history), state.stopped) == (until, "interrupted")
    second.fit(state)
    assert losses(state) == losses(expected)
    assert state.facts == expected.facts
    assert state.best_epoch == expected.best_epoch
    assert equal(second.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize(
    "lines",
    [
        ["optimizer.kind=adam", "model.dropout=0.2", "corruption.kind=gaussian", "corruption.level=0.5"],
        ["optimizer.kind=sgd", "optimizer.schedule=plateau", "corruption.kind=swap", "corruption.level=0.2"],
    ],
)
@pytest.mark.parametrize("step", [1, 2, 8])
def test_a_run_resumed_within_an_epoch_equals_the_uninterrupted_run_bit_for_bit(
    tmp_path: Path, lines: list[str], step: int
) -> None:
    whole, first, second = (Bench(*lines) for _ in range(3))
    expected = whole.fit(State())
    with pytest.raises(KeyboardInterrupt):  # 50 rows in batches of 16: 4 steps an epoch, of which 3 may save
        first.fit(State(), tmp_path, within=step)
    epoch, within = (step - 1) // 3, (step - 1) % 3 + 1
    (folder,) = tmp_path.glob("checkpoint-*") if not epoch else [open_latest(tmp_path).folder]
    assert folder.name == f"checkpoint-{epoch:06d}-{within:06d}"
    torch.manual_seed(12_345)  # a new process begins with other random numbers
    state = restore(open_latest(tmp_path), second.model, second.optimizer, SETTINGS)
    assert state.within is not None
    assert (len(state.history), state.within.step) == (epoch, within)
    second.fit(state, tmp_path)
    assert losses(state) == losses(expected)  # with all that the doctor observed
    assert state.facts == expected.facts
    assert state.best_epoch == expected.best_epoch
    assert equal(second.model.state_dict(), whole.model.state_dict())
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-000006"]


def test_a_checkpoint_keeps_the_best_and_the_latest_weights(tmp_path: Path) -> None:
    best, latest = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizer = optim.SGD(latest.parameters())
    history = [Epoch(1, 1.0, 1.0, 0.1, 0.5), Epoch(2, 1.0, 2.0, 0.1, 0.5)]
    save_checkpoint(tmp_path, State(history, 1, best.state_dict()), latest, optimizer, SETTINGS)
    model = nn.Linear(1, 1)
    state = restore(open_latest(tmp_path), model, optim.SGD(model.parameters()), SETTINGS)
    assert equal(state.best_weights, best.state_dict())
    assert equal(model.state_dict(), latest.state_dict())
    assert (state.history, state.best_epoch) == (history, 1)


def test_restores_nonfinite_losses_and_facts_unchanged(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters())
    history = [Epoch(1, 0.5, 0.25, 0.1, 0.5, {"losses": [0.5, None]}), Epoch(2, None, None, 0.1, 0.5)]
    state = State(history, 1, model.state_dict(), "hopeless", {"rows": 60, "spectrum": [0.5, 0.25]})
    save_checkpoint(tmp_path, state, model, optimizer, SETTINGS)
    again = restore(open_latest(tmp_path), model, optimizer, SETTINGS)
    assert (again.history, again.stopped, again.facts) == (history, "hopeless", state.facts)


def test_a_new_checkpoint_removes_the_old_one_and_leftovers_of_a_killed_run(tmp_path: Path) -> None:
    save_numbered(tmp_path, 1)
    (tmp_path / ".lookalike-making-abc").mkdir()
    newest = save_numbered(tmp_path, 2)
    assert list(tmp_path.iterdir()) == [newest]


def test_latest_checkpoint_of_an_absent_run_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "absent") is None


def test_uses_the_newest_intact_checkpoint(tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    older = save_numbered(tmp_path / "run", 1, value=0.25)
    older.rename(aside)
    newer = save_numbered(tmp_path / "run", 2, value=0.5)
    aside.rename(older)
    assert restored_weight(tmp_path / "run") == 0.5
    flip_bit(newer / "weights.safetensors", 999)
    assert restored_weight(tmp_path / "run") == 0.25


def test_ignores_and_keeps_folders_that_only_look_like_checkpoints(tmp_path: Path) -> None:
    save_numbered(tmp_path, 1, value=0.25)
    shutil.copytree(tmp_path / "checkpoint-000001", tmp_path / "checkpoint-old")
    shutil.copytree(tmp_path / "checkpoint-000001", tmp_path / "checkpoint-000009")  # of another epoch than its name
    assert restored_weight(tmp_path) == 0.25
    save_numbered(tmp_path, 2, value=0.5)
    assert restored_weight(tmp_path) == 0.5
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint-000002", "checkpoint-old", "checkpoint-000009"}


def test_refuses_the_weights_of_another_model(tmp_path: Path) -> None:
    save_numbered(tmp_path, 1)
    model = nn.Linear(2, 3)
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: expected the weights of this run"):
        restore(open_latest(tmp_path), model, optim.SGD(model.parameters()), SETTINGS)


def test_names_the_damaged_file_if_no_checkpoint_is_intact(tmp_path: Path) -> None:
    flip_bit(save_numbered(tmp_path, 1) / "weights.safetensors", 999)
    with pytest.raises(ArtifactError, match=r"checkpoint-000001/weights\.safetensors"):
        latest_checkpoint(tmp_path)


def test_replaces_a_damaged_checkpoint_of_the_same_epoch(tmp_path: Path) -> None:
    flip_bit(save_numbered(tmp_path, 1, value=0.25) / "weights.safetensors", 999)
    save_numbered(tmp_path, 1, value=0.5)
    assert restored_weight(tmp_path) == 0.5


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"data": "others"}, "data"), ({"config": {"fit": {"seed": 2}}}, "config.fit.seed"), ({"more": 1}, "more")],
)
def test_refuses_to_resume_with_changed_settings_or_data(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    save_numbered(tmp_path, 1)
    model = nn.Linear(1, 1, bias=False)
    with pytest.raises(TrainingError) as caught:
        restore(open_latest(tmp_path), model, optim.SGD(model.parameters()), SETTINGS | changed)
    assert caught.value.field.endswith(f", {named}")


def test_reads_the_state_of_a_run_without_its_weights(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    history = [Epoch(1, 0.5, None, 0.1, 0.5, {"losses": [0.5, None], "latent": None})]
    written = State(history, 1, model.state_dict(), "hopeless", {"rows": 60, "trivial_loss": None})
    save_checkpoint(tmp_path, written, model, optim.SGD(model.parameters()), SETTINGS)
    read = read_state(open_latest(tmp_path))
    assert read == dataclasses.replace(written, best_weights={})


def with_manifest(tmp_path: Path, **changes: Any) -> Sealed:
    """A checkpoint with a changed manifest; a value of None removes the field."""
    save_numbered(tmp_path, 1)
    checkpoint = open_latest(tmp_path)
    checkpoint.header = {name: entry for name, entry in (checkpoint.header | changes).items() if entry is not None}
    return checkpoint


@pytest.mark.parametrize(
    "changes",
    [
        {"history": None},
        {"best_epoch": -2},
        {"best_epoch": "x"},
        {"stopped": "tired"},
        {"settings": []},
        {"settings": {"config": {}}},
        {"settings": {"config": {}, "data": {**DATA_ENTRY, "rows": -1}}},
        {"facts": []},
        {"history": [{"number": 1}]},
        {"facts": None},
        {"best_epoch": None},
        {"stopped": None},
        {"history": 3},
        {"history": [3]},
        {"history": [{"number": 1, "loss": 0.5}]},
    ],
)
def test_names_the_invalid_field_of_a_manifest(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=rf"checkpoint-000001/manifest\.json, {next(iter(changes))}"):
        read_state(with_manifest(tmp_path, **changes))

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.config import TrainConfig
from lookalike.training.doctor.causes import diagnose
from lookalike.training.errors import ConfigError, TrainingError
from lookalike.training.fit import fitting as fitting_module
from lookalike.training.fit.fitting import Fitting, epoch_bar, prepare
from lookalike.training.fit.split import split_rows
from lookalike.training.history import Epoch, State
from lookalike.training.plan import Hooks
from lookalike.training.rows import Rows
from tests.factories import array_rows, blobs, quick

ROWS = array_rows(blobs())


def prepared(config: TrainConfig, rows: Rows = ROWS, **more: Any) -> Fitting:
    return prepare(rows, split_rows(rows, config, shown=False), config, **more)


def run(fitting: Fitting) -> State:
    state = State()
    fitting.run(state, Hooks())
    return state


def test_fits_the_preprocessing_on_training_rows_and_applies_it_to_both_parts() -> None:
    split = split_rows(ROWS, quick(), shown=False)
    fitting = prepare(ROWS, split, quick())
    mean, deviation = split.train.mean(axis=0), split.train.std(axis=0)
    for part, rows in ((fitting.data.train, split.train), (fitting.data.validation, split.validation)):
        np.testing.assert_allclose(part.numpy(), (rows - mean) / deviation, atol=1e-5)


def test_the_seed_determines_the_initial_model() -> None:
    one, same, other = (prepared(quick(f"fit.seed={seed}")).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["encoder.0.weight"], other["encoder.0.weight"])


@pytest.mark.parametrize(("pixels", "kind"), [(True, "center"), (False, "standard")])
def test_auto_centers_pictures_and_standardizes_other_rows(pixels: bool, kind: str) -> None:
    assert prepared(quick(), array_rows(blobs(), pixels=pixels)).preprocess.kind == kind


@pytest.mark.parametrize(
    ("count", "batch", "size", "epochs"),
    [
        (40, "'auto'", 16, 300),  # 36 training rows make 3 steps: 1,000 epochs would make 3,000
        (40, "2", 2, 167),  # 18 steps an epoch
        (1_000, "'auto'", 45, 150),  # a twentieth of 900, 20 steps
        (8_000, "'auto'", 256, 104),  # 7,200 rows, 29 steps
        (400, "1", 1, 30),  # 360 steps, at least 30 epochs
    ],
)
def test_auto_plans_about_3000_steps_and_at_most_300_epochs(count: int, batch: str, size: int, epochs: int) -> None:
    lines = ["fit.epochs='auto'", f"fit.batch_size={batch}", "model.batch_norm=false", "model.latent_norm=false"]
    plan = prepared(quick(*lines), array_rows(blobs(count))).plan
    assert (plan.batch_size, plan.epochs) == (size, epochs)


def test_the_plan_follows_the_settings() -> None:
    plan = prepared(quick("optimizer.clip=2.5", "fit.patience=7", "fit.seed=3", "corruption.kind=none")).plan
    assert (plan.epochs, plan.batch_size, plan.patience, plan.seed, plan.clip) == (3, 16, 7, 3, 2.5)
    assert plan.corrupt is None
    assert prepared(quick()).plan.corrupt is not None


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        (["model.output=sigmoid", "loss.kind=mse"], "model.output"),
        (["model.output=tanh", "loss.kind=mse", "data.scale=none"], "model.output"),
        (["model.output=sigmoid", "loss.kind=bce_logits"], "model.output"),
        (["loss.kind=bce", "data.scale=range"], "model.output"),
        (["loss.kind=bce", "model.output=sigmoid"], "loss.kind"),
        (["corruption.kind=masking", "corruption.level=2"], "corruption.level"),
        (["fit.batch_size=1"], "fit.batch_size"),
        (["model.kind=conv"], "model.kind"),
    ],
)
def test_refuses_conflicting_settings(lines: list[str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared(quick(*lines))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("lines", "weights"),
    [
        (["model.hidden=[65536, 65536]"], "model.hidden: .* found 4,295,"),
        (["model.hidden=[]", "model.decoder=[65536, 65536]"], "model.hidden: .* found 4,295,"),
    ],
)
def test_refuses_a_model_with_too_many_weights(lines: list[str], weights: str) -> None:
    with pytest.raises(ConfigError, match=weights):
        prepared(quick(*lines))


@pytest.mark.parametrize("scale", ["range", "column-range"])
@pytest.mark.parametrize("seed", range(3))
def test_accepts_a_squashing_output_for_rows_scaled_to_a_range(scale: str, seed: int) -> None:
    config = quick("model.output=sigmoid", "loss.kind=mse", f"data.scale={scale}", "fit.epochs=1")
    assert run(prepared(config, array_rows(blobs(seed=seed)))).stopped == "finished"


def test_a_picture_keeps_its_shape() -> None:
    pictures = array_rows(blobs(60, 64).reshape(60, 8, 8), pixels=True)
    fitting = prepared(quick("model.kind=conv", "model.channels=[2]"), pictures)
    assert run(fitting).stopped == "finished"
    assert fitting.model(fitting.data.train).shape == fitting.data.train.shape


def test_a_resumed_run_keeps_its_precision() -> None:
    split = split_rows(ROWS, quick(), shown=False)
    for requested, began, bf16 in (("bf16", None, True), ("auto", None, False), ("auto", "bf16", True)):
        config = quick(f"fit.precision={requested}")
        resumed = {"precision": began, "device": "cpu"} if began else None
        fitting = prepare(ROWS, split, config, resumed=resumed)
        assert fitting.plan.bf16 is bf16
        settings = fitting.settings(ROWS, split, config)
        assert (settings["precision"], settings["device"]) == ("bf16" if bf16 else "fp32", "cpu")


def test_binary_cross_entropy_accepts_held_out_values_outside_the_training_range() -> None:
    rows = blobs(60, 3)
    config = quick("loss.kind=bce", "model.output=sigmoid", "data.scale=column-range")
    split = split_rows(array_rows(rows), config, shown=False)
    split.validation[:, 0] = 50  # far above any that it was fitted on
    fitting = prepare(array_rows(rows), split, config)
    assert float(fitting.data.validation.max()) > 1
    state = run(fitting)
    assert (state.stopped, state.history[-1].validation_loss is None) == ("finished", False)


def test_settings_are_plain_json_and_describe_the_rows() -> None:
    split = split_rows(ROWS, quick(), shown=False)
    settings = prepare(ROWS, split, quick()).settings(ROWS, split, quick())
    assert json.loads(json.dumps(settings)) == settings
    assert settings["config"]["model"]["hidden"] == [8]
    assert settings["data"] == {"name": "memory", "rows": 60, "sha256": split.digest()}


def test_a_run_ends_with_its_best_weights_in_eval_mode() -> None:
    fitting = prepared(quick("fit.epochs=30", "fit.patience=1", "optimizer.lr=0.5", "corruption.kind=none"))
    state = run(fitting)
    assert state.best_epoch < len(state.history)
    assert not fitting.model.training
    assert all(torch.equal(tensor, state.best_weights[name]) for name, tensor in fitting.model.state_dict().items())


@pytest.mark.parametrize("stopped", ["finished", "patience"])
def test_does_not_continue_a_finished_run(stopped: str) -> None:
    fitting = prepared(quick())
    before = State(history=[Epoch(1, 1.0, 1.0, 0.1, 0.0)], best_epoch=1, stopped=stopped)
    before.best_weights = {name: torch.zeros_like(tensor) for name, tensor in fitting.model.state_dict().items()}
    fitting.run(before, Hooks())
    assert len(before.history) == 1
    assert not fitting.model.state_dict()["encoder.0.weight"].any()


def test_a_hopeless_run_ends_with_its_diagnosis_on_every_call() -> None:
    fitting = prepared(quick("optimizer.kind=sgd", "optimizer.lr=1e20", "model.batch_norm=false"))
    state = State()
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"learning-rate-too-high: .*--set optimizer\.lr=1$"):
            fitting.run(state, Hooks())
    assert len(state.history) == 1


def test_exports_the_fitted_model_and_compares_it_on_held_out_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_rows(ROWS, quick(), shown=False)
    fitting = prepare(ROWS, split, quick())
    state = run(fitting)
    fitted = fitting.fitted(ROWS, split, {"device": "cuda"}, state)
    assert np.array_equal(fitted.probe, np.concatenate([split.validation, split.train]))
    encoder = fitted.export(tmp_path / "encoder")
    assert (encoder.input_shape, encoder.latent_dim, encoder.header["device"]) == ((6,), 3, "cuda")
    assert (encoder.header["best_epoch"], len(encoder.header["history"])) == (state.best_epoch, 3)
    assert load_encoder(tmp_path / "encoder").digest == encoder.digest
    monkeypatch.setattr(fitting_module, "PROBE_ROWS", 4)
    assert np.array_equal(fitting.fitted(ROWS, split, {}, state).probe, split.validation[:4])


def test_the_progress_bar_shows_the_losses_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    state = State()
    for shown, message in ((True, "loss 0.50000, validation nan"), (False, "")):
        with epoch_bar(1, state, shown=shown) as hooks:
            hooks.on_epoch(State(history=[Epoch(1, 0.5, None, 0.1, 0.0)]))
        assert message in capsys.readouterr().err


def test_clips_and_reports_outliers_in_both_parts() -> None:
    rows = blobs(100, 3)
    rows[[4, 5], [0, 2]] = [3e38, -3e38]
    split = split_rows(array_rows(rows), quick(), shown=False, held=np.array([5, *range(10, 20)]))
    fitting = prepare(array_rows(rows), split, quick())
    data, scaling = fitting.data, fitting.preprocess
    assert data.train[4, 0] == scaling.high[0]
    assert data.validation[0, 2] == scaling.low[2]
    others = np.delete(split.train[:, 0], 4)
    np.testing.assert_allclose(
        np.delete(data.train[:, 0].numpy(), 4), (others - others.mean()) / others.std(), atol=1e-4
    )
    assert [(one.id, one.column, one.value) for one in data.clipped.values] == [(4, 0, 3e38), (5, 2, -3e38)]
    state = run(fitting)
    [finding] = [one for one in diagnose(state) if one.cause == "far-values"]
    assert finding.seen.startswith("2 values are far outside the range of the others: row 4, column 0: 3e+38 (known: ")
    whole = prepared(quick(), array_rows(np.delete(rows, [4, 5], axis=0)))
    best, expected = (min(epoch.validation_loss or 9e9 for epoch in each.history) for each in (state, run(whole)))
    assert best == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("setting", ["columns", "exclude", "category", "number", "text"])
def test_refuses_names_of_columns_if_the_rows_have_none(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{setting}: expected no names of columns: .*, found size"):
        prepared(quick(f'data.{setting}=["size"]'))


def test_refuses_the_weight_of_a_column_if_the_rows_have_none() -> None:
    with pytest.raises(ConfigError, match=r"data\.weight: expected no names: the rows are no table, found 'size'"):
        prepared(quick("data.weight={size=2}"))

import dataclasses
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from lookalike.training.artifact.encoder import load_encoder
from lookalike.training.artifact.preprocess import fit_preprocessor
from lookalike.training.config import TrainConfig
from lookalike.training.errors import ConfigError, DataError, TrainingError
from lookalike.training.evaluation.judge import add_noise
from lookalike.training.fit import job
from lookalike.training.fit.checkpoint import latest_checkpoint
from lookalike.training.fit.job import TrainedRun, train
from lookalike.training.fit.split import split_rows
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.rows import open_rows
from tests.factories import ROOT, array_rows, blobs, quick

ROWS = array_rows(blobs())
STEPS_AN_EPOCH = 4
"""54 rows in batches of 16."""


def weights(run: Path) -> bytes:
    return (run / "encoder" / "weights.safetensors").read_bytes()


def stopped(run: Path) -> str:
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return str(checkpoint.header["stopped"])


@contextmanager
def signal_at(*steps: int, number: int = signal.SIGINT) -> Iterator[None]:
    """Receive a signal at each of the given training steps, counted from 1."""
    step = 0

    def press(module: torch.nn.Module, inputs: Any) -> None:
        nonlocal step
        trained = isinstance(module, Autoencoder) and module.training
        step += trained
        if trained and step in steps:
            signal.raise_signal(number)

    handle = register_module_forward_pre_hook(press)
    try:
        yield
    finally:
        handle.remove()


def test_the_seed_determines_the_weights_bit_for_bit(tmp_path: Path) -> None:
    config = quick("model.dropout=0.2", "corruption.kind=salt_and_pepper", "corruption.level=0.1")
    for name, run in (("one", config), ("two", config), ("other", quick("fit.seed=1"))):
        train(ROWS, run, tmp_path / name)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    assert weights(tmp_path / "one") != weights(tmp_path / "other")


def test_labels_do_not_change_the_weights(tmp_path: Path) -> None:
    labeled = array_rows(blobs(), [f"kind {i % 3}" for i in range(60)])
    train(ROWS, quick(), tmp_path / "without")
    train(labeled, quick(), tmp_path / "with")
    assert weights(tmp_path / "without") == weights(tmp_path / "with")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("step", [1, 2 * STEPS_AN_EPOCH + 2])
def test_a_signal_stops_after_the_epoch_and_a_resumed_run_equals_the_uninterrupted_run(
    tmp_path: Path, optimizer: str, step: int, number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    config = quick("fit.epochs=5", "model.dropout=0.2", f"optimizer.kind={optimizer}")
    whole = train(ROWS, config, tmp_path / "whole")
    with signal_at(step, number=number):
        broken = train(ROWS, config, tmp_path / "broken")
    assert f"{signal.Signals(number).name}: the run ends after this epoch" in capfd.readouterr().err
    assert broken.state.stopped == stopped(tmp_path / "broken") == "interrupted"
    assert len(broken.state.history) == 1 + (step - 1) // STEPS_AN_EPOCH
    assert np.isfinite(load_encoder(tmp_path / "broken" / "encoder").encode(blobs())).all()
    resumed = train(ROWS, config, tmp_path / "broken", resume=True)
    assert resumed.state.stopped == "finished"
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")
    assert [e.train_loss for e in resumed.state.history] == [e.train_loss for e in whole.state.history]


def test_a_second_ctrl_c_stops_at_once_and_restores_the_signal_handler(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), signal_at(1, 2):
        train(ROWS, quick(), tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


CHILD = """
import sys
from pathlib import Path
from tests.factories import array_rows, blobs, quick
from lookalike.training.fit import job
job.CHECKPOINT_SECONDS = 0.0
job.train(array_rows(blobs()), quick("fit.epochs=1000000", "fit.patience=1000000"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_a_usable_encoder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", CHILD, run], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for _ in range(6_000):
        if child.poll() is not None or list(run.glob("checkpoint-*")):
            break
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert stopped(run) == "interrupted"
    encoder = load_encoder(run / "encoder")
    assert encoder.encode(blobs()).shape == (60, 3)
    names = {p.name.partition("-")[0] for p in run.iterdir()}
    assert names == {".lock", "checkpoint", "encoder", "progress.log"}


def test_a_run_killed_within_a_long_epoch_continues_there_and_ends_like_an_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick("fit.epochs=3", "model.dropout=0.2")
    whole = train(ROWS, config, tmp_path / "whole")
    monkeypatch.setattr(job, "LONG_EPOCH_SECONDS", 0.0)  # every epoch is long
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), signal_at(STEPS_AN_EPOCH + 3, STEPS_AN_EPOCH + 4):
        train(ROWS, config, run)
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    assert checkpoint.folder.name == "checkpoint-000001-000003"
    assert not (run / "encoder").exists()
    resumed = train(ROWS, config, run, resume=True)
    assert weights(run) == weights(tmp_path / "whole")
    history = [[dataclasses.replace(e, seconds=0.0) for e in one.state.history] for one in (resumed, whole)]
    assert history[0] == history[1]
    assert "training: 3/3 epochs" in (run / "progress.log").read_text().splitlines()[-1]


def test_a_folder_with_only_a_progress_log_is_like_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "progress.log").write_text("training: 0/3 epochs")
    assert train(ROWS, quick(), tmp_path).state.stopped == "finished"


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    first = train(ROWS, quick(), tmp_path / "run")
    again = train(ROWS, quick(), tmp_path / "run", resume=True)
    assert again.encoder.digest == first.encoder.digest
    assert again.state.history == first.state.history


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["encoder", "thesis.txt"])
def test_refuses_a_folder_with_other_contents_and_leaves_it_unchanged(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / "run" / name).mkdir(parents=True)
    with pytest.raises(TrainingError, match="expected a new folder"):
        train(ROWS, quick(), tmp_path / "run", resume=resume)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]


def test_refuses_a_folder_in_which_another_process_trains(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="expected a folder that no other process uses, found another process"):
            train(ROWS, quick(), tmp_path / "run")
    assert train(ROWS, quick(), tmp_path / "run").state.stopped == "finished"


def test_resuming_without_a_checkpoint_starts_a_new_run(tmp_path: Path) -> None:
    assert train(ROWS, quick(), tmp_path / "run", resume=True).state.stopped == "finished"


def test_refuses_to_overwrite_a_run(trained: TrainedRun) -> None:
    with pytest.raises(TrainingError, match=r"found an earlier run\. .*--resume"):
        train(ROWS, quick(), trained.folder)


@pytest.mark.parametrize(
    ("rows", "config", "named"),
    [(array_rows(blobs(seed=1)), quick(), "data"), (ROWS, quick("fit.seed=1"), "config")],
)
def test_refuses_to_resume_with_other_data_or_settings(
    trained: TrainedRun, rows: Any, config: TrainConfig, named: str
) -> None:
    before = weights(trained.folder)
    with pytest.raises(TrainingError, match=named):
        train(rows, config, trained.folder, resume=True)
    assert weights(trained.folder) == before


def test_exports_the_best_epoch_not_the_last(tmp_path: Path) -> None:
    # With a patience of 1 and a rate at which the loss fluctuates, the run ends after the first worse epoch.
    lines = ["fit.epochs=1000", "fit.patience=1", "optimizer.lr=0.5", "corruption.kind=none", "loss.kind=mse"]
    run = train(ROWS, quick(*lines), tmp_path / "run")
    assert run.state.stopped == "patience"
    held = torch.from_numpy(split_rows(ROWS, quick()).validation)
    scaled = run.encoder.preprocess.apply(held)
    loss = torch.nn.functional.mse_loss(run.encoder.decoder(run.encoder.encoder(scaled)), scaled)
    best, last = (run.state.history[i].validation_loss for i in (run.state.best_epoch - 1, -1))
    assert best is not None
    assert last is not None
    assert best < last
    assert float(loss) == pytest.approx(best, rel=1e-4)


def test_held_out_rows_do_not_influence_the_preprocessing(tmp_path: Path) -> None:
    config = quick("data.scale=column-range")
    inputs = np.random.default_rng(0).uniform(size=(50, 2)).astype(np.float32)
    inputs[:, 0] = np.arange(50)
    split = split_rows(array_rows(inputs), config)
    held, kept = (part[:, 0].astype(int) for part in (split.validation, split.train))
    inputs[held, 1] = 1e6  # the choice of held-out rows depends only on the row count and the seed
    scaling = train(array_rows(inputs), config, tmp_path / "run").encoder.preprocess
    expected = fit_preprocessor(inputs[kept], "column-range")
    assert all(torch.equal(tensor, expected.tensors()[name]) for name, tensor in scaling.tensors().items())


@pytest.mark.parametrize("inputs", [blobs(1), np.zeros((10, 0), np.float32)])
def test_refuses_too_little_data_before_writing_anything(tmp_path: Path, inputs: Any) -> None:
    with pytest.raises(DataError, match="memory: expected at least"):
        train(array_rows(inputs), quick(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        (["model.output=sigmoid", "loss.kind=mse"], "model.output"),
        (["corruption.kind=masking", "corruption.level=2"], "corruption.level"),
        (["fit.batch_size=1"], "fit.batch_size"),
    ],
)
def test_refuses_conflicting_settings_before_training(tmp_path: Path, lines: list[str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        train(ROWS, quick(*lines), tmp_path / "run")
    assert caught.value.field == field
    assert not (tmp_path / "run").exists()


def test_a_nonfinite_loss_ends_with_a_diagnosis_and_exports_nothing(tmp_path: Path) -> None:
    config = quick("optimizer.kind=sgd", "optimizer.lr=1e20", "model.batch_norm=false")
    with pytest.raises(TrainingError, match=r"learning-rate-too-high: .*1e\+20 .*--set optimizer\.lr=1$"):
        train(ROWS, config, tmp_path / "run")
    assert not (tmp_path / "run" / "encoder").exists()


def test_refuses_rows_that_are_all_equal(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"rows-alike: .*, found all 54 training rows are the same"):
        train(array_rows(np.ones((60, 3), np.float32)), quick(), tmp_path / "run")


def test_reconstructs_constant_columns(tmp_path: Path) -> None:
    inputs = blobs()
    inputs[:, 2] = 7.0
    run = train(array_rows(inputs), quick("fit.epochs=200"), tmp_path / "run")
    np.testing.assert_allclose(run.encoder.reconstruct(inputs)[:, 2], 7.0, atol=0.5)


def test_the_manifest_describes_how_the_encoder_was_made(trained: TrainedRun) -> None:
    header = trained.encoder.header
    assert (header["input_shape"], header["latent_dim"]) == ([6], 3)
    assert (header["data"]["name"], header["data"]["rows"]) == ("memory", 60)
    assert header["config"]["model"]["hidden"] == [8]
    assert header["history"] == [dataclasses.asdict(epoch) for epoch in trained.state.history]
    assert header["best_epoch"] == trained.state.best_epoch


def test_trains_outside_of_the_main_thread(tmp_path: Path) -> None:
    thread = Thread(target=train, args=(ROWS, quick(), tmp_path / "run"))
    thread.start()
    thread.join()
    assert load_encoder(tmp_path / "run" / "encoder").latent_dim == 3


def test_a_denoising_run_on_digits_removes_noise(tmp_path: Path) -> None:
    config = quick("model.hidden=[64]", "model.latent_dim=16", "fit.epochs=20", "optimizer.lr=0.01")
    encoder = train(open_rows("digits"), config, tmp_path / "run").encoder
    clean = np.concatenate([chunk.inputs for chunk in open_rows("digits:test").chunks()])
    noisy = add_noise(clean, encoder.preprocess)
    far, near = (np.square(rows - clean).mean() for rows in (noisy, encoder.reconstruct(noisy)))
    assert near < 0.7 * far


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_run_on_cuda_can_be_interrupted_and_resumed(tmp_path: Path) -> None:
    config = quick("fit.device=cuda")
    with signal_at(1):
        train(ROWS, config, tmp_path / "run")
    assert train(ROWS, config, tmp_path / "run", resume=True).state.stopped == "finished"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpoint_and_artifact_contain_the_precision(tmp_path: Path, precision: str) -> None:
    encoder = train(ROWS, quick(f"fit.precision={precision}"), tmp_path / "run").encoder
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    assert checkpoint.header["settings"]["precision"] == encoder.header["precision"] == precision


@pytest.mark.parametrize("wins", [False, True])
def test_auto_equals_an_explicit_run_of_the_chosen_precision_bit_for_bit(
    tmp_path: Path, wins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, chosen = ("model.dropout=0.2",), "bf16" if wins else "fp32"
    train(ROWS, quick(*lines, f"fit.precision={chosen}"), tmp_path / "asked")
    monkeypatch.setattr("lookalike.training.fit.step_cost.SHORT_STEP", 0)
    monkeypatch.setattr("lookalike.training.fit.precision.is_worth_it", lambda fp32, bf16: wins)
    assert train(ROWS, quick(*lines), tmp_path / "auto").encoder.header["precision"] == chosen
    assert weights(tmp_path / "auto") == weights(tmp_path / "asked")


def test_a_resumed_run_keeps_its_precision_without_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.training.fit.step_cost.SHORT_STEP", 0)
    monkeypatch.setattr("lookalike.training.fit.precision.is_worth_it", lambda fp32, bf16: True)
    whole = train(ROWS, quick(), tmp_path / "whole")
    with signal_at(13):  # after the twelve measured steps
        train(ROWS, quick(), tmp_path / "broken")
    monkeypatch.setattr("lookalike.training.fit.precision.is_worth_it", None)  # a measurement would fail
    resumed = train(ROWS, quick(), tmp_path / "broken", resume=True)
    assert resumed.encoder.header["precision"] == whole.encoder.header["precision"] == "bf16"
    assert weights(tmp_path / "broken") == weights(tmp_path / "whole")


def test_trains_on_fewer_rows_than_a_batch(tmp_path: Path) -> None:
    run = train(array_rows(blobs(7)), quick("fit.batch_size=256"), tmp_path / "run")
    assert run.state.facts["smallest_batch"] == 6
    assert run.encoder.encode(blobs(7)).shape == (7, 3)


def test_trains_on_two_rows_without_batch_norm(tmp_path: Path) -> None:
    run = train(array_rows(blobs(2)), quick("model.batch_norm=false", "model.latent_norm=false"), tmp_path / "run")
    assert (len(run.split.train), len(run.split.validation)) == (1, 1)
    with pytest.raises(ConfigError, match=r"fit.batch_size: expected at least 2 rows in a batch"):
        train(array_rows(blobs(2)), quick(), tmp_path / "other")


@pytest.mark.slow
def test_trains_on_a_hundred_thousand_columns(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(24, 100_000)).astype(np.float32)
    run = train(array_rows(rows), quick("model.hidden=[4]", "fit.epochs=2"), tmp_path / "run")
    assert run.encoder.encode(rows).shape == (24, 3)
    assert run.encoder.reconstruct(rows[:2]).shape == (2, 100_000)
    with pytest.raises(ConfigError, match=r"model.hidden: expected at most 268,435,456 weights in the encoder"):
        train(array_rows(rows), quick("model.hidden=[4096]"), tmp_path / "wide")


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_labels_of_a_table_do_not_change_the_weights(tmp_path: Path, suffix: str) -> None:
    columns = {f"c{i}": blobs()[:, i] for i in range(6)}
    labels = {"label": pa.array([f"kind {i % 3}" for i in range(60)])}
    for name, table in (("without", pa.table(columns)), ("with", pa.table(columns | labels))):
        {"parquet": pq.write_table, "csv": pa_csv.write_csv}[suffix](table, tmp_path / f"{name}.{suffix}")
        train(open_rows(str(tmp_path / f"{name}.{suffix}")), quick(), tmp_path / name)
    assert weights(tmp_path / "without") == weights(tmp_path / "with")


def test_held_out_rows_do_not_occur_among_the_training_rows(tmp_path: Path) -> None:
    run = train(array_rows(np.repeat(blobs(), 2, axis=0)), quick(), tmp_path / "run")
    assert run.state.facts["duplicates"] == 0
    assert (len(run.split.train), len(run.split.validation)) == (108, 12)

"""One training run from rows to encoder artifact: read, split, scale, fit, export.

RUN/checkpoint-NNNNNN/   where the run stands (training.checkpoint)
RUN/encoder/             what it made (training.artifact)
"""

import contextlib
import dataclasses
import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.artifact import Encoder, resolve_device
from training.checkpoint import latest_checkpoint, restore, save_checkpoint
from training.config import TrainConfig
from training.corruption import Corruption, build_corruption
from training.errors import ConfigError, DataError, TrainingError
from training.export import export
from training.loop import Data, FitPlan, Hooks, State, fit
from training.losses import build_loss
from training.model import Autoencoder, latent_dim_for
from training.optim import build_optimizer, build_schedule
from training.preprocess import Preprocessor, ScaleKind, fit_preprocessor
from training.progress import progress_bar
from training.rows import Rows, read_sample

__all__ = ["Split", "TrainedRun", "split_rows", "train"]

CHECKPOINT_SECONDS = 5.0
PROBE_ROWS = 2_000
ROUNDING = 1e-5
MAX_WEIGHTS = 1 << 28
SHORT_STEP = 1 << 26
"""Weights times rows in a batch; a step of this takes some milliseconds on one core."""


@dataclass(frozen=True)
class Split:
    """Raw rows, (n, width) float32, and labels (None where a row has none), parted for good."""

    train: NDArray[np.float32]
    validation: NDArray[np.float32]
    train_labels: list[Any]
    validation_labels: list[Any]


@dataclass(frozen=True)
class TrainedRun:
    """What a run left: its encoder, its history, and the rows as it parted them."""

    folder: Path
    encoder: Encoder
    state: State
    split: Split


def split_rows(rows: Rows, config: TrainConfig) -> Split:
    """Read the rows (a sample where they exceed `data.max_bytes`) and hold some out, by the seed.

    Raises:
        DataError: a bad row, or fewer than two rows.
    """
    if rows.count < 2:
        raise DataError(
            rows.name, expected="at least 2 rows, one to train on and one to validate on", found=str(rows.count)
        )
    with progress_bar("reading", rows.count, "rows") as advance:
        most = max(2, config.data.max_bytes // (4 * max(1, rows.width)))
        inputs, labels = read_sample(rows, most, config.fit.seed, advance)
    order = np.random.default_rng(config.fit.seed).permutation(len(inputs))
    cut = min(len(inputs) - 1, max(1, round(len(inputs) * config.data.validation)))
    held, kept = np.sort(order[:cut]), np.sort(order[cut:])
    return Split(inputs[kept], inputs[held], [labels[i] for i in kept], [labels[i] for i in held])


def train(rows: Rows, config: TrainConfig, run: Path, *, resume: bool = False) -> TrainedRun:
    """Train on `rows` and leave checkpoints and the encoder in the folder `run`.

    Ctrl-C ends the run after the epoch in hand, with a checkpoint and a usable encoder.

    Raises:
        DataError, ConfigError: before anything is trained.
        TrainingError: `run` holds a run and `resume` is not asked for; the loss left the numbers.
        ExportError: the exported encoder does not answer as the live model does.
    """
    checkpoint = latest_checkpoint(run)
    if not resume and (checkpoint or (run / "encoder").exists()):
        raise TrainingError(
            str(run),
            expected="a new folder",
            found="an earlier run",
            remedy="Choose another --run, or go on with --resume.",
        )
    split = split_rows(rows, config)
    preprocess = fit_preprocessor(split.train, _scale_kind(config, rows))
    _check_output(config, preprocess)
    device = resolve_device(config.fit.device)
    plan = _plan(config, len(split.train), build_corruption(config.corruption, preprocess.to(device)))
    torch.manual_seed(config.fit.seed)
    _check_weights(rows.width, config)
    model = Autoencoder(rows.width, latent_dim_for(rows.width, config.model), config.model).to(device)
    optimizer = build_optimizer(config.optimizer, model)
    settings = {"config": _plain(config), "data": {"name": rows.name, "rows": rows.count, "sha256": _digest(split)}}
    state = restore(checkpoint, model, optimizer, settings) if checkpoint else State()
    run.mkdir(parents=True, exist_ok=True)
    save = partial(save_checkpoint, run, state, model, optimizer, settings)
    with _few_threads(model, plan.batch_size), _fit_hooks(plan, state, save) as hooks:
        if state.stopped not in {"finished", "patience"}:
            data = Data(*(_scaled(part, preprocess, device) for part in (split.train, split.validation)))
            fit(model, build_loss(config.loss), optimizer, data, plan=plan, hooks=hooks, state=state)
    model.load_state_dict(state.best_weights)
    header = _header(rows, model, settings, state)
    encoder = export(run / "encoder", model, preprocess, probe=_probe(split), header=header)
    return TrainedRun(run, encoder, state, split)


def _plan(config: TrainConfig, count: int, corrupt: Corruption | None) -> FitPlan:
    fit = config.fit
    size = fit.batch_size if fit.batch_size != "auto" else min(256, max(16, count // 20))
    steps = math.ceil(count / size)
    if config.model.batch_norm and count < 2 * steps:
        raise ConfigError(
            "model.batch_norm",
            expected="at least 2 rows in a batch",
            found=f"{count} rows in batches of {size}",
            remedy="--set model.batch_norm=false",
        )
    return FitPlan(
        epochs=fit.epochs if fit.epochs != "auto" else min(300, max(30, math.ceil(3_000 / steps))),
        batch_size=size,
        patience=fit.patience,
        seed=fit.seed,
        schedule=build_schedule(config.optimizer),
        corrupt=corrupt,
    )


@contextlib.contextmanager
def _few_threads(model: Autoencoder, batch_size: int) -> Iterator[None]:
    """One thread where a step is short: more would gain nothing, and wait for each other where cores are busy."""
    before = torch.get_num_threads()
    if batch_size * sum(weights.numel() for weights in model.parameters()) < SHORT_STEP:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _fit_hooks(plan: FitPlan, state: State, save: Callable[[], None]) -> Iterator[Hooks]:
    """A progress bar, a checkpoint every few seconds and at the end, and Ctrl-C as a polite stop."""
    interrupted: list[int] = []
    saved = time.monotonic()

    def on_signal(number: int, frame: Any) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)

    def on_epoch(state: State) -> None:
        nonlocal saved
        last = state.history[-1]
        advance(1, f"loss {last.train_loss:.5f}, validation {last.validation_loss:.5f}")
        if state.stopped or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save()
            saved = time.monotonic()

    before = signal.getsignal(signal.SIGINT)
    with progress_bar("training", plan.epochs, "epochs") as advance:
        advance(len(state.history))
        with contextlib.suppress(ValueError):  # only the main thread may listen for signals
            signal.signal(signal.SIGINT, on_signal)
        try:
            yield Hooks(on_epoch=on_epoch, should_stop=lambda: bool(interrupted))
        finally:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGINT, before)


def _scale_kind(config: TrainConfig, rows: Rows) -> ScaleKind:
    if config.data.scale == "auto":
        return "center" if rows.pixels else "standard"
    return config.data.scale


def _check_output(config: TrainConfig, preprocess: Preprocessor) -> None:
    """A squashing output can only reach rows that lie in its range."""
    low, high = float(preprocess.low.min()), float(preprocess.high.max())
    reach = {"linear": -math.inf, "sigmoid": 0.0, "tanh": -1.0}[config.model.output]
    if low < reach - ROUNDING or (math.isfinite(reach) and high > 1.0 + ROUNDING):
        raise ConfigError(
            "model.output",
            expected=f"rows within [{reach:g}, 1] for {config.model.output}",
            found=f"[{low:.3g}, {high:.3g}]",
            remedy="--set data.scale=range, or --set model.output=linear",
        )


def _check_weights(width: int, config: TrainConfig) -> None:
    """Refuse what would take more memory than a mistake should."""
    widths = [width, *config.model.hidden, latent_dim_for(width, config.model)]
    weights = sum(ins * outs for ins, outs in pairwise(widths))
    if weights > MAX_WEIGHTS:
        raise ConfigError("model.hidden", expected=f"at most {MAX_WEIGHTS:,} weights a half", found=f"{weights:,}")


def _scaled(rows: NDArray[np.float32], preprocess: Preprocessor, device: torch.device) -> torch.Tensor:
    return preprocess.to(device).apply(torch.from_numpy(rows).to(device))


def _probe(split: Split) -> NDArray[np.float32]:
    """Held-out rows to compare the export on, filled up with training rows where they are few."""
    held = split.validation[:PROBE_ROWS]
    return np.concatenate([held, split.train[: PROBE_ROWS - len(held)]])


def _header(rows: Rows, model: Autoencoder, settings: dict[str, Any], state: State) -> dict[str, Any]:
    linear = [layer for layer in model.encoder if isinstance(layer, torch.nn.Linear)]
    return {
        "input_shape": list(rows.shape),
        "latent_dim": linear[-1].out_features,
        **settings,
        "best_epoch": state.best_epoch,
        "history": [dataclasses.asdict(epoch) for epoch in state.history],
    }


def _plain(config: TrainConfig) -> dict[str, Any]:
    """As JSON gives it back: tuples are lists."""
    plain = dataclasses.asdict(config)
    plain["model"]["hidden"] = list(config.model.hidden)
    return plain


def _digest(split: Split) -> str:
    digest = hashlib.sha256()
    for part in (split.train, split.validation):
        digest.update(part.data)
    return digest.hexdigest()

"""From settings and rows in memory to an encoder artifact: the code that a run (`job`) and an estimator share.

This module knows no run folders, checkpoints or signals.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn, optim

from lookalike.training.array_types import Floats
from lookalike.training.artifact.encoder import Encoder, resolve_device
from lookalike.training.artifact.export import export
from lookalike.training.artifact.preprocess import Preprocessor, fit_preprocessor
from lookalike.training.config import TrainConfig
from lookalike.training.corruption import Corruption, build_corruption
from lookalike.training.doctor.causes import diagnose
from lookalike.training.errors import ConfigError
from lookalike.training.fit.described import Described, described
from lookalike.training.fit.device_placement import place_on_device
from lookalike.training.fit.loop import fit
from lookalike.training.fit.precision import Precision, choose_bf16
from lookalike.training.fit.split import Split
from lookalike.training.fit.step_cost import few_threads, is_short
from lookalike.training.history import State
from lookalike.training.models.autoencoder import Autoencoder, latent_dim_for
from lookalike.training.models.column_loss import column_loss, column_weights
from lookalike.training.models.losses import Loss, bounded, build_loss, check_pair
from lookalike.training.models.optimizers import build_optimizer
from lookalike.training.models.targets import with_target
from lookalike.training.moves import moves_for
from lookalike.training.plan import Data, FitPlan, Hooks, automatic_batch, automatic_epochs
from lookalike.training.progress import progress_bar
from lookalike.training.rows import Rows, sketches, spread
from lookalike.training.schedules import build_schedule
from lookalike.training.tables.columns import describe_columns
from lookalike.training.transforms import WindowTransform

__all__ = ["Fitted", "Fitting", "epoch_bar", "prepare"]

MOST_HELD = 8_192
"""Held-out rows, evenly spaced, whose sketches an artifact stores, so that later steps can recognize them."""
PROBE_ROWS = 2_000
STEP_SECONDS = 0.2
"""Seconds between two updates of the progress within an epoch."""
ROUNDING = 1e-5
MOST_STEPS, DESCRIBED_STEPS = 15_000, 5_000
"""In training that chooses its epochs. An encoder that reads a descriptor needs fewer steps, and each takes longer."""
MAX_WEIGHTS = 1 << 28


@dataclass(frozen=True)
class Fitted:
    """A trained model with everything else that its artifact contains.

    Attributes:
        probe: (n, width) raw rows, held-out rows first, on which the export is compared with the live model.
        header: the fields of the artifact's manifest other than the layers.
    """

    model: Autoencoder
    preprocess: Preprocessor
    probe: Floats
    header: dict[str, Any]

    def export(self, target: Path) -> Encoder:
        """Write the artifact, or replace it. Raises ExportError if its output differs from the live model's."""
        return export(target, self.model, self.preprocess, probe=self.probe, header=self.header)


@dataclass(frozen=True)
class Fitting:
    """The inputs of the training loop, and the preprocessing that was applied to the rows."""

    preprocess: Preprocessor
    model: Autoencoder
    loss: Loss
    optimizer: optim.Optimizer
    data: Data
    plan: FitPlan

    def settings(self, rows: Rows, split: Split, config: TrainConfig) -> dict[str, Any]:
        """Return how the model is made, as plain JSON: the settings, the resolved `auto` values, and the rows."""
        table = self.preprocess.table
        return {
            "config": json.loads(json.dumps(dataclasses.asdict(config))),  # tuples are lists
            "precision": "bf16" if self.plan.bf16 else "fp32",
            "device": next(self.model.parameters()).device.type,
            "data": {"name": rows.name, "rows": rows.count, "sha256": split.digest()},
            **({"columns": describe_columns(table.fitted)} if table else {}),
        }

    def run(self, state: State, hooks: Hooks) -> None:
        """Continue from `state` to the end of the run; the model ends with its best weights.

        Raises TrainingError if the loss became NaN or infinite, or if training certainly cannot work.
        """
        if state.stopped not in {"finished", "patience", "hopeless"}:
            with few_threads(short=is_short(self.model, self.data.train, self.plan.batch_size)):
                fit(self.model, self.loss, self.optimizer, self.data, plan=self.plan, hooks=hooks, state=state)
        if state.stopped == "hopeless":
            raise diagnose(state)[0].error("a run that learns")
        self.model.load_state_dict(state.best_weights)
        self.model.eval()

    def fitted(self, rows: Rows, split: Split, settings: dict[str, Any], state: State) -> Fitted:
        """Return the trained model for export. `settings`: the manifest's fields about how the model was made."""
        held_out = split.validation[:PROBE_ROWS]
        linear = [layer for layer in self.model.encoder if isinstance(layer, nn.Linear)]
        header = {
            "input_shape": list(rows.shape),
            "latent_dim": linear[-1].out_features,
            "output": "logits" if self.loss.range_logits else "values",
            **({"transform": rows.transform.model_dump(mode="json")} if rows.transform else {}),
            **settings,
            "held_out": sketches(split.validation[spread(len(split.validation), MOST_HELD, rows.series)]).tolist(),
            "best_epoch": state.best_epoch,
            "history": [dataclasses.asdict(epoch) for epoch in state.history],
        }
        probe = np.concatenate([held_out, split.train[: PROBE_ROWS - len(held_out)]])
        return Fitted(self.model, self.preprocess, probe, header)


def prepare(rows: Rows, split: Split, config: TrainConfig, *, resumed: dict[str, Any] | None = None) -> Fitting:
    """Fit the preprocessing on the training rows, and build the model, the loss, the optimizer and the plan.

    Seeds torch's global generator. `resumed`: the `settings` of the run that is resumed; it keeps its device and
    its precision. Raises ConfigError for settings that conflict with each other or with these rows.
    """
    windows = rows.transform if isinstance(rows.transform, WindowTransform) else None
    scale = config.data.scale
    if scale == "auto":
        scale = "center" if rows.pixels else "channel" if windows else "standard"
    preprocess = fit_preprocessor(split.train, scale, rows.columns, split.origin, windows=windows)
    loss = build_loss(config.loss)
    device = resolve_device((resumed or {}).get("device", config.fit.device))
    numbers = len(preprocess.table.layout.numbers) if preprocess.table else preprocess.features
    if loss.range_logits:
        loss = bounded(loss, *(edge[:numbers].to(device) for edge in (preprocess.low, preprocess.high)))
    _check_names(rows, config)
    weights = column_weights(preprocess.columns, config.data.weight)
    if preprocess.table:
        loss = column_loss(loss, preprocess.table.layout, weights)
    check_pair(loss, config.model)
    _check_output(config, loss, preprocess)
    parts = split.train, split.validation
    scaled = [preprocess.apply_for_training(torch.from_numpy(part)) for part in parts]
    mean, pixels = scaled[0].mean(dim=0), rows.pixels and not rows.series
    moves = moves_for(config.corruption, preprocess.to(device), rows.shape, mean, pixels=pixels)
    corrupt = build_corruption(config.corruption, preprocess.to(device), rows.shape, series=rows.series, moves=moves)
    extra = described(config, preprocess, scaled[0], rows.shape, pixels=pixels)
    plan = _plan(config, len(split.train), corrupt, most_steps=DESCRIBED_STEPS if extra.layer else MOST_STEPS)
    if extra.target:
        loss = with_target(loss, extra.target.to(device), config.loss.target_weight)
    clipped = [preprocess.clipped(part, names) for part, names in zip(parts, split.places, strict=True)]
    train, validation = place_on_device(scaled, device)
    data = Data(train, validation, numbers=numbers, blurred=split.blurred, clipped=clipped[0].joined(clipped[1]))
    model = _build(rows, preprocess, config, extra).to(device)
    optimizer = build_optimizer(config.optimizer, model)
    precision: Precision = (resumed or {}).get("precision", config.fit.precision)
    bf16 = choose_bf16(precision, model, loss, optimizer, data.train[: plan.batch_size])
    return Fitting(preprocess, model, loss, optimizer, data, dataclasses.replace(plan, bf16=bf16))


@contextmanager
def epoch_bar(epochs: int, state: State, *, shown: bool = True, log: Path | None = None) -> Iterator[Hooks]:
    """Show the progress (training.progress); yield the hooks to call after each step and each epoch."""
    done = float(len(state.history))
    with progress_bar("training", epochs, "epochs", shown=shown, done=done, log=log) as advance:
        looked = time.monotonic()

        def on_step(step: int, steps: int) -> None:
            nonlocal looked, done
            if time.monotonic() - looked < STEP_SECONDS:
                return
            looked, before = time.monotonic(), done
            done = int(done) + step / steps if step < steps else done
            advance(done - before)

        def on_epoch(state: State) -> None:
            nonlocal done
            before, done = done, float(len(state.history))
            last = state.history[-1]
            losses = [math.nan if loss is None else loss for loss in (last.train_loss, last.validation_loss)]
            advance(done - before, "loss {:.5f}, validation {:.5f}".format(*losses))

        yield Hooks(on_step=on_step, on_epoch=on_epoch)


def _build(rows: Rows, preprocess: Preprocessor, config: TrainConfig, extra: Described) -> Autoencoder:
    """Build a model for preprocessed rows; they keep their shape if it has as many values."""
    shape = rows.shape if rows.width == preprocess.features else (preprocess.features,)
    latent_dim = latent_dim_for(preprocess.values, config.model)
    with torch.device("meta"):  # without storage
        sketch = Autoencoder(shape, latent_dim, config.model, series=rows.series)
    weights = max(sum(part.numel() for part in half.parameters()) for half in (sketch.encoder, sketch.decoder))
    if weights > MAX_WEIGHTS:  # the settings are likely a mistake
        field = {"mlp": "model.hidden", "conv": "model.channels"}[config.model.kind]
        expected = f"at most {MAX_WEIGHTS:,} weights in the encoder and in the decoder"
        raise ConfigError(field, expected=expected, found=f"{weights:,}")
    torch.manual_seed(config.fit.seed)
    targets = extra.target.size if extra.target else 0
    return Autoencoder(shape, latent_dim, config.model, series=rows.series, descriptor=extra.layer, targets=targets)


def _plan(config: TrainConfig, count: int, corrupt: Corruption | None, *, most_steps: int) -> FitPlan:
    fit = config.fit
    size = fit.batch_size if fit.batch_size != "auto" else automatic_batch(count)
    steps = math.ceil(count / size)
    if (config.model.batch_norm or config.model.latent_norm) and count < 2 * steps:
        expected, found = "at least 2 rows in a batch", f"{count} rows in batches of {size}"
        remedy = "--set model.batch_norm=false --set model.latent_norm=false"
        raise ConfigError("fit.batch_size", expected=expected, found=found, remedy=remedy)
    return FitPlan(
        epochs=fit.epochs if fit.epochs != "auto" else automatic_epochs(steps, most=most_steps),
        batch_size=size,
        patience=fit.patience,
        seed=fit.seed,
        schedule=build_schedule(config.optimizer),
        corrupt=corrupt,
        clip=config.optimizer.clip,
    )


def _check_names(rows: Rows, config: TrainConfig) -> None:
    """Refuse settings that name columns if the rows have no names."""
    for setting in ("columns", "exclude", "category", "number", "text"):
        if (names := getattr(config.data, setting)) and not rows.columns:
            expected = "no names of columns: the rows are not from a table"
            raise ConfigError(f"data.{setting}", expected=expected, found=", ".join(names))


def _check_output(config: TrainConfig, loss: Loss, preprocess: Preprocessor) -> None:
    """Refuse rows outside of the range that the output activation can produce."""
    low, high = float(preprocess.low.min()), float(preprocess.high.max())
    reach = {"linear": -math.inf, "sigmoid": 0.0, "tanh": -1.0}[config.model.output]
    field, needs = "model.output", str(config.model.output)
    if loss.target == "shares":
        field, needs, reach = "loss.kind", config.loss.kind, 0.0
    if low < reach - ROUNDING or (math.isfinite(reach) and high > 1.0 + ROUNDING):
        expected, found = f"rows within [{reach:g}, 1] for {needs}", f"[{low:.3g}, {high:.3g}]"
        remedy = "--set data.scale=range, or --set model.output=linear and loss.kind=mse"
        raise ConfigError(field, expected=expected, found=found, remedy=remedy)

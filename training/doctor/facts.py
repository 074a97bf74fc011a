"""Facts known before the first step: about the rows, the module, the loss and the plan."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from lookalike.training.doctor.portrait import foreign, sketch_of
from lookalike.training.doctor.reach import reach_of, target_link
from lookalike.training.history import finite
from lookalike.training.models.layers import Weighted, fans
from lookalike.training.models.losses import Loss
from lookalike.training.plan import Data, FitPlan
from lookalike.training.rows import fingerprints

__all__ = ["collect_facts", "duplicate_share"]

SAMPLE = 512
WIDEST = 2_048
COLUMNS = 64
VALUES = 1 << 23
"""Values in a sample: 64 to 128 MiB in float64."""
DIMENSIONS = 256
STRETCH = 50.0
_NONLINEAR = (
    nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.PReLU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.Softmax,
)  # fmt: skip
_BATCH = nn.modules.batchnorm._BatchNorm
_NORMS = (_BATCH, nn.LayerNorm, nn.GroupNorm)


def collect_facts(
    model: nn.Module, loss: Loss, optimizer: optim.Optimizer, data: Data, plan: FitPlan
) -> dict[str, Any]:
    """Return all facts as plain JSON: about the loss and the plan, and those of `_of_rows` and `_of_module`.

    bad_rows: how many rows, or their targets, contain NaN or infinity; if there are any, the facts end here.
    blurred: the raw columns whose distinct values become equal in float32.
    clipped: how many values are outside the range that the encoder knows, and the first of them as text.
    The model and torch's random state stay unchanged.
    """
    bad = _bad(data.train, data.train_targets) + _bad(data.validation, data.validation_targets)
    facts = {
        "rows": len(data.train),
        "validation_rows": len(data.validation),
        "columns": data.train.shape[1],
        "bad_rows": bad,
        "blurred": list(data.blurred),
        "clipped": [data.clipped.count, data.clipped.text()],
        "loss": loss.name,
        "wants": loss.output,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "optimizer": type(optimizer).__name__.lower(),
        "rates_differ": len({group.get("initial_lr", group["lr"]) for group in optimizer.param_groups}) > 1,
        "lr": max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups),
        "clip": plan.clip,
        "decay": max(group.get("weight_decay", 0.0) for group in optimizer.param_groups),
        "eps": max(group.get("eps", 0.0) for group in optimizer.param_groups),
        "momentum": max(_momentum(group) for group in optimizer.param_groups),
    }
    if bad:
        return facts
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        of_module = _of_module(model, optimizer, data.train, plan.batch_size)
        target = data.train if data.train_targets is None else data.train_targets
        facts |= _of_rows(data, loss, plan) | of_module
        return facts | reach_of(model, data.train, _wanted(loss, _spread(target, SAMPLE)))


def _wanted(loss: Loss, targets: Tensor) -> Tensor:
    """Return the outputs for these targets; logits beyond 2 make little difference."""
    if targets.dtype == torch.int64 or loss.constant is None:
        return targets
    wanted = loss.constant(targets)
    return wanted.clamp(-2, 2) if loss.output == "logits" else wanted


def _momentum(group: dict[str, Any]) -> float:
    """Return the share of the last step that is kept in the next step."""
    return float(group.get("momentum", 0.0) or group.get("betas", (0.0,))[0])


def duplicate_share(train: Tensor, validation: Tensor) -> float:
    """Return the share of validation rows that also occur among the training rows, equal to the last bit."""
    trained, held_out = (fingerprints(rows.float().flatten(1).cpu().numpy()) for rows in (train, validation))
    return float(np.isin(held_out, trained).sum()) / max(1, len(held_out))


def _bad(rows: Tensor, targets: Tensor | None) -> int:
    finite_rows = torch.isfinite(rows).reshape(len(rows), -1).all(dim=1)  # (n,)
    if targets is not None:
        finite_rows &= torch.isfinite(targets).reshape(len(rows), -1).all(dim=1)
    return int((~finite_rows).sum())


def _of_rows(data: Data, loss: Loss, plan: FitPlan) -> dict[str, Any]:
    """Return the facts about the rows, most of them from a sample.

    alike: whether all training rows are equal. target_low, target_high: the least and greatest target value.
    trivial_loss: the loss of the best constant answer, each column's mean, on the validation rows (for classes:
    the entropy of the class shares of the training rows). perfect_loss: the loss of an exact answer (not 0 for
    cross-entropy over shares). None for a loss that is not finite. train_trivial_loss and train_perfect_loss: the
    same on the training rows.
    lost: the share of the variance that the corruption removes. spectrum: the share of the variance that the best
    linear autoencoder of 1, 2, 3, ... dimensions leaves unexplained; empty if the data has separate targets.
    foreign: how much worse the main directions of the training rows describe the validation rows than other training
    rows. sketches: of the training rows and of the validation rows. link: how separate targets depend on their rows.
    """
    sample = _spread(data.train, 4 * SAMPLE)
    target = data.train if data.train_targets is None else data.train_targets
    validation_target = data.validation if data.validation_targets is None else data.validation_targets
    targets = _spread(target, 4 * SAMPLE)
    return {
        "alike": _alike(data.train),
        "duplicates": duplicate_share(data.train, data.validation),
        "target_low": float(targets.min()),
        "target_high": float(targets.max()),
        **_scale(sample[:, : data.numbers]),
        **_bounds(loss, targets, _spread(validation_target, 4 * SAMPLE)),
        **{f"train_{name}": value for name, value in _bounds(loss, targets, targets).items()},
        "lost": _lost(_spread(data.train, SAMPLE), plan),
        "spectrum": _spectrum(_spread(data.train, SAMPLE)) if data.train_targets is None else [],
        "foreign": _foreign(data),
        "sketches": [sketch_of(data.train), sketch_of(data.validation)],
        "link": target_link(_spread(data.train, SAMPLE), _spread(data.train_targets, SAMPLE))
        if data.train_targets is not None
        else None,
    }


def _foreign(data: Data) -> float | None:
    train, held = (
        _spread(rows, SAMPLE).flatten(1)[:, :: _stride(rows)].cpu() for rows in (data.train, data.validation)
    )
    mixed = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return foreign(train[mixed].double(), held.double())


def _stride(rows: Tensor) -> int:
    return max(1, -(-rows[:1].numel() // COLUMNS))


def _alike(rows: Tensor) -> bool:
    return len(rows) > 1 and all(bool((part == rows[0]).all()) for part in rows.tensor_split(64))


def _scale(sample: Tensor) -> dict[str, float]:
    """Return the facts about the scale of numeric columns, or none without such columns; categories share one scale.

    low, high: the least and greatest value. scale: the root mean square of all values. widest_column: the share of
    all variance in the column with the largest variance. numbers: how many columns.
    """
    if not sample.numel():
        return {}
    sample = sample.double()  # the squares of large values overflow float32
    power = sample.var(dim=0, correction=0)  # (numbers,)
    return {
        "low": float(sample.min()),
        "high": float(sample.max()),
        "scale": float(torch.linalg.vector_norm(sample)) / math.sqrt(sample.numel()),
        "widest_column": float(power.max() / power.sum().clamp_min(1e-30)),
        "numbers": sample.shape[1],
    }


def _of_module(model: nn.Module, optimizer: optim.Optimizer, rows: Tensor, batch_size: int) -> dict[str, Any]:
    """Return the facts about the model in its current state.

    depth: the number of weight matrices (and kernels). widths: the number of output values for a row, of each
    trainable weight matrix. frozen: the weight matrices of layers that need no gradient. alike_units: those whose units
    all have the same weights. statistics: the momentum of each batch norm.
    batch_norm: whether a batch norm computes its statistics over rows only, not also over
    the positions of a picture; norms: the number of normalization layers of any kind.
    missing: trainable parameters that are in no group of the optimizer. smallest_batch: rows in the smallest batch
    of an epoch. gain: the root mean square of a weight matrix times the square root of its fan-in, of the layer
    with the largest gain. A layer turns values of size 1 into values of that size; sqrt(2) is the largest gain of a
    standard initialization (He et al. 2015, "Delving deep into rectifiers").
    """
    optimized = {id(weights) for group in optimizer.param_groups for weights in group["params"]}
    parts = list(model.modules())
    behavior, widths = _behavior(model, rows[:64].to(next(model.parameters()).device))
    return {
        "depth": sum(weights.ndim > 1 for weights in model.parameters()),
        "weights": sum(weights.numel() for weights in model.parameters()),
        "widths": [widths.get(id(w), w.shape[0]) for w in model.parameters() if w.ndim > 1 and w.requires_grad],
        "activations": sorted({type(part).__name__ for part in parts if isinstance(part, _NONLINEAR)}),
        "batch_norm": any(isinstance(part, nn.BatchNorm1d) for part in parts),
        "norms": sum(isinstance(part, _NORMS) for part in parts),
        "missing": [name for name, w in model.named_parameters() if w.requires_grad and id(w) not in optimized],
        "frozen": [name for name, w in _matrices(parts, model) if not w.requires_grad],
        "alike_units": [name for name, w in _matrices(parts, model) if len(w) > 1 and bool((w == w[:1]).all())],
        "statistics": [part.momentum for part in parts if isinstance(part, _BATCH) and part.momentum is not None],
        "smallest_batch": len(rows) // math.ceil(len(rows) / batch_size),
        "latent_activation": _after_encoder(model),
        "gain": max((_gain(part) for part in parts if isinstance(part, Weighted)), default=0.0),
        **behavior,
    }


def _matrices(parts: list[nn.Module], model: nn.Module) -> list[tuple[str, Tensor]]:
    weighted = {id(part.weight) for part in parts if isinstance(part, Weighted)}
    return [(name, w) for name, w in model.named_parameters() if id(w) in weighted]


def _gain(layer: Weighted) -> float:
    return float(layer.weight.detach().square().mean().sqrt()) * math.sqrt(fans(layer)[0])


def _after_encoder(model: nn.Module) -> str:
    """Return the name of the activation that `model.encoder` ends with, or "" if it ends with something else."""
    encoder = getattr(model, "encoder", None)
    last = list(encoder.modules())[-1] if isinstance(encoder, nn.Module) else None
    return type(last).__name__ if isinstance(last, _NONLINEAR) else ""


def _behavior(model: nn.Module, rows: Tensor) -> tuple[dict[str, Any], dict[int, int]]:
    """Return facts about the model's output for `rows` and for extreme rows, and each weight matrix's output width.

    last: the type of the module that was called last. answers: the least and the greatest output value, if finite.
    sums_to_one: whether each output does, like that of a softmax. affine: whether f(a) + f(b) = f(a + b) + f(0), so
    that the model is one matrix product regardless of its depth.
    """
    half, last, widths = len(rows) // 2, [""], dict[int, int]()

    def on_forward(part: nn.Module, inputs: object, output: Any) -> None:
        last[0] = type(part).__name__
        if isinstance(output, Tensor) and isinstance(weights := getattr(part, "weight", None), Tensor):
            widths[id(weights)] = output.numel() // len(output)

    with _probing(model, on_forward):
        answers = model(torch.cat([rows, STRETCH * rows, -STRETCH * rows])).float()
        edges = [float(edge) for edge in answers.aminmax()]
        return {
            "last": last[0],
            **({"answers": edges} if all(map(math.isfinite, edges)) else {}),
            "sums_to_one": answers.shape[1] > 1 and bool((answers.sum(dim=1) - 1).abs().max() < 1e-3),
            "affine": half > 0 and _is_affine(model, STRETCH * rows[:half], STRETCH * rows[half : 2 * half]),
        }, widths


@contextmanager
def _probing(model: nn.Module, on_forward: Callable[[nn.Module, object, Any], None]) -> Iterator[None]:
    """Switch to eval mode without gradients and observe the calls of each leaf module; restore everything after."""
    modes = [(part, part.training) for part in model.modules()]
    leaves = [part for part in model.modules() if not list(part.children())]
    handles = [leaf.register_forward_hook(on_forward) for leaf in leaves]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training
        for handle in handles:
            handle.remove()


def _is_affine(model: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> bool:
    origin = model(torch.zeros_like(a[:1]))
    together, apart = model(a + b) + origin, model(a) + model(b)
    scale = (together - 2 * origin).abs().max()  # 0 if all units are dead: then the result is False
    return bool((together - apart).abs().max() < 1e-4 * scale)


def _bounds(loss: Loss, targets: Tensor, evaluated: Tensor) -> dict[str, float | None]:
    """Return the losses on `evaluated` of the best constant answer for `targets`, and of an exact answer."""
    if loss.target == "classes":
        shares = torch.bincount(targets) / len(targets)
        return {"trivial_loss": float(-(shares * shares.clamp_min(1e-12).log()).sum()), "perfect_loss": 0.0}
    constant = _output_for(loss, targets.mean(dim=0))
    constant = constant.expand(len(evaluated), *constant.shape)
    return {
        "trivial_loss": finite(float(loss(constant, evaluated))),
        "perfect_loss": finite(float(loss(_output_for(loss, evaluated), evaluated))),
    }


def _output_for(loss: Loss, target: Tensor) -> Tensor:
    """Return the model output that predicts `target`, (..., width)."""
    return loss.constant(target) if loss.constant else target


def _lost(rows: Tensor, plan: FitPlan) -> float:
    """Return 1 - the squared correlation of clean and corrupted values, averaged over columns by their variance."""
    if plan.corrupt is None:
        return 0.0
    generator = torch.Generator(rows.device).manual_seed(plan.seed)
    seen, clean = plan.corrupt(rows, generator).double(), rows.double()
    clean, seen = clean - clean.mean(dim=0), seen - seen.mean(dim=0)
    shared = (clean * seen).mean(dim=0).square() / seen.square().mean(dim=0).clamp_min(1e-12)  # (width,)
    return float(1 - shared.sum() / clean.square().mean(dim=0).sum().clamp_min(1e-12))


def _spectrum(sample: Tensor) -> list[float]:
    """Return `spectrum` from the eigenvalues of the sample's Gram matrix; wide rows use every n-th column only."""
    columns = sample[:, :: max(1, sample.shape[1] // WIDEST)].double().cpu()
    centered = columns - columns.mean(dim=0)
    power = torch.linalg.eigvalsh(centered @ centered.T).flip(0).clamp_min(0)  # (n,) greatest first
    left = 1 - power.cumsum(0) / power.sum().clamp_min(1e-300)
    return [round(float(share), 4) for share in left[: min(columns.shape[1], DIMENSIONS)]]


def _spread(rows: Tensor, most: int) -> Tensor:
    """Return up to twice `most` rows, evenly spaced; fewer if rows are wide, so that the sample stays small."""
    most = max(2, min(most, VALUES // max(1, rows[:1].numel())))
    return rows[:: max(1, len(rows) // most)]

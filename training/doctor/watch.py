"""Observe a training loop through PyTorch's hooks. Works with any loop, also with a user's.

    with Watch(model, optimizer) as watch:
        for epoch in range(10):
            for batch in batches:
                ...                      # zero_grad, forward, backward, step
                watch.step(loss)
            vitals = watch.epoch()

To cost little, it observes only the steps 0, 1, 2, 4, 8, 16, ... of an epoch closely.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.hooks import RemovableHandle

from lookalike.training.history import WithinEpoch
from lookalike.training.models.layers import LatentNoise

__all__ = ["Watch"]

BUCKETS = 10
LATENT_ROWS = 512
DEAD_DIMENSION = 0.01
_BatchNorm, _Dropout = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd


class Watch:
    """Collects the vital signs of an epoch: see `epoch` for the list."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.layers: list[Tensor] = [w for w in model.parameters() if w.ndim > 1 and w.requires_grad]
        self.mode_dependent = [part for part in model.modules() if _depends_on_mode(part)]
        self.handles: list[RemovableHandle] = []
        self.stepped = False
        self._reset()

    def __enter__(self) -> "Watch":
        self.handles = [
            self.model.register_forward_hook(self._on_forward),
            self.optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            self.optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]
        if latent := _latent_layer(self.model):
            self.handles.append(latent.register_forward_hook(self._on_latent))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def step(self, loss: Tensor) -> None:
        """Record the loss of a step; call this after each step. The loss stays on its device."""
        self.losses.append(loss.detach())

    def epoch(self) -> dict[str, Any]:
        """Return the vital signs since the last call, as plain JSON; signs that could not be observed are left out.

        losses: ten means over consecutive steps; first_loss, worst_loss: of a single step.
        gradient, update: per trainable weight matrix, the root mean square of its gradient, and the norm of a step
            relative to the norm of the matrix; medians over the observed steps. first_gradient: of the first step.
        first_norm, worst_norm: the norm of all matrices' gradients together, as the optimizer receives them.
        dead: per matrix, the share of its outputs (of a transposed kernel: inputs) without a gradient in all observed
            steps.
        latent: the share of dead dimensions, the effective rank and the median deviation, of the rows encoded
            without gradients.
        stale: observed steps at which a gradient of an earlier step was still present; looks: observed steps.
        train_mode: whether the model was called without gradients but with dropout or batch norm in train mode.
        """
        losses = torch.stack(self.losses).float().cpu() if self.losses else torch.zeros(0)
        vitals = {
            "steps": len(losses),
            "losses": [_number(part.mean()) for part in losses.tensor_split(min(BUCKETS, max(1, len(losses))))],
            "first_loss": _number(losses[0]) if len(losses) else None,
            "worst_loss": _number(losses.max()) if len(losses) else None,
            "stale": self.stale,
            "looks": len(self.norms),
            "train_mode": self.train_mode,
            **self._gradient_signs(),
            "latent": _latent_signs(torch.cat(self.latent)) if self.latent else None,
        }
        self._reset()
        return vitals

    def within(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Return what was observed since the last `epoch`: numbers and tensors, for `continue_from`."""
        lists = {"losses": self.losses, "norms": self.norms, "gradients": self.gradients, "updates": self.updates}
        tensors = {f"watch_{name}": torch.stack(values) for name, values in lists.items() if values}
        tensors |= {f"watch_alive_{number}": alive.clone() for number, alive in enumerate(self.alive)}
        return {"stale": self.stale, "train_mode": int(self.train_mode)}, tensors

    def continue_from(self, epoch: WithinEpoch) -> None:
        """Continue an epoch after the observations that `within` returned."""
        device = next(self.model.parameters()).device
        kept = {name: tensor.to(device) for name, tensor in epoch.tensors.items()}
        for name in ("losses", "norms", "gradients", "updates"):
            setattr(self, name, list(kept.get(f"watch_{name}", torch.zeros(0))))
        self.alive[:] = [kept[f"watch_alive_{number}"] for number in range(len(self.layers))]
        self.stale, self.train_mode = epoch.counts["stale"], bool(epoch.counts["train_mode"])

    def _reset(self) -> None:
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.updates: list[Tensor] = []
        self.alive: list[Tensor] = [torch.zeros(len(w), dtype=torch.bool, device=w.device) for w in self.layers]
        self.latent: list[Tensor] = []
        self.stale, self.train_mode = 0, False

    def _gradient_signs(self) -> dict[str, Any]:
        if not self.norms:
            return {}
        norms = torch.stack(self.norms)
        return {
            "first_norm": _number(norms[0]),
            "first_gradient": _numbers(self.gradients[0]),
            "worst_norm": _number(norms.max()),
            "gradient": _numbers(torch.stack(self.gradients).median(dim=0).values),
            "update": _numbers(torch.stack(self.updates).median(dim=0).values) if self.updates else [],
            "dead": [_number(1.0 - alive.float().mean()) for alive in self.alive],
        }

    @property
    def _observing(self) -> bool:
        return len(self.losses).bit_count() < 2

    def _on_forward(self, module: nn.Module, inputs: object, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if not torch.is_grad_enabled():
            self.train_mode |= any(part.training for part in self.mode_dependent)
        elif output.requires_grad:
            output.register_hook(lambda gradient: self._on_backward())  # type: ignore[no-untyped-call]

    def _on_backward(self) -> None:
        """Check for stale gradients at the first backward pass after a step; later passes may accumulate."""
        first, self.stepped = self.stepped, False
        if first and self._observing:
            optimized = (w for group in self.optimizer.param_groups for w in group["params"])
            self.stale += any(w.grad is not None and bool(w.grad.any()) for w in optimized)

    def _on_latent(self, module: nn.Module, inputs: object, output: Any) -> None:
        if torch.is_grad_enabled() or not isinstance(output, Tensor):
            return
        if sum(map(len, self.latent)) < LATENT_ROWS:
            self.latent.append(output.detach().float().flatten(1)[:LATENT_ROWS])

    @torch.no_grad()
    def _before_step(self) -> None:
        if not (self._observing and self.layers):
            return
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.layers]
        for alive, gradient in zip(self.alive, gradients, strict=True):
            alive |= gradient.flatten(1).any(dim=1)
        norms = torch.stack(torch._foreach_norm(gradients))  # (layers,)
        self.norms.append(torch.linalg.vector_norm(norms))
        self.gradients.append(norms / norms.new_tensor([math.sqrt(w.numel()) for w in self.layers]))
        self.before = [w.detach().clone() for w in self.layers]

    @torch.no_grad()
    def _after_step(self) -> None:
        self.stepped = True
        if not (self._observing and self.layers):
            return
        norms = torch.stack(torch._foreach_norm(self.before))  # (layers,)
        torch._foreach_sub_(self.before, self.layers)
        self.updates.append(torch.stack(torch._foreach_norm(self.before)) / norms.clamp_min(1e-12))


def _depends_on_mode(part: nn.Module) -> bool:
    """Whether a module behaves differently in train mode and in eval mode."""
    if isinstance(part, _BatchNorm):
        return part.track_running_stats
    return isinstance(part, LatentNoise) or (isinstance(part, _Dropout) and part.p > 0)


def _latent_layer(model: nn.Module) -> nn.Module | None:
    """Return `model.encoder`, or else the narrowest linear layer."""
    if isinstance(encoder := getattr(model, "encoder", None), nn.Module):
        return encoder
    linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
    return min(linear, key=lambda part: part.out_features, default=None)


def _latent_signs(latent: Tensor) -> dict[str, Any] | None:
    """(n, latent) -> the share of dead dimensions, the effective rank, and the median deviation.

    The effective rank is the participation ratio of the covariance's eigenvalues, (sum l)^2 / sum l^2.
    """
    if len(latent) < 2 or not bool(torch.isfinite(latent).all()):
        return None
    centered = (latent - latent.mean(dim=0)).cpu().double()
    deviation = centered.square().mean(dim=0).sqrt()
    power = torch.linalg.svdvals(centered).square()
    rank = power.sum().square() / power.square().sum().clamp_min(1e-300)
    dead = (deviation <= DEAD_DIMENSION * deviation.max()) | (deviation < 1e-6)
    return {"dead": _number(dead.double().mean()), "rank": _number(rank), "deviation": _number(deviation.median())}


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values]


def _number(value: Any) -> float | None:
    """Return a value rounded to four significant digits; None for NaN and infinity, which JSON cannot represent."""
    plain = float(value)
    return float(f"{plain:.4g}") if math.isfinite(plain) else None

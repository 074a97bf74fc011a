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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.hooks import RemovableHandle

from lookalike.training.doctor.paths import Paths
from lookalike.training.doctor.plain import number, numbers
from lookalike.training.doctor.portrait import Portrait
from lookalike.training.history import WithinEpoch
from lookalike.training.models.layers import LatentNoise

__all__ = ["Watch"]

BUCKETS = 10
LATENT_ROWS = 512
DEAD_DIMENSION = 0.01
_BatchNorm, _Dropout = nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd


class Watch:
    """Collects the vital signs of an epoch: see `epoch` for the list."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer, *, epochs: int = 0) -> None:
        """`epochs`: how many the run has done before, if it is resumed."""
        self.model, self.optimizer = model, optimizer
        self.layers: list[Tensor] = [w for w in model.parameters() if w.ndim > 1 and w.requires_grad]
        self.mode_dependent = [part for part in model.modules() if _depends_on_mode(part)]
        self.handles: list[RemovableHandle] = []
        self.stepped = False
        self.paths = Paths(model, optimizer, self.layers, lambda: self._observing)
        self.portrait = Portrait(epochs)
        self._reset()

    def __enter__(self) -> "Watch":
        self.handles = [
            self.model.register_forward_hook(self._on_forward),
            self.optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            self.optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]
        if latent := _latent_layer(self.model):
            self.handles.append(latent.register_forward_hook(self._on_latent))
        places = {id(w): which for which, w in enumerate(self.layers)}
        for part in self.model.modules():
            if (which := places.get(id(getattr(part, "weight", None)))) is not None:
                self.handles.append(part.register_forward_hook(self._lighting(which)))
        self.handles += self.paths.handles()
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def step(self, loss: Tensor) -> None:
        """Record the loss of a step; call this after each step. The loss stays on its device."""
        self.portrait.step()
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
        lit: per matrix, the share of its outputs that were above 0 for some row; 1 if no module's output shows it.
        train_mode: whether the model was called without gradients but with dropout or batch norm in train mode.
        eval_mode: observed steps at which dropout and batch norm were in eval mode.
        The signs of `training.doctor.paths` and `training.doctor.portrait`.
        """
        losses = torch.stack(self.losses).float().cpu() if self.losses else torch.zeros(0)
        vitals = {
            "steps": len(losses),
            "losses": [number(part.mean()) for part in losses.tensor_split(min(BUCKETS, max(1, len(losses))))],
            "first_loss": number(losses[0]) if len(losses) else None,
            "worst_loss": number(losses.max()) if len(losses) else None,
            "stale": self.stale,
            "looks": len(self.norms),
            "train_mode": self.train_mode or (self.pending and self.pending_mode),
            "eval_mode": self.eval_mode,
            **self._gradient_signs(),
            **self.paths.signs(),
            **self.portrait.signs(losses),
            "latent": _latent_signs(torch.cat(self.latent)) if self.latent else None,
        }
        self.paths.end_epoch()
        self.paths.reset()
        self._reset()
        return vitals

    def within(self) -> tuple[dict[str, int], dict[str, Tensor]]:
        """Return what was observed since the last `epoch`: numbers and tensors, for `continue_from`."""
        tensors = {f"watch_{name}": torch.stack(values) for name, values in self._lists().items() if values}
        for name in ("alive", "lit"):
            tensors |= {f"watch_{name}_{which}": flags.clone() for which, flags in enumerate(getattr(self, name))}
        counts = {"stale": self.stale, "train_mode": int(self.train_mode), "eval_mode": self.eval_mode}
        return counts | {"steps_before": self.paths.moves, **self.paths.counts}, tensors

    def continue_from(self, epoch: WithinEpoch) -> None:
        """Continue an epoch after the observations that `within` returned."""
        device = next(self.model.parameters()).device
        kept = {name: tensor.to(device) for name, tensor in epoch.tensors.items()}
        for name, values in self._lists().items():
            values[:] = list(kept.get(f"watch_{name}", torch.zeros(0)))
        for name in ("alive", "lit"):
            getattr(self, name)[:] = [kept[f"watch_{name}_{which}"] for which in range(len(self.layers))]
        self.stale, self.train_mode = epoch.counts["stale"], bool(epoch.counts["train_mode"])
        self.eval_mode, self.paths.moves = epoch.counts["eval_mode"], epoch.counts["steps_before"]
        self.paths.counts = {name: epoch.counts[name] for name in self.paths.counts}

    def _lists(self) -> dict[str, list[Tensor]]:
        mine = {"losses": self.losses, "norms": self.norms, "gradients": self.gradients, "updates": self.updates}
        return mine | self.paths.lists | self.portrait.lists

    def _reset(self) -> None:
        self.losses: list[Tensor] = []
        self.norms: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.updates: list[Tensor] = []
        self.alive: list[Tensor] = [torch.zeros(len(w), dtype=torch.bool, device=w.device) for w in self.layers]
        self.lit: list[Tensor] = [torch.zeros_like(alive) for alive in self.alive]
        self.latent: list[Tensor] = []
        self.stale, self.train_mode, self.eval_mode = 0, False, 0
        self.pending, self.pending_mode = False, False

    def _gradient_signs(self) -> dict[str, Any]:
        if not self.norms:
            return {}
        norms = torch.stack(self.norms)
        return {
            "first_norm": number(norms[0]),
            "first_gradient": numbers(self.gradients[0]),
            "worst_norm": number(norms.max()),
            "gradient": numbers(torch.stack(self.gradients).median(dim=0).values),
            "update": numbers(torch.stack(self.updates).nanmedian(dim=0).values) if self.updates else [],
            "dead": [number(1.0 - alive.float().mean()) for alive in self.alive],
            "lit": [number(lit.float().mean()) for lit in self.lit],
        }

    @property
    def _observing(self) -> bool:
        return len(self.losses).bit_count() < 2

    def _on_forward(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        rows = inputs[0] if inputs else None
        if not torch.is_grad_enabled():
            self.train_mode |= any(part.training for part in self.mode_dependent)
            self.portrait.judge(rows, output)
        elif output.requires_grad:
            self.pending, self.pending_mode = True, any(part.training for part in self.mode_dependent)
            self.portrait.see(rows, output, look=self._observing)
            output.register_hook(self._on_backward)  # type: ignore[no-untyped-call]

    def _lighting(self, which: int) -> Callable[[nn.Module, Any, Any], None]:
        """Return a hook that notes which outputs of a matrix are above 0 for some row."""

        @torch.no_grad()
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if not (self._observing and module.training and isinstance(output, Tensor) and output.ndim > 1):
                return
            on = (output > 0).transpose(0, 1).flatten(1).any(dim=1)
            self.lit[which] = self.lit[which] | on if len(on) == len(self.lit[which]) else self.lit[which] | True

        return note

    def _on_backward(self, gradient: Tensor) -> None:
        """Check for stale gradients at the first backward pass after a step; later passes may accumulate."""
        self.portrait.pulled(gradient)
        if self.pending and self._observing and self.mode_dependent and not self.pending_mode:
            self.eval_mode += 1
        self.pending = False
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
            self.paths.skip()
            return
        self.read = [torch.zeros_like(w) if w.grad is None else w.grad.detach() for w in self.layers]
        for alive, gradient in zip(self.alive, self.read, strict=True):
            alive |= gradient.flatten(1).any(dim=1)
        norms = torch.stack(torch._foreach_norm(self.read))  # (layers,)
        self.norms.append(torch.linalg.vector_norm(norms))
        self.gradients.append(norms / norms.new_tensor([math.sqrt(w.numel()) for w in self.layers]))
        self.paths.before_step(self.read)
        self.before = [w.detach().clone() for w in self.layers]

    @torch.no_grad()
    def _after_step(self) -> None:
        self.stepped = True
        self.paths.count_move()
        if not (self._observing and self.layers):
            return
        norms = torch.stack(torch._foreach_norm(self.before))  # (layers,)
        torch._foreach_sub_(self.before, self.layers)
        relative = torch.stack(torch._foreach_norm(self.before)) / norms.clamp_min(1e-12)
        self.updates.append(relative)
        self.paths.after_step(self.read, self.before, relative)
        self.read, self.before = [], []


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
    return {"dead": number(dead.double().mean()), "rank": number(rank), "deviation": number(deviation.median())}

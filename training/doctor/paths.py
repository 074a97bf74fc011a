"""What happens to the gradient of each weight matrix between the backward pass and the end of the step.

backward -> the gradient arrives -> (clipped, zeroed, replaced) -> the optimizer reads it -> the matrix moves
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.hooks import RemovableHandle

from lookalike.training.doctor.plain import median, number, numbers

__all__ = ["Paths"]

NEVER = -1.0


class Paths:
    """Measures the paths of all trainable weight matrices in the steps for which `looking` is true.

    Attributes:
        lists: what each look measured, as tensors: per matrix, or per step.
        counts: optimizer steps, and steps before which the optimizer had lost its state.
    """

    def __init__(
        self, model: nn.Module, optimizer: optim.Optimizer, layers: list[Tensor], looking: Callable[[], bool]
    ) -> None:
        self.model, self.optimizer, self.layers, self.looking = model, optimizer, layers, looking
        self.delivered: list[Tensor | None] = [None] * len(layers)
        self.after: list[Tensor] = []
        self.start: list[Tensor] = []
        self.moves = 0
        self.kept_state = False
        self.versions = 0
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.lists: dict[str, list[Tensor]] = {
            name: [] for name in ("arrived", "used", "step", "rates", "agreement", "undone", "length")
        }
        self.counts = {"moves": 0, "lost": 0}
        self.versions = self._versions()

    def handles(self) -> list[RemovableHandle]:
        """Hooks that see a gradient as soon as the backward pass has added it."""
        return [
            w.register_post_accumulate_grad_hook(lambda w, n=n: self._arrive(n, w))  # type: ignore[no-untyped-call]
            for n, w in enumerate(self.layers)
        ]

    def _arrive(self, which: int, weights: Tensor) -> None:
        if self.looking() and weights.grad is not None:
            self.delivered[which] = weights.grad.detach().clone()

    @torch.no_grad()
    def before_step(self, gradients: list[Tensor]) -> None:
        """Compare what arrived with what the optimizer is about to read."""
        arrived = [
            g if g is not None else torch.zeros_like(w) for g, w in zip(self.delivered, self.layers, strict=True)
        ]
        norms, used = torch.stack(torch._foreach_norm(arrived)), torch.stack(torch._foreach_norm(gradients))
        never = torch.tensor([g is None for g in self.delivered], device=norms.device)
        self.lists["arrived"].append(torch.where(never, NEVER, norms))
        self.lists["used"].append(used)
        products = sum((a * g).sum() for a, g in zip(arrived, gradients, strict=True))
        sizes = torch.linalg.vector_norm(norms) * torch.linalg.vector_norm(used)
        self.agreed = torch.as_tensor(products, device=norms.device) / sizes.clamp_min(1e-30)
        if not self.counts["moves"]:
            self.start = [w.detach().clone() for w in self.layers]
        rates = {id(w): float(group["lr"]) for group in self.optimizer.param_groups for w in group["params"]}
        self.lists["rates"].append(norms.new_tensor([rates.get(id(w), NEVER) for w in self.layers]))
        self.lists["undone"].append(self._undone(norms))
        self.counts["lost"] += self.kept_state and not any(w in self.optimizer.state for w in self.layers)

    @torch.no_grad()
    def after_step(self, gradients: list[Tensor], change: list[Tensor], relative: Tensor) -> None:
        """`change`: per matrix, its value before the step minus that after; `relative`: the norms of the changes."""
        used = torch.linalg.vector_norm(self.lists["used"][-1])
        moved = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(change)))
        along = sum((c * g).sum() for c, g in zip(change, gradients, strict=True))
        along = torch.as_tensor(along, device=moved.device) / (used * moved).clamp_min(1e-30)
        self.lists["agreement"].append(torch.stack([self.agreed, along]))
        self.lists["step"].append(relative)
        self.lists["length"].append(moved)
        self.delivered = [None] * len(self.layers)
        self.kept_state |= any(bool(self.optimizer.state.get(w)) for w in self.layers)
        steps = [state.get("step") for w in self.layers[:1] if (state := self.optimizer.state.get(w))]
        restarted = self.moves > 2 and bool(steps) and steps[0] is not None and float(steps[0]) <= 1
        self.counts["lost"] += restarted
        self.after, self.moved = [w.detach().clone() for w in self.layers], moved

    def count_move(self) -> None:
        """Count a step of the optimizer; the weights after it are compared only if the next step is a look, too."""
        self.counts["moves"] += 1
        self.moves += 1

    def end_epoch(self) -> None:
        """Remember the weights: the next epoch must begin with them."""
        if self.counts["moves"] and self.lists["step"]:
            self.after, self.moved = [w.detach().clone() for w in self.layers], self.lists["length"][-1]
        self.start = []

    def skip(self) -> None:
        """Forget the weights after the last look: a step that is not a look comes between."""
        self.after = []
        self.delivered = [None] * len(self.layers)

    def _undone(self, like: Tensor) -> Tensor:
        """Return how much of the last step something else than the optimizer changed; negative if that is unknown."""
        if not self.after:
            return like.new_tensor(NEVER)
        torch._foreach_sub_(self.after, self.layers)
        changed = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.after)))
        self.after = []
        relative: Tensor = changed / self.moved.clamp_min(1e-30)
        return relative

    def signs(self) -> dict[str, Any]:
        """Return the signs of the epoch, as plain JSON.

        reached: per matrix, the share of looks in which the backward pass gave it a gradient; arrived: one that is
            not 0; used: one that is not 0 when the optimizer reads it; moved: in which it changed.
        kept: the norm of all gradients at the step, relative to their norm on arrival. turned, along: the cosine of
            the gradients at the step with those that arrived, and of the change with the descent; along_first: of
            the first look.
        rates: the least and the greatest learning rate of a matrix. still: per matrix, the share of looks at rate 0.
        returned: whether the weights at the end are those of the start.
        undone: how far the weights changed between two steps, relative to a step.
        moves: the optimizer's steps; lost: looks at which it had lost its state. edited: whether weights changed
            though it took no step.
        frozen: per matrix, whether it needs no gradient any more.
        """
        signs: dict[str, Any] = {
            **self.counts,
            "edited": not self.counts["moves"] and self._versions() != self.versions,
            "frozen": [not w.requires_grad for w in self.layers],
        }
        if not self.lists["step"]:
            return signs
        names = ("arrived", "used", "step", "rates", "agreement", "undone")
        arrived, used, step, rates, agreement, undone = (torch.stack(self.lists[name]).cpu() for name in names)
        arrived, used, rates, undone = (part[: len(step)] for part in (arrived, used, rates, undone))
        norms = arrived.clamp_min(0).square().sum(dim=1).sqrt(), used.square().sum(dim=1).sqrt()
        optimized = rates[rates >= 0]
        returned = bool(self.start) and bool((step > 0).any()) and all(map(torch.equal, self.start, self.layers))
        return signs | {
            "returned": returned,
            "reached": numbers((arrived >= 0).double().mean(dim=0)),
            "arrived": numbers((arrived > 0).double().mean(dim=0)),
            "used": numbers((used > 0).double().mean(dim=0)),
            "moved": numbers((step > 0).double().mean(dim=0)),
            "kept": median(norms[1][norms[0] > 0] / norms[0][norms[0] > 0]),
            "turned": median(agreement[:, 0][(norms[0] > 0) & (norms[1] > 0)]),
            "along": median(agreement[:, 1][(norms[1] > 0) & (step > 0).any(dim=1)]),
            "along_first": number(agreement[0, 1]),
            "rates": [number(optimized.min()), number(optimized.max())] if len(optimized) else None,
            "still": numbers((rates == 0).double().mean(dim=0)),
            "undone": number(undone.clamp_min(0).max()),
        }

    def _versions(self) -> int:
        return sum(int(w._version) for w in self.layers)

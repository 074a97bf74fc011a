"""The batches of one epoch: shuffled rows and the random generator, and how far the epoch is."""

import math

import torch
from torch import Tensor

from lookalike.training.history import State
from lookalike.training.plan import Data, FitPlan

__all__ = ["EpochBatches", "seeded"]

_GENERATOR, _CPU, _CUDA, _TOTAL = "generator", "random_cpu", "random_cuda", "total"


class EpochBatches:
    """The batches of the epoch after `state.history`; continues within the epoch if `state.within` is not None.

    Attributes:
        generator: draws the order of the rows and the corruption; dropout draws from torch's global generator.
        step: the steps that are done.
        total: the sum of the losses of all rows so far, on the training device: no stall per step.
        losses: the validation losses of the epochs before; infinity for a loss that is not finite.
    """

    def __init__(self, data: Data, plan: FitPlan, state: State, device: torch.device) -> None:
        self.number, self.device = len(state.history), device
        self.losses = [math.inf if epoch.validation_loss is None else epoch.validation_loss for epoch in state.history]
        self.generator = seeded(plan.seed, self.number + 1, device)
        count = len(data.train)
        order = torch.randperm(count, generator=self.generator, device=device).to(data.train.device)
        self.all = order.tensor_split(math.ceil(count / plan.batch_size))  # equal to within one row
        self.step, self.total = 0, torch.zeros((), device=device)
        if state.within:
            self._continue_from(state.within.step, state.within.tensors)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of the random generators and the total, with which the epoch continues."""
        cuda = {_CUDA: torch.cuda.get_rng_state(self.device)} if self.device.type == "cuda" else {}
        state, of_cpu = self.generator.get_state(), torch.random.get_rng_state()
        return {_GENERATOR: state, _CPU: of_cpu, _TOTAL: self.total.clone(), **cuda}

    def _continue_from(self, step: int, tensors: dict[str, Tensor]) -> None:
        self.step, self.total = step, tensors[_TOTAL].to(self.device)
        self.generator.set_state(tensors[_GENERATOR])
        torch.random.set_rng_state(tensors[_CPU])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors[_CUDA], self.device)


def seeded(seed: int, number: int, device: torch.device) -> torch.Generator:
    """Return the generator of an epoch, counted from 1, and seed torch's global generators with the same number."""
    mixed = (seed * 1_000_003 + number) % (1 << 62)
    torch.manual_seed(mixed)
    return torch.Generator(device).manual_seed(mixed)

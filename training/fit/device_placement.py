"""Place the training rows: on the model's device if they fit, else in main memory."""

import torch
from torch import Tensor

__all__ = ["fits", "place_on_device"]


def place_on_device(parts: list[Tensor], device: torch.device) -> list[Tensor]:
    """Return all parts on `device`, or in pinned memory if they need more than half of the device's free memory.

    The loop moves rows that are not on the device batch by batch; a GPU copies fastest from pinned memory.
    """
    if device.type == "cpu":
        return parts
    free, _ = torch.cuda.mem_get_info(device)
    if fits(sum(part.nbytes for part in parts), free):
        return [part.to(device) for part in parts]
    return [part.pin_memory() for part in parts]


def fits(needed: int, free: int) -> bool:
    """Whether at least half of the `free` bytes remain for weights, gradients and batches."""
    return 2 * needed <= free

"""Where the rows lie while a model is trained: on its device where they fit, in memory where not."""

import torch
from torch import Tensor

__all__ = ["fits", "place_on_device"]


def place_on_device(parts: list[Tensor], device: torch.device) -> list[Tensor]:
    """All parts on `device`, or where they would take more than half of what is free there, in pinned memory.

    The loop moves batches of what is not on the device; pinned memory is what a GPU copies from fastest.
    """
    if device.type == "cpu":
        return parts
    free, _ = torch.cuda.mem_get_info(device)
    if fits(sum(part.nbytes for part in parts), free):
        return [part.to(device) for part in parts]
    return [part.pin_memory() for part in parts]


def fits(needed: int, free: int) -> bool:
    """Whether half of the `free` bytes are left for weights, gradients and batches."""
    return 2 * needed <= free

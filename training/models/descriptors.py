"""Fixed descriptors of a row, which the encoder computes and reads beside the row. They have no weights to train.

Every step is a sum, product, quotient or root of single values, in a fixed order. So a row has the same descriptor in
every batch, to the last bit, on the CPU and on a GPU.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BLOCK", "ORIENTATIONS", "Gradients", "WithDescriptor", "automatic_cell", "fit_descriptor"]

ORIENTATIONS = 9
CELLS = 8
"""About as many cells on the longer side of a picture."""
BLOCK = 256
"""Rows that are described at once."""
SMALLEST = 1e-4
"""In the unit of preprocessed rows: weaker edges count as less than the whole of a cell's direction."""


class Gradients(nn.Module):
    """Histograms of oriented gradients of pictures, with the square root of each value (RootHOG).

    N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005: unsigned orientations,
    the channel with the strongest gradient at each pixel. R. Arandjelovic and A. Zisserman, "Three things everyone
    should know to improve object retrieval", CVPR 2012: L1 norm and root. Each cell is divided by the sum of the 3 x 3
    cells around it. A pixel's vote for an orientation falls with the angle as cos^16, a smooth form of two adjacent
    bins without an arc tangent.

    Attributes:
        cell: the side of a cell in pixels; an incomplete last row or column of cells is filled with zeros.
        outs: the number of values, 9 for each cell.
        largest: the most values of a row between two steps.
    """

    def __init__(self, height: int, width: int, channels: int, cell: int) -> None:
        super().__init__()
        self.shape, self.cell = (height, width, channels), cell
        self.cells = -(-height // cell), -(-width // cell)
        self.outs = math.prod(self.cells) * ORIENTATIONS
        self.largest = height * width * (ORIENTATIONS + 1)
        angles = torch.arange(ORIENTATIONS, dtype=torch.float64) * (math.pi / ORIENTATIONS)
        directions = torch.stack([angles.cos(), angles.sin()]).float()
        self.directions: Tensor
        self.register_buffer("directions", directions[:, :, None, None], persistent=False)  # (2, orientations, 1, 1)

    @torch.no_grad()
    def forward(self, rows: Tensor) -> Tensor:
        """(n, height * width * channels) -> (n, outs) float32, each value within [0, 1]."""
        across, down = self._gradient(rows)  # (n, 1, h, w) each
        power = across * across + down * down
        projected = across * self.directions[0] + down * self.directions[1]  # (n, orientations, h, w)
        share = projected.square_().div_(power + SMALLEST)  # cos^2 of the angle
        length = power.sqrt_()
        votes = share.square_().square_().square_().mul_(length)  # cos^16, weighted by the gradient's length
        votes = torch.cat([votes, length], dim=1)
        means = functional.avg_pool2d(self._whole_cells(votes), self.cell)  # (n, orientations + 1, cells, cells)
        around = functional.avg_pool2d(means[:, -1:], 3, stride=1, padding=1)  # (n, 1, cells, cells)
        return (means[:, :-1] / (around + SMALLEST)).sqrt().permute(0, 2, 3, 1).flatten(1)

    def _gradient(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Central differences, of the channel in which they are greatest; at an edge, of one side."""
        pictures = rows.reshape(len(rows), *self.shape).permute(0, 3, 1, 2)  # (n, c, h, w)
        wide = functional.pad(pictures, (1, 1, 0, 0), mode="replicate")
        across = wide[..., 2:] - wide[..., :-2]  # (n, c, h, w)
        tall = functional.pad(pictures, (0, 0, 1, 1), mode="replicate")
        down = tall[..., 2:, :] - tall[..., :-2, :]
        if self.shape[2] == 1:
            return across, down
        strongest = (across * across + down * down).argmax(dim=1, keepdim=True)  # (n, 1, h, w)
        return across.gather(1, strongest), down.gather(1, strongest)

    def _whole_cells(self, votes: Tensor) -> Tensor:
        """(n, k, h, w) -> the same with zeros to the right and below, up to whole cells."""
        below, right = (cells * self.cell - side for cells, side in zip(self.cells, self.shape, strict=False))
        return functional.pad(votes, (0, right, 0, below)) if below or right else votes


class WithDescriptor(nn.Module):
    """Appends a scaled descriptor to each preprocessed row: (n, features) -> (n, features + outs).

    Attributes:
        base: (features,) added to a row before it is described: a preprocessed picture lacks the mean picture.
        offset, factor: (outs,) the affine map of the descriptor.
    """

    def __init__(self, descriptor: Gradients, base: Tensor, offset: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.base: Tensor
        self.offset: Tensor
        self.factor: Tensor
        self.register_buffer("base", base)
        self.register_buffer("offset", offset)
        self.register_buffer("factor", factor)

    def forward(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, self.describe(rows)], dim=1)

    def describe(self, rows: Tensor) -> Tensor:
        """(n, features) -> (n, outs), scaled."""
        described: Tensor = self.descriptor(rows + self.base)
        return (described - self.offset) * self.factor


def fit_descriptor(descriptor: Gradients, rows: Tensor, base: Tensor) -> WithDescriptor:
    """Return the layer that centers each value of the descriptor and scales all of them to one deviation of 1.

    Args:
        rows: (n, features) preprocessed training rows.
        base: (features,) added to the rows before they are described.
    """
    described = torch.cat([descriptor(block + base) for block in torch.split(rows, BLOCK)])  # (n, outs)
    offset = described.mean(dim=0)
    deviation = float((described - offset).square().mean().sqrt())
    factor = torch.full((descriptor.outs,), 1 / deviation if deviation else 1.0)
    return WithDescriptor(descriptor, base, offset, factor)


def automatic_cell(height: int, width: int) -> int:
    """Return the side of a cell in pixels for about eight cells on the longer side, at least 2."""
    return max(2, round(max(height, width) / CELLS))

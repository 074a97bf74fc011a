"""The corruptions that a denoising autoencoder must undo. Each is a function that the training loop calls.

P. Vincent et al., "Stacked Denoising Autoencoders", JMLR 11 (2010), sections 3.2 and 5.4. Blocks: D. Pathak et al.,
"Context Encoders", CVPR 2016. Swaps: J. Yoon et al., "VIME", NeurIPS 2020, section 4.1.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.config import CorruptionConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.layers import picture_shape, series_shape
from lookalike.training.moves import Moves

__all__ = ["CORRUPTIONS", "HIDDEN", "Corruption", "build_corruption", "hide_columns"]

HIDDEN = 0.3
"""Of a table's rows in an epoch, the share in which fields are hidden."""

Corruption = Callable[[Tensor, Generator], Tensor]
"""(n, features) clean, preprocessed -> (n, features) corrupted; the input is not changed."""


def gaussian(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Add normal noise to numbers, not to categories; each row draws its standard deviation from [0, level)."""
    count = len(scaling.table.layout.numbers) if scaling.table else clean.shape[1]
    noise = torch.randn((len(clean), count), generator=generator, device=clean.device)
    noise *= torch.rand(len(clean), 1, generator=generator, device=clean.device) * level  # (n, 1)
    noisy = torch.clamp(noise.add_(clean[:, :count]), scaling.low[:count], scaling.high[:count])  # (n, count)
    return torch.cat([noisy, clean[:, count:]], dim=1) if scaling.table else noisy


def masking(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Set a share `level` of the values to the column's least, or in a table, to missing."""
    return torch.where(_uniform(clean, generator, scaling) < level, scaling.masked, clean)


def salt_and_pepper(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Set a share `level` of the values to their column's least or greatest value, half of them each.

    A category has neither: it becomes the category of the previous row in the batch.
    """
    draw = _uniform(clean, generator, scaling)
    extreme = torch.where(draw < level / 2, scaling.low, scaling.high)
    if scaling.table:
        extreme = scaling.table.with_categories(extreme, clean.roll(1, dims=0))
    return torch.where(draw < level, extreme, clean)


def blocks(
    clean: Tensor, generator: Generator, level: float, scaling: Preprocessor, *, picture: tuple[int, int, int]
) -> Tensor:
    """Set a rectangle of each picture, a share `level` of it at a random place, to the columns' least values.

    The rectangle has the picture's proportions, as far as whole pixels allow. A picture of height 1 is a window.
    """
    height, width, channels = picture
    tall = min(height, max(1, round(height * math.sqrt(level))))
    wide = min(width, round(level * height * width / tall))
    down = _inside(height, tall, len(clean), generator, clean.device)  # (n, height)
    across = _inside(width, wide, len(clean), generator, clean.device)  # (n, width)
    hit = down[:, :, None] & across[:, None, :]  # (n, height, width)
    return torch.where(hit.flatten(1).repeat_interleave(channels, dim=1), scaling.low, clean)  # (n, h * w * c)


def swap(clean: Tensor, generator: Generator, level: float, scaling: Preprocessor) -> Tensor:
    """Replace a share `level` of the values by the same columns' values in other rows, each drawn independently."""
    if (count := len(clean)) < 2:
        return clean
    hit = _uniform(clean, generator, scaling) < level
    shape = (count, _units(scaling))
    shift = torch.randint(1, count, shape, generator=generator, device=clean.device)  # never the row itself
    others = (torch.arange(count, device=clean.device)[:, None] + _shared(shift, scaling)) % count  # (n, features)
    return torch.where(hit, clean.gather(0, others), clean)


CORRUPTIONS: dict[str, Callable[..., Tensor]] = {
    function.__name__: function for function in (gaussian, masking, salt_and_pepper, blocks, swap)
}


def build_corruption(
    config: CorruptionConfig,
    scaling: Preprocessor,
    shape: tuple[int, ...],
    *,
    series: bool = False,
    moves: Moves | None = None,
) -> Corruption | None:
    """Return the configured corruption of rows of shape `shape`, after `moves`; None if no row changes.

    If `series` is true, the rows are windows of shape (length, channels), and a block is an interval of time over all
    channels. Rows of a table also have columns hidden (`hide_columns`), with every corruption and with none, so that
    each encoder of a table can read a part of a row. Raises ConfigError for a share above 1, and for blocks if the rows
    are neither pictures nor windows.
    """
    steps: list[Corruption] = [moves] if moves else []
    if config.kind != "none":
        corrupt, level = CORRUPTIONS[config.kind], _level(config)
        if config.kind == "blocks":
            field = "corruption.kind"
            sides = (1, *series_shape(shape, field)) if series else picture_shape(shape, field)
            corrupt = partial(corrupt, picture=sides)
        steps.append(partial(corrupt, level=level, scaling=scaling))
    if scaling.table:
        steps.append(partial(hide_columns, scaling=scaling))
    return partial(_in_turn, steps=tuple(steps)) if steps else None


def _level(config: CorruptionConfig) -> float:
    level = config.level if config.level != "auto" else 1.2 if config.kind == "gaussian" else 0.3
    if config.kind != "gaussian" and level > 1:
        raise ConfigError("corruption.level", expected="a share of values, at most 1", found=str(level))
    return level


def _in_turn(rows: Tensor, generator: Generator, steps: tuple[Corruption, ...]) -> Tensor:
    for step in steps:
        rows = step(rows, generator)
    return rows


def hide_columns(rows: Tensor, generator: Generator, scaling: Preprocessor) -> Tensor:
    """Make some fields of a table's rows missing: in a share HIDDEN of the rows, a share that each row draws.

    The share is uniform in [0, 1), so that the encoder sees rows of which only a field or two is known.
    """
    hit = torch.rand((len(rows), 1), generator=generator, device=rows.device) < HIDDEN  # (n, 1)
    share = torch.rand((len(rows), 1), generator=generator, device=rows.device) * hit  # (n, 1)
    return torch.where(_uniform(rows, generator, scaling) < share, scaling.masked, rows)


def _uniform(rows: Tensor, generator: Generator, scaling: Preprocessor) -> Tensor:
    return _shared(torch.rand((len(rows), _units(scaling)), generator=generator, device=rows.device), scaling)


def _units(scaling: Preprocessor) -> int:
    """How many values of a row change independently: the fields of a table, else the columns."""
    return scaling.table.fields if scaling.table else scaling.width


def _shared(draws: Tensor, scaling: Preprocessor) -> Tensor:
    """(n, units) -> (n, features): the features of one field share the field's draw."""
    return draws.index_select(1, scaling.table.group) if scaling.table else draws


def _inside(side: int, part: int, count: int, generator: Generator, device: torch.device) -> Tensor:
    """(count, side) bool: in each row, which places of a side are in a segment of length `part` with a random start."""
    start = torch.randint(side - part + 1, (count, 1), generator=generator, device=device)  # (count, 1)
    place = torch.arange(side, device=device)  # (side,)
    return (start <= place) & (place < start + part)

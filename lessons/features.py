"""Features: what an encoder reads and rebuilds beside the pixels, and pictures that move while it learns."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Tiles
from lookalike.lessons.shown import Shown, mean_of_runs
from lookalike.lessons.workbench import Digits, adam, agreement, as_images, batches, digits, isolated, network
from lookalike.training.models.descriptors import Gradients

__all__ = ["experiment", "moved"]

LATENT, EPOCHS, RUNS, SHOWN = 16, 20, 2, 6
DESCRIBE = Gradients(8, 8, 1, cell=2)
ENCODERS = {"pixels": (False, False), "pixels, moved": (False, True), "pixels and gradients, moved": (True, True)}
"""Whether the encoder reads and rebuilds gradients, and whether its training rows are moved."""


def experiment(seed: int = 0) -> Shown:
    """Measure the neighbors' labels on clean and on moved test rows, as means over two runs."""
    return mean_of_runs(_run, RUNS, seed)


def _run(seed: int) -> tuple[dict[str, float], Tiles]:
    data = digits(seed)
    with isolated(seed):
        queries = {"clean": data.test, "moved": moved(data.test)}
        numbers = _measure("raw rows", nn.Identity(), data, queries)
        numbers |= _measure("gradients", DESCRIBE, data, queries)
    for name, (described, moving) in ENCODERS.items():
        with isolated(seed):
            numbers |= _measure(name, train(data.train, described=described, moving=moving), data, queries)
    tiles = {name: as_images(rows[:SHOWN]) for name, rows in queries.items()}
    strongest = DESCRIBE(data.test[:SHOWN]).reshape(SHOWN, 4, 4, -1).amax(dim=3)  # (shown, 4, 4): of each cell
    tiles["cells with edges"] = strongest.repeat_interleave(2, 1).repeat_interleave(2, 2).numpy()
    return numbers, Tiles("Digits, moved by a pixel, and the cells in which they have edges", tiles)


def train(rows: Tensor, *, described: bool, moving: bool) -> nn.Module:
    """Return an encoder; the target is always the row in place, and its gradients if they are read."""
    ins = 64 + DESCRIBE.outs if described else 64
    encoder = network(ins, 128, LATENT, activation="silu")
    decoder = network(LATENT, 128, ins, activation="silu")
    optimizer = adam(nn.ModuleList([encoder, decoder]), 3e-3)
    for _ in range(EPOCHS):
        for batch in batches(len(rows), 64):
            clean = rows[batch]  # (batch, 64)
            seen = moved(clean) if moving else clean
            optimizer.zero_grad()
            output = decoder(encoder(_read(seen, described)))  # (batch, ins)
            nn.functional.mse_loss(output, _read(clean, described)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return nn.Sequential(_Reading(described), encoder).eval()


def moved(rows: Tensor) -> Tensor:
    """Move each picture, (n, 64), by -1, 0 or 1 pixels down and right, drawn per row; zeros come in at the edge."""
    padded = nn.functional.pad(rows.reshape(-1, 8, 8), (1, 1, 1, 1))  # (n, 10, 10)
    down, right = torch.randint(3, (2, len(rows), 1))
    places = torch.arange(8)
    row, column = (down + places)[:, :, None], (right + places)[:, None, :]  # (n, 8, 1), (n, 1, 8)
    return padded[torch.arange(len(rows))[:, None, None], row, column].flatten(1)


class _Reading(nn.Module):
    def __init__(self, described: bool) -> None:
        super().__init__()
        self.described = described

    def forward(self, rows: Tensor) -> Tensor:
        return _read(rows, self.described)


def _read(rows: Tensor, described: bool) -> Tensor:
    return torch.cat([rows, DESCRIBE(rows)], dim=1) if described else rows  # (n, 64) or (n, 64 + outs)


@torch.no_grad()
def _measure(name: str, embed: nn.Module, data: Digits, queries: dict[str, Tensor]) -> dict[str, float]:
    items = embed(data.train)
    return {
        f"precision@10 on {kind} rows, {name}": agreement(items, data.train_labels, embed(rows), data.test_labels)
        for kind, rows in queries.items()
    }

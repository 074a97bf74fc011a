"""Train and eval modes: the same rows and weights, evaluated in the right mode and in the wrong mode."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Panels, Scatter
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import Digits, agreement, digits, error, isolated, trained

__all__ = ["experiment", "noisy_autoencoder"]

ROWS, TIMES, OTHER_ROWS = 8, 25, 24
MODES = {"eval mode": False, "left in train mode": True}


def experiment(seed: int = 0) -> Shown:
    """Train an autoencoder with batch norm and dropout; embed eight rows many times, with other rows in the batch."""
    data = digits(seed)
    zeros = data.test[data.test_labels == 0]
    numbers: dict[str, float] = {}
    clouds: dict[str, Tensor] = {}
    with isolated(seed):
        model = noisy_autoencoder()
        trained(model, data.train, data.train, epochs=20, lr=5e-3)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        for name, mode in MODES.items():
            model.load_state_dict(weights)  # in train mode every evaluation changes the running statistics
            model.train(mode)
            clouds[name] = _embedded(model[0], data.test)
            numbers |= {
                f"spread of one row's embeddings, relative to the rows' spread, {name}": _spread(clouds[name]),
                f"test error, {name}": error(model, data.test, data.test),
                f"test error if all rows of the batch are zeros, {name}": error(model, zeros, zeros),
                f"precision@10, {name}": _precision(model[0], data),
            }
    parts = [_scatter(f"Embeddings of {ROWS} rows, {name}", cloud) for name, cloud in clouds.items()]
    return Shown(numbers, Panels(f"The same {ROWS} rows, {TIMES} times each", parts))


def noisy_autoencoder() -> nn.Sequential:
    """64 -> 128 -> 2 -> 128 -> 64, with batch norm and dropout between the layers."""
    encoder = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.SiLU(), nn.Dropout(0.2), nn.Linear(128, 2))
    decoder = nn.Sequential(nn.Linear(2, 128), nn.BatchNorm1d(128), nn.SiLU(), nn.Dropout(0.2), nn.Linear(128, 64))
    return nn.Sequential(encoder, decoder)


@torch.inference_mode()
def _embedded(encoder: nn.Module, rows: Tensor) -> Tensor:
    """The first rows embedded repeatedly, each time with different other rows in the batch: (times, rows, 2)."""
    embeddings = []
    for _ in range(TIMES):
        others = rows[ROWS:][torch.randperm(len(rows) - ROWS)[:OTHER_ROWS]]
        embeddings.append(encoder(torch.cat([rows[:ROWS], others]))[:ROWS])
    return torch.stack(embeddings)


def _spread(cloud: Tensor) -> float:
    """The mean distance of a row's embeddings from their mean, relative to that of the rows' means from their mean."""
    center = cloud.mean(0)  # (rows, 2)
    return float((cloud - center).norm(dim=2).mean() / (center - center.mean(0)).norm(dim=1).mean())


@torch.inference_mode()
def _precision(encoder: nn.Module, data: Digits) -> float:
    return agreement(encoder(data.train), data.train_labels, encoder(data.test), data.test_labels)


def _scatter(title: str, cloud: Tensor) -> Scatter:
    classes = torch.arange(ROWS).repeat(TIMES)  # (times * rows,), in the order of the points
    return Scatter(title, "latent 1", "latent 2", cloud.reshape(-1, 2).numpy(), classes.numpy())

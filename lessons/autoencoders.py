"""Autoencoders: a linear autoencoder finds what PCA finds; activations make it better at the same size."""

import torch
from torch import Tensor, nn

from lookalike.lessons.picture import Curves, Panels, Tiles
from lookalike.lessons.shown import Shown
from lookalike.lessons.workbench import as_images, autoencoder, digits, isolated, squared_error, trained

__all__ = ["experiment", "linear_autoencoder", "principal_axes", "same_subspace"]

SIZES = (2, 6, 16)
LATENT, SHOWN = 6, 6


def experiment(seed: int = 0) -> Shown:
    """Compare PCA and an autoencoder with activations at three sizes, and a linear autoencoder at one size."""
    data = digits(seed)
    mean = data.train.mean(0)  # (64,)
    centered = data.train - mean
    axes = {size: principal_axes(centered, size) for size in SIZES}  # each (64, size)
    with isolated(seed):
        linear = linear_autoencoder(centered, LATENT)
        nonlinear = {size: trained(autoencoder(size), data.train, data.train, epochs=40, lr=0.01) for size in SIZES}
    with torch.inference_mode():
        by_pca = {size: (data.test - mean) @ axes[size] @ axes[size].T + mean for size in SIZES}  # each (360, 64)
        by_nonlinear = {size: model(data.test) for size, model in nonlinear.items()}
        by_linear = linear(data.test - mean) + mean
    reconstructed = {
        "PCA": by_pca[LATENT],
        "linear autoencoder": by_linear,
        "autoencoder with activations": by_nonlinear[LATENT],
    }
    numbers = {
        f"test error with {LATENT} numbers, {name}": _error(rows, data.test) for name, rows in reconstructed.items()
    }
    numbers["share of the linear decoder's directions within PCA's"] = same_subspace(
        next(linear[1].parameters()), axes[LATENT]
    )
    numbers |= {f"test error with {size} numbers, PCA": _error(rows, data.test) for size, rows in by_pca.items()}
    for size, rows in by_nonlinear.items():
        numbers[f"test error with {size} numbers, autoencoder with activations"] = _error(rows, data.test)
    numbers["test error of the mean picture"] = _error(mean.expand_as(data.test), data.test)
    lines = {"PCA": by_pca, "autoencoder with activations": by_nonlinear}
    series = {name: (SIZES, [_error(rows, data.test) for rows in line.values()]) for name, line in lines.items()}
    curves = Curves("Reconstruction by size", "latent dimension", "test error", series, log_y=True)
    return Shown(numbers, Panels("Autoencoders", [curves, _tiles({"the digit": data.test, **reconstructed})]))


def _error(rows: Tensor, targets: Tensor) -> float:
    return float(squared_error(rows, targets))


def principal_axes(centered: Tensor, count: int) -> Tensor:
    """The first `count` principal axes as orthonormal columns, (width, count)."""
    axes: Tensor = torch.linalg.svd(centered, full_matrices=False).Vh[:count].T
    return axes


def linear_autoencoder(centered: Tensor, latent: int) -> nn.Sequential:
    """Two linear layers without bias or activation, fitted to convergence by L-BFGS on all rows at once."""
    model = nn.Sequential(nn.Linear(64, latent, bias=False), nn.Linear(latent, 64, bias=False))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = 64 * squared_error(model(centered), centered)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return model


def same_subspace(columns: Tensor, axes: Tensor) -> float:
    """The mean squared cosine of the angles between the spans of two (width, k): 1 if the spans are equal."""
    basis = torch.linalg.qr(columns.detach()).Q  # (width, k)
    return float((basis.T @ axes).square().sum() / axes.shape[1])


def _tiles(rows: dict[str, Tensor]) -> Tiles:
    return Tiles(f"{LATENT} numbers instead of 64", {name: as_images(part[:SHOWN]) for name, part in rows.items()})

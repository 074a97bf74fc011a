"""The peers of `benchmarks.quality`: embeddings that need no training, and pythae's autoencoders.

A peer is fitted on the items and returns its embedding, a function of rows (n, width) -> (n, dim).
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import convolve1d

from lookalike.training.array_types import Doubles, Floats, Integers

__all__ = [
    "Embed",
    "channel_scaled",
    "dtw",
    "each_scaled",
    "forest",
    "gower",
    "mini_rocket",
    "pca",
    "pythae",
    "raw",
    "root_hog",
]

Embed = Callable[[Floats], Floats]

_BLUR = (0.25, 0.5, 0.25)
_TREES = 100
_BATCH = 64


def raw(rows: Floats) -> Floats:
    """Return the rows unchanged."""
    return rows


def pca(items: Floats, dim: int, seed: int = 0) -> Embed:
    """Return the first `dim` principal components; fewer if the items have fewer rows or columns."""
    from sklearn.decomposition import PCA

    solver = "auto" if items.shape[1] > 2_500 else "covariance_eigh"
    fitted = PCA(min(dim, *items.shape), svd_solver=solver, random_state=seed).fit(items)
    return lambda rows: np.ascontiguousarray(fitted.transform(rows), np.float32)


def root_hog(shape: tuple[int, ...], greatest: float, cell: int) -> Embed:
    """Return scikit-image's oriented gradients of pictures with values from 0 to `greatest`, and their square roots.

    9 orientations without sign, cells of `cell` x `cell` pixels, blocks of 3 x 3 cells, clipped norms (Dalal and Triggs
    2005). The picture is first blurred with the binomial weights 1 2 1 in both directions. Of a color picture, each
    pixel has the gradient of the channel in which it is greatest.
    """
    from skimage.feature import hog

    axis = -1 if len(shape) == 3 else None

    def described(rows: Floats) -> Floats:
        blurred = rows.reshape(-1, *shape) / np.float32(greatest)
        for side in (1, 2):
            blurred = convolve1d(blurred, _BLUR, axis=side, mode="nearest")
        found = [
            hog(picture, 9, (cell, cell), (3, 3), block_norm="L2-Hys", channel_axis=axis).astype(np.float32)
            for picture in blurred
        ]
        roots: Floats = np.sqrt(np.stack(found))
        return roots

    return described


def pythae(
    items: Floats, shape: tuple[int, ...], dim: int, *, variational: bool, epochs: int, greatest: float
) -> Embed:
    """Train pythae's AE or VAE with its own MLP and its own settings; the embedding of a VAE is its mean.

    `shape`: of one row; `items` have values from 0 to `greatest`.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, VAE, AEConfig, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    def scaled(rows: Floats) -> torch.Tensor:
        return torch.from_numpy(rows / np.float32(greatest)).reshape(-1, *shape)

    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    model = VAE(VAEConfig(input_dim=shape, latent_dim=dim)) if variational else AE(AEConfig(shape, latent_dim=dim))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        settings = BaseTrainerConfig(
            folder, num_epochs=epochs, per_device_train_batch_size=_BATCH, no_cuda=True, keep_best_on_train=True
        )
        data = BaseDataset(scaled(items), torch.zeros(len(items)))
        trainer = BaseTrainer(model, data, training_config=settings)
        trainer.train()
    logging.disable(logging.NOTSET)
    model.eval()

    def embed(rows: Floats) -> Floats:
        with torch.inference_mode():
            blocks = [model.encoder(block).embedding for block in torch.split(scaled(rows), 1_024)]
        embedded: Floats = torch.cat(blocks).numpy()
        return embedded

    return embed


def channel_scaled(items: Floats, channels: int) -> Embed:
    """Return windows (n, length * channels) whose channels have the mean 0 and the deviation 1 over all items."""
    values = items.reshape(-1, channels)
    mean, deviation = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1

    def scaled(rows: Floats) -> Floats:
        values: Floats = ((rows.reshape(-1, channels) - mean) / deviation).astype(np.float32)
        return values.reshape(rows.shape)

    return scaled


def each_scaled(rows: Floats, channels: int) -> Floats:
    """Return windows (n, length * channels) in which each channel has mean 0 and deviation 1, or is constant."""
    values = rows.reshape(len(rows), -1, channels).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    deviation = values.std(axis=1, keepdims=True)
    values /= np.where(deviation > 0, deviation, 1.0)
    return values.astype(np.float32).reshape(rows.shape)


def mini_rocket(items: Floats, channels: int, seed: int) -> Embed:
    """Return aeon's MiniRocket (Dempster et al. 2021) of windows (n, length * channels), fitted on the items."""
    from aeon.transformations.collection.convolution_based import MiniRocket

    def cases(rows: Floats) -> Floats:
        return np.ascontiguousarray(rows.reshape(len(rows), -1, channels).transpose(0, 2, 1))

    fitted = MiniRocket(random_state=seed).fit(cases(items))
    return lambda rows: np.asarray(fitted.transform(cases(rows)), np.float32)


def dtw(items: Floats, queries: Floats, channels: int) -> Doubles:
    """Return aeon's dynamic time warping distances of windows, without a limit on the warping, (queries, items)."""
    from aeon.distances import dtw_pairwise_distance

    queries, items = (rows.reshape(len(rows), -1, channels).transpose(0, 2, 1) for rows in (queries, items))
    distances: Doubles = dtw_pairwise_distance(queries.astype(np.float64), items.astype(np.float64))
    return distances


def forest(items: Floats, dim: int, seed: int) -> Embed:
    """Return the first `dim` principal components of the leaves of random trees (scikit-learn)."""
    from sklearn.ensemble import RandomTreesEmbedding

    trees = RandomTreesEmbedding(_TREES, sparse_output=False, random_state=seed).fit(items)
    components = pca(trees.transform(items).astype(np.float32), dim)
    return lambda rows: components(trees.transform(rows).astype(np.float32))


def gower(items: tuple[Doubles, Integers], queries: tuple[Doubles, Integers]) -> Floats:
    """Return Gower's distances (1971), (queries, items): the mean over the columns that both rows have.

    Each pair is the numbers (n, numeric), NaN if missing, and the codes of the categories (n, categories), -1 if
    missing. The distance of two numbers is a share of the range of the items; of two categories, 0 or 1.
    """
    sums = np.zeros((len(queries[0]), len(items[0])), np.float32)
    counts = sums.copy()
    for number in range(items[0].shape[1]):
        known, asked = items[0][:, number], queries[0][:, number]
        width = np.nanmax(known, initial=-np.inf) - np.nanmin(known, initial=np.inf)
        apart = np.abs(asked[:, None] - known) / (width if width > 0 else 1.0)
        sums += np.nan_to_num(apart)
        counts += ~np.isnan(apart)
    for number in range(items[1].shape[1]):
        known_code, code = items[1][:, number], queries[1][:, number][:, None]
        both = (known_code >= 0) & (code >= 0)
        sums += both & (known_code != code)
        counts += both
    return (sums / np.maximum(counts, 1)).astype(np.float32)

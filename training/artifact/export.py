"""From a live autoencoder to an encoder artifact that was read back and found to answer the same."""

import copy
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lookalike.training.artifact.cuda import full_precision
from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.errors import ExportError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import LatentNoise
from lookalike.training.sealed import replace_folder, staging

__all__ = ["export", "fold", "neighbours_agree"]

MIN_AGREEMENT = 0.999
TOLERANCE = 1e-4
_BLOCK = 256
REMEDY = "Of an encoder that learnt nothing, rounding is all there is: ask `lookalike doctor` about the run."


def export(
    target: Path, model: Autoencoder, preprocess: Preprocessor, *, probe: NDArray[np.float32], header: dict[str, Any]
) -> Encoder:
    """Write the artifact, read it back, compare it with the live model, and only then put it in place.

    Args:
        target: the artifact's folder; an older artifact there is replaced.
        probe: (n, width) raw held-out rows to compare on.
        header: what the manifest shall say beside the layers; it must have input_shape and latent_dim.

    Raises:
        ExportError: the numbers differ by more than 1e-4 of the largest (of 1, where all are smaller),
            or fewer than 99.9 % of the top 10 neighbours among the probe rows are the same.
    """
    model.eval()
    with staging(target.parent) as folder:
        write_encoder(folder, fold(model.encoder), fold(model.decoder), preprocess=preprocess, header=header)
        encoder = load_encoder(folder)
        _compare(live_embeddings(model, preprocess, probe), encoder.encode(probe))
        replace_folder(folder, target)
    return encoder


def fold(stack: nn.Sequential) -> nn.Sequential:
    """The same map without dropout and noise, and with each batch norm folded into the layer with weights before it."""
    folded: list[nn.Module] = []
    for layer in copy.deepcopy(stack).eval():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            folded[-1] = _fused(folded[-1], layer)
        elif not isinstance(layer, nn.Dropout | LatentNoise):
            folded.append(layer)
    return nn.Sequential(*folded)


def _fused(layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, nn.ConvTranspose2d))
    raise ExportError("batch norm", expected="a linear layer or a convolution before it", found=type(layer).__name__)


@torch.inference_mode()
def live_embeddings(model: Autoencoder, preprocess: Preprocessor, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, width) raw -> (n, latent) by the model as it was trained."""
    device = next(model.parameters()).device
    preprocess = preprocess.to(device)
    with full_precision(device):
        blocks = torch.split(torch.from_numpy(rows), _BLOCK)
        embeddings = [model.encoder(preprocess.apply(block.to(device))) for block in blocks]
    return torch.cat(embeddings).cpu().numpy()  # (n, latent)


def neighbours_agree(live: NDArray[np.float32], exported: NDArray[np.float32], k: int = 10) -> float:
    """Share of each row's k nearest others under `live` that are among its k nearest under `exported`.

    A neighbour that `exported` puts at the distance of its k-th counts: equal rows have no order.
    """
    k = min(k, len(live) - 1)
    if k < 1:
        return 1.0
    scale = max(float(np.abs(live).max()), 1e-30)  # squares of large values leave float32
    live, exported = live / scale, exported / scale
    live, exported = (each - np.median(each, axis=0).astype(np.float32) for each in (live, exported))  # same distances
    _, wanted = faiss.knn(live, live, k + 1)
    distances, _ = faiss.knn(exported, exported, k + 1)
    wanted = np.stack([row[row != i][:k] for i, row in enumerate(wanted)])  # (n, k), a row is not its own neighbour
    gaps = ((exported[:, None, :] - exported[wanted]) ** 2).sum(axis=2)  # (n, k)
    limit = distances[:, -1:] * (1 + TOLERANCE) + TOLERANCE * np.square(exported).mean()  # (n, 1)
    return float((gaps <= limit).mean())


def _compare(live: NDArray[np.float32], exported: NDArray[np.float32]) -> None:
    largest = np.abs(live).max(axis=1, keepdims=True)  # (n, 1): a row is compared by its own size, or the median one's
    scale = np.maximum(largest, max(1.0, float(np.median(largest))))
    difference = float((np.abs(live - exported) / scale).max())
    if difference > TOLERANCE:
        raise ExportError(
            "exported embeddings",
            expected=f"within {TOLERANCE:g} of the largest value of the live model's",
            found=f"{difference:.2g}",
            remedy=REMEDY,
        )
    agreement = neighbours_agree(live, exported)
    if agreement < MIN_AGREEMENT:
        raise ExportError(
            "exported neighbours",
            expected=f"at least {MIN_AGREEMENT:.1%} as the live model's",
            found=f"{agreement:.2%}",
            remedy=REMEDY,
        )

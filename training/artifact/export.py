"""Exports a live autoencoder as an encoder artifact, reads it back, and checks that its results are the same."""

import copy
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from lookalike.training.array_types import Floats
from lookalike.training.artifact.cuda import full_precision
from lookalike.training.artifact.encoder import Encoder, load_encoder, write_encoder
from lookalike.training.artifact.preprocess import Preprocessor
from lookalike.training.errors import ExportError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.layers import LatentNoise
from lookalike.training.sealed import replace_folder, staging

__all__ = ["check_same", "export", "fold", "neighbor_agreement"]

MIN_AGREEMENT = 0.999
TOLERANCE = 1e-4
_BLOCK = 256
REMEDY = "The embeddings of an encoder that learned nothing are rounding errors: check the run with `lookalike doctor`."


def export(
    target: Path, model: Autoencoder, preprocess: Preprocessor, *, probe: Floats, header: dict[str, Any]
) -> Encoder:
    """Write the artifact, read it back, compare it with the live model, and only then move it to `target`.

    Args:
        target: the artifact's folder; an older artifact there is replaced.
        probe: (n, width) raw held-out rows to compare on.
        header: the other fields of the manifest; input_shape and latent_dim are required.

    Raises:
        ExportError: the numbers differ by more than 1e-4 of the largest (of 1, if all are smaller),
            or fewer than 99.9 % of the top 10 neighbors among the probe rows are the same.
    """
    model.eval()
    with staging(target.parent) as folder:
        write_encoder(folder, fold(model.encoder), fold(model.decoder), preprocess=preprocess, header=header)
        encoder = load_encoder(folder)
        check_same(live_embeddings(model, preprocess, probe), encoder.encode(probe))
        replace_folder(folder, target)
    return encoder


def fold(stack: nn.Sequential) -> nn.Sequential:
    """Return the same map without dropout and noise, and with each batch norm folded into the layer before it."""
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
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return fuse_conv_bn_eval(layer, norm, transpose=True)
    raise ExportError("batch norm", expected="a linear layer or a convolution before it", found=type(layer).__name__)


@torch.inference_mode()
def live_embeddings(model: Autoencoder, preprocess: Preprocessor, rows: Floats) -> Floats:
    """(n, width) raw -> (n, latent) by the live model."""
    device = next(model.parameters()).device
    preprocess = preprocess.to(device)
    with full_precision(device):
        blocks = torch.split(torch.from_numpy(rows), _BLOCK)
        embeddings = [model.encoder(preprocess.apply(block.to(device))) for block in blocks]
    return torch.cat(embeddings).cpu().numpy()  # (n, latent)


def neighbor_agreement(live: Floats, exported: Floats, k: int = 10) -> float:
    """Return the share of each row's k nearest other rows under `live` that are among its k nearest under `exported`.

    A neighbor counts if its distance under `exported` equals that of the k-th: equal rows have no order.
    """
    k = min(k, len(live) - 1)
    if k < 1:
        return 1.0
    scale = max(float(np.abs(live).max()), 1e-30)  # squares of large values overflow float32
    live, exported = live / scale, exported / scale
    live, exported = (each - np.median(each, axis=0).astype(np.float32) for each in (live, exported))  # same distances
    _, neighbors = faiss.knn(live, live, k + 1)
    distances, _ = faiss.knn(exported, exported, k + 1)
    neighbors = np.stack([row[row != i][:k] for i, row in enumerate(neighbors)])  # (n, k), without the row itself
    gaps = ((exported[:, None, :] - exported[neighbors]) ** 2).sum(axis=2)  # (n, k)
    limit = distances[:, -1:] * (1 + TOLERANCE) + TOLERANCE * np.square(exported).mean()  # (n, 1)
    return float((gaps <= limit).mean())


def check_same(
    wanted: Floats, found: Floats, *, names: tuple[str, str] = ("the live model's", "exported"), remedy: str = REMEDY
) -> None:
    """Compare embeddings, (n, latent), of the same rows; an error begins with the second of `names`.

    Raises ExportError if values differ by more than TOLERANCE, or neighbors differ.
    """
    largest = np.abs(wanted).max(axis=1, keepdims=True)  # (n, 1): the scale of each row, at least the median row's
    scale = np.maximum(largest, max(1.0, float(np.median(largest))))
    difference = float((np.abs(wanted - found) / scale).max())
    if difference > TOLERANCE:
        expected = f"at most {TOLERANCE:g} times the largest value away from {names[0]}"
        raise ExportError(f"{names[1]} embeddings", expected=expected, found=f"{difference:.2g}", remedy=remedy)
    agreement = neighbor_agreement(wanted, found)
    if agreement < MIN_AGREEMENT:
        expected = f"at least {MIN_AGREEMENT:.1%} the same as {names[0]}"
        raise ExportError(f"{names[1]} neighbors", expected=expected, found=f"{agreement:.2%}", remedy=remedy)

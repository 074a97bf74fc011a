import math

import pytest
import torch
from torch import nn

from lookalike.training.artifact.encoder import Encoder
from lookalike.training.config import load_config
from lookalike.training.evaluation.untrained import untrained
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows
from tests.factories import blobs


def weights(half: nn.Sequential) -> list[torch.Tensor]:
    return [layer.weight for layer in half if isinstance(layer, nn.Linear)]


def test_has_the_same_layers_and_scaling_but_different_weights(encoder: Encoder) -> None:
    baseline = untrained(encoder)
    for name in ("encoder", "decoder"):
        baseline_half, trained_half = (getattr(each, name) for each in (baseline, encoder))
        assert [type(layer) for layer in baseline_half] == [type(layer) for layer in trained_half]
        for drawn, trained in zip(weights(baseline_half), weights(trained_half), strict=True):
            assert drawn.shape == trained.shape
            assert (drawn != trained).any()
            reach = math.sqrt(6 / drawn.shape[1])
            assert 0.5 * reach < float(drawn.abs().max()) <= reach
            assert float(drawn.std()) == pytest.approx(reach / math.sqrt(3), rel=0.3)
    rows = blobs()
    assert (
        baseline.preprocess.apply(torch.from_numpy(rows)).tolist()
        == encoder.preprocess.apply(torch.from_numpy(rows)).tolist()
    )
    assert (baseline.latent_dim, baseline.width, baseline.digest) == (encoder.latent_dim, encoder.width, "")


def test_the_seed_determines_the_weights(encoder: Encoder) -> None:
    rows = blobs()
    first, same, other = (untrained(encoder, seed).encode(rows) for seed in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any()
    assert (first != encoder.encode(rows)).any()


def test_works_for_convolutions(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = ("model.kind=conv", "model.channels=[4]", "model.latent_dim=3", "fit.epochs=1", "fit.device=cpu")
    rows = open_rows("digits")
    run = train(rows, load_config(None, list(settings)), tmp_path_factory.mktemp("conv") / "run")
    inputs = next(rows.chunks(16)).inputs
    baseline = untrained(run.encoder)
    assert baseline.encode(inputs).shape == (16, 3)
    assert baseline.reconstruct(inputs).shape == (16, 64)
    assert (baseline.encode(inputs) != run.encoder.encode(inputs)).all()

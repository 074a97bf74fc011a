from typing import Any, cast

import pytest
import torch
from torch import nn, optim

from lookalike.training.config import ModelConfig, OptimizerConfig
from lookalike.training.errors import ConfigError
from lookalike.training.models.autoencoder import Autoencoder
from lookalike.training.models.optimizers import build_optimizer


def stepped(config: OptimizerConfig, gradients: list[float], start: float = 2.0) -> float:
    """One weight after a step per gradient."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    optimizer = build_optimizer(config, model)
    for gradient in gradients:
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    return model.weight.item()


def grouped(config: OptimizerConfig, model: nn.Module) -> dict[str, tuple[float, float]]:
    """The rate and the decay of every parameter."""
    groups = build_optimizer(config, model).param_groups
    found = {id(weights): (group["lr"], group["weight_decay"]) for group in groups for weights in group["params"]}
    assert len(found) == len(list(model.parameters()))
    return {name: found[id(weights)] for name, weights in model.named_parameters()}


def test_sgd_follows_the_gradient_with_momentum() -> None:
    # Velocities 3, then 0.5 * 3 + 1 = 2.5: 2 - 0.1 * 3 - 0.1 * 2.5.
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.5)
    assert stepped(config, [3.0, 1.0]) == pytest.approx(1.45)


def test_nesterov_looks_ahead_along_the_velocity() -> None:
    # Sutskever et al. 2013: the step is gradient + 0.5 * velocity: 3 + 1.5 = 4.5, then 1 + 0.5 * 2.5 = 2.25.
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.5, nesterov=True)
    assert stepped(config, [3.0, 1.0]) == pytest.approx(2 - 0.45 - 0.225)


@pytest.mark.parametrize(
    "settings", [{"kind": "sgd", "momentum": 0.0}, {"kind": "adam"}, {"kind": "adamw", "momentum": 0.9}]
)
def test_nesterov_without_momentum_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.nesterov: expected sgd with momentum, found"):
        build_optimizer(OptimizerConfig(nesterov=True, **settings), nn.Linear(1, 1))


def test_sgd_decays_weights_through_the_gradient() -> None:
    config = OptimizerConfig(kind="sgd", lr=0.1, momentum=0.0, weight_decay=0.5)
    assert stepped(config, [3.0]) == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_adams_first_step_is_the_rate_for_any_gradient(kind: str) -> None:
    # Kingma and Ba 2015, algorithm 1: at t = 1 the corrected moments are g and g squared.
    config = OptimizerConfig(kind=cast(Any, kind), lr=0.1)
    assert stepped(config, [1e-3]) == pytest.approx(1.9, rel=1e-4)
    assert stepped(config, [-1e3]) == pytest.approx(2.1, rel=1e-4)


def test_adam_decays_through_the_gradient_and_adamw_separately() -> None:
    # Loshchilov and Hutter 2019. Adam: gradient -0.5 + 0.5 * 2 > 0, so a step down. AdamW: 2 * (1 - 0.05), a step up.
    settings = {"lr": 0.1, "weight_decay": 0.5}
    assert stepped(OptimizerConfig(kind="adam", **cast(Any, settings)), [-0.5]) == pytest.approx(1.9, rel=1e-4)
    assert stepped(OptimizerConfig(kind="adamw", **cast(Any, settings)), [-0.5]) == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_decay_applies_only_to_matrices_and_kernels(kind: str, model: str) -> None:
    network = Autoencoder(
        (4, 4), 2, ModelConfig(kind=cast(Any, model), hidden=(5,), channels=(3,), latent_norm=False, latent_noise=0.0)
    )
    found = grouped(OptimizerConfig(kind=cast(Any, kind), weight_decay=0.1), network)
    norms = {
        f"{place}.{name}"
        for place, part in network.named_modules()
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)
        for name in ("weight", "bias")
    }
    assert len(norms) == 4
    spared = {name for name in found if name.endswith(".bias")} | norms
    assert {name for name, (_, decay) in found.items() if decay == 0} == spared
    assert {decay for name, (_, decay) in found.items() if name not in spared} == {0.1}


def test_without_a_gradient_only_decayed_weights_change() -> None:
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    optimizer = build_optimizer(OptimizerConfig(kind="adamw", lr=0.1, weight_decay=0.5), model)
    for weights in model.parameters():
        weights.grad = torch.zeros_like(weights)
    optimizer.step()
    assert (model.weight.item(), model.bias.item()) == pytest.approx((0.95, 1.0))


def test_the_decoder_may_have_a_separate_rate() -> None:
    model = Autoencoder((4,), 2, ModelConfig(hidden=(3,)))
    found = grouped(OptimizerConfig(lr=0.2, decoder_lr=0.01), model)
    assert {rate for name, (rate, _) in found.items() if name.startswith("encoder.")} == {0.2}
    assert {rate for name, (rate, _) in found.items() if name.startswith("decoder.")} == {0.01}
    assert {rate for rate, _ in grouped(OptimizerConfig(lr=0.2), model).values()} == {0.2}


def test_parameters_with_the_same_rate_and_decay_share_a_group() -> None:
    model = Autoencoder((4,), 2, ModelConfig(hidden=(3,)))

    def count(**settings: float) -> int:
        return len(build_optimizer(OptimizerConfig(lr=0.2, **cast(Any, settings)), model).param_groups)

    assert (count(), count(decoder_lr=0.1), count(weight_decay=0.1), count(decoder_lr=0.1, weight_decay=0.1)) == (
        1,
        2,
        2,
        4,
    )


def test_a_model_without_a_decoder_has_one_rate() -> None:
    assert grouped(OptimizerConfig(lr=0.2, decoder_lr=0.01), nn.Linear(2, 2)) == {
        "weight": (0.2, 0.0),
        "bias": (0.2, 0.0),
    }


@pytest.mark.parametrize(("kind", "expected"), [("adam", optim.Adam), ("adamw", optim.AdamW), ("sgd", optim.SGD)])
def test_builds_the_configured_optimizer_fused(kind: str, expected: type[optim.Optimizer]) -> None:
    optimizer = build_optimizer(OptimizerConfig(kind=cast(Any, kind)), nn.Linear(1, 1))
    assert type(optimizer) is expected
    assert optimizer.defaults["fused"]

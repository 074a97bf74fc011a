"""Pillar three: the optimizer. Learning rate schedules are in `training.schedules`."""

from torch import nn, optim

from lookalike.training.config import OptimizerConfig
from lookalike.training.errors import ConfigError

__all__ = ["build_optimizer"]


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> optim.Optimizer:
    """Return the configured optimizer; fused, which is one pass over the weights per step.

    The decoder (`model.decoder`, if there is one) may have a separate learning rate. Weight decay applies to matrices
    and kernels only: pulling biases and norms towards zero regularizes nothing. Raises ConfigError for nesterov without
    momentum.
    """
    if config.nesterov and not (config.kind == "sgd" and config.momentum):
        found = f"{config.kind} with momentum {config.momentum:g}"
        remedy = "--set optimizer.nesterov=false, or --set optimizer.kind=sgd and optimizer.momentum=0.9"
        raise ConfigError("optimizer.nesterov", expected="sgd with momentum", found=found, remedy=remedy)
    groups = _groups(config, model)
    if config.kind == "sgd":
        return optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    kind: type[optim.Adam] = {"adam": optim.Adam, "adamw": optim.AdamW}[config.kind]
    return kind(groups, lr=config.lr, fused=True)


def _groups(config: OptimizerConfig, model: nn.Module) -> list[dict[str, object]]:
    """One parameter group for each combination of rate and decay."""
    decoder_lr = config.lr if config.decoder_lr == "same" else config.decoder_lr
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weights in model.named_parameters():
        lr = decoder_lr if name.startswith("decoder.") else config.lr
        decay = config.weight_decay if weights.ndim > 1 else 0.0
        groups.setdefault((lr, decay), []).append(weights)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in groups.items()]

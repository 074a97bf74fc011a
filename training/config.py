"""Every setting of a training run, declared once; unknown or mistyped keys are refused.

A run's settings come from three places, later ones winning: the defaults below, a TOML file, and
`--set section.key=value` lines. They are saved inside the encoder that they made.
"""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from training.errors import ConfigError

__all__ = [
    "CorruptionConfig",
    "DataConfig",
    "FitConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
    "load_config",
]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Count = Annotated[int, Field(ge=1, lt=1 << 62)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """How rows become training rows."""

    scale: Literal["auto", "center", "range", "column-range", "standard", "none"] = "auto"
    """auto: center for pictures, standard for everything else."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows held out to validate on."""
    max_bytes: Count = 1 << 30
    """Rows beyond this much memory (as float32) are sampled evenly over the whole data; training
    needs about three times as much in all."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Pillar one: a mirrored multilayer perceptron."""

    latent_dim: Width | Literal["auto"] = "auto"
    """auto: a quarter of the columns, at least 2 and at most 32."""
    hidden: tuple[Width, ...] = (512, 256)
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh"] = "silu"
    batch_norm: bool = True
    dropout: Share = 0.0
    output: Literal["linear", "sigmoid", "tanh"] = "linear"


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Pillar two: what being wrong costs."""

    kind: Literal["mse", "mae", "huber"] = "mse"


@dataclass(frozen=True, config=_STRICT)
class OptimizerConfig:
    """Pillar three: how the weights follow the gradient."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Share = 0.9
    """Used by sgd only."""
    schedule: Literal["constant", "cosine"] = "cosine"


@dataclass(frozen=True, config=_STRICT)
class CorruptionConfig:
    """What is done to a row before a denoising autoencoder sees it; the target stays clean."""

    kind: Literal["none", "gaussian", "masking", "salt_and_pepper"] = "gaussian"
    level: Annotated[float, Field(ge=0)] = 0.5
    """gaussian: the largest standard deviation, drawn per row from 0 to this, as a share of the
    column's range (of its standard deviation where columns are standardised). masking and
    salt_and_pepper: the share of values that are hit."""


@dataclass(frozen=True, config=_STRICT)
class FitConfig:
    """How long, in what steps, and where."""

    epochs: Count | Literal["auto"] = "auto"
    """auto: about 3,000 steps, at least 30 epochs and at most 300."""
    batch_size: Count | Literal["auto"] = "auto"
    """auto: 256, or a twentieth of the rows where those are few, at least 16."""
    patience: Count = 30
    """Stop after this many epochs without a better validation loss."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """One training run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    corruption: CorruptionConfig = dataclasses.field(default_factory=CorruptionConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> TrainConfig:
    """The settings of `path` (TOML) over the defaults, and `section.key=value` lines over both.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, mistyped or out of range.
    """
    settings = _read_toml(path) if path else {}
    for line in overrides or []:
        _override(settings, line)
    try:
        return TypeAdapter(TrainConfig).validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(path), expected="a readable file", found=error.strerror or "none") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), expected="a TOML file", found=str(error)) from error


def _override(settings: dict[str, Any], line: str) -> None:
    key, equals, text = line.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"--set {line}", expected="section.key=value", found=line)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = settings.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(section, expected="a section", found=repr(table))
    table[name] = value


def _explain(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[:2]) or "configuration"
    if first["type"] == "unexpected_keyword_argument":
        return ConfigError(field, expected=f"one of: {_known(place)}", found=repr(place[-1]))
    expected = "; or ".join(
        str(e["msg"]).removeprefix("Input should be ") for e in error.errors() if e["loc"][:2] == first["loc"][:2]
    )
    return ConfigError(field, expected=expected, found=repr(first["input"]))


def _known(place: list[str]) -> str:
    owner: Any = TrainConfig
    if len(place) > 1:
        owner = {f.name: f.type for f in dataclasses.fields(TrainConfig)}[place[0]]
    return ", ".join(field.name for field in dataclasses.fields(owner))

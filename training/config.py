"""Every setting of a training run, declared once; unknown or mistyped keys are refused.

A run's settings come from three places: the defaults below, a TOML file, and `--set section.key=value` lines. A later
place overrides an earlier one. The settings are saved inside the encoder.
"""

import copy
import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lookalike.training.errors import ConfigError
from lookalike.training.tables.columns import CATEGORIES

__all__ = [
    "CorruptionConfig",
    "DataConfig",
    "FeaturesConfig",
    "FitConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
    "build_config",
    "load_config",
    "settings_toml",
]

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
Count = Annotated[int, Field(ge=1, lt=1 << 62)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Share = Annotated[float, Field(ge=0, lt=1)]
Noise = Annotated[float, Field(ge=0, le=1_000)]
Side = Annotated[int, Field(ge=1, le=1_024)]
Duration = Annotated[str, Field(pattern=r"^(\d+\.?\d*|\.\d+)(ms|s|min|h)$")]
Names = tuple[str, ...]


@dataclass(frozen=True, config=_STRICT)
class DataConfig:
    """How rows become training rows."""

    scale: Literal["auto", "center", "range", "column-range", "standard", "channel", "none"] = "auto"
    """auto: center for pictures, channel for windows of recordings (all samples of a channel have one scale), standard
    for everything else."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows held out to validate on."""
    max_bytes: Count = 1 << 30
    """If the rows need more memory than this (as float32), training uses an even sample of them. It needs
    about three times as much memory in total."""
    id: str = "id"
    """The column of a table that has the ids of the rows."""
    label: str = "label"
    """The column of a table that has the labels of the rows. Labels are for evaluation, never for training."""
    columns: Names = ()
    """The columns of a table that are part of the input, with those of category, number and text; none named: the
    columns are detected."""
    exclude: Names = ()
    """Columns of a table that are not part of the input; they stay in the payload."""
    category: Names = ()
    """Columns of a table that are categories, although they look like numbers or have many distinct values."""
    number: Names = ()
    """Columns of a table that are numbers, although they look like identifiers or like text."""
    text: Names = ()
    """Columns of text of a table that become hashed n-grams of characters."""
    weight: dict[str, Annotated[float, Field(gt=0, le=1_000)]] = dataclasses.field(default_factory=dict)
    """How much a column of a table counts in the loss; other columns count 1."""
    categories: Annotated[int, Field(ge=0, le=10_000)] = CATEGORIES
    """A table's text column is part of the input if it has at most this many distinct values; 0: no text is."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | Literal["auto"] = "auto"
    """Between the cells of a text file; auto: comma, semicolon, tab or bar, whichever its first lines have."""
    decimal: Literal["auto", ".", ","] = "auto"
    """The decimal mark of the numbers of a text file; auto: the mark that the numbers prove, such as `0,5`. If none
    does, the point; but in a file with semicolons `1,000` has a decimal comma."""
    encoding: str = "auto"
    """The encoding of a text file, such as latin-1 or cp1252; auto: UTF-8, or UTF-16 with its byte order mark."""
    image_size: Side | tuple[Side, Side] | Literal["auto"] = "auto"
    """The side of the pictures that the encoder reads, in pixels, or [height, width]; auto: from the data, at most
    32. Training on 64 takes four times as long."""
    image_fit: Literal["crop", "pad", "stretch"] = "crop"
    """For a photo of another shape: crop cuts its edges, pad adds background, stretch changes its proportions."""
    image_mode: Literal["auto", "grey", "rgb"] = "auto"
    """auto: grey if a sample of the photos has no color."""
    image_background: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")] = "#ffffff"
    """The color under transparent pixels and around a padded photo, as #rrggbb."""
    max_unreadable: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """The greatest share of a folder's photos that may be unreadable; they are skipped and reported. auto: 1 %, or 5
    photos if that is more."""
    window: Count | Duration | Literal["none"] = "none"
    """Cut recordings into windows of this length, in samples, or as a time such as 2s."""
    hop: Count | Duration | Literal["auto"] = "auto"
    """From the start of one window to the next; auto: half of the window."""
    channels: Names = ()
    """The columns of a recording that are its channels; none named: all columns of numbers except the time."""
    time: str = ""
    """The column of a recording with the times of the samples, as a date and time or in seconds."""
    recording: str = ""
    """The column of a table that names the recording of a sample; without it, each file is one recording."""
    rate: Annotated[float, Field(gt=0, le=1e9)] | Literal["auto"] = "auto"
    """Resample recordings to this many samples per second; auto: the median rate of the recordings."""
    max_gap: Duration | Literal["auto"] = "auto"
    """A gap longer than this splits a recording; auto: ten samples."""
    max_missing: Share = 0.1
    """A window with a greater share of missing values is skipped and counted."""
    normalize: Literal["none", "center", "standard"] = "none"
    """none keeps the values of each window; center subtracts its mean; standard also divides by its deviation."""
    normalize_over: Literal["channel", "all"] = "channel"
    """Normalize each channel of a window by itself, or all channels together."""

    @property
    def of_recordings(self) -> tuple[str, ...]:
        """The names of the settings that only recordings have, and that differ from their defaults."""
        names = ("window", "hop", "channels", "time", "recording", "rate", "max_gap", "max_missing", "normalize")
        default = DataConfig()
        return tuple(name for name in (*names, "normalize_over") if getattr(self, name) != getattr(default, name))

    def reads_like(self, other: "DataConfig") -> bool:
        """Whether the same source, read with the other settings, gives the same rows."""
        same = dataclasses.replace(other, scale=self.scale, validation=self.validation, max_bytes=self.max_bytes)
        return same == self


@dataclass(frozen=True, config=_STRICT)
class FeaturesConfig:
    """A fixed descriptor that the encoder computes from a row and reads beside the row."""

    kind: Literal["auto", "none", "gradients"] = "auto"
    """gradients: histograms of oriented gradients, of pictures only. auto: gradients for pictures of at least 8 x 8
    pixels that an mlp reads, else none."""
    cell: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    """The side of a cell in pixels; auto: an eighth of the longer side, at least 2."""


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Pillar one: an autoencoder, a stack of layers and its mirror image."""

    kind: Literal["mlp", "conv"] = "mlp"
    """conv: for pictures (kernels of 3 x 3) and windows of recordings (kernels of 5 samples); one convolution of
    stride 2 for each of `channels`."""
    latent_dim: Width | Literal["auto"] = "auto"
    """auto: a quarter of the columns, at least 16 and at most 32."""
    hidden: tuple[Width, ...] = (512, 256)
    """The mlp's widths, from the input to the latent space."""
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (32, 64)
    """The conv's channels, from the input to the latent space."""
    decoder: tuple[Width, ...] | Literal["mirror"] = "mirror"
    """The decoder's widths (or channels), from the latent space to the output; mirror: the encoder's, reversed."""
    activation: Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "linear"] = "silu"
    """sigmoid and linear are for demonstration: gradients vanish in deep stacks of sigmoids, and a linear
    autoencoder learns what PCA does."""
    batch_norm: bool = True
    dropout: Share = 0.0
    latent_norm: bool = True
    """Normalize each latent dimension to mean 0 and standard deviation 1 over a batch, so that none dominates."""
    latent_noise: Noise = 0.1
    """Standard deviation of the normal noise on the latent layer in training: nearby points must decode alike."""
    output: Literal["linear", "sigmoid", "tanh"] = "linear"


@dataclass(frozen=True, config=_STRICT)
class LossConfig:
    """Pillar two: the cost of an error."""

    kind: Literal["mse", "mae", "huber", "bce_logits", "bce"] = "bce_logits"
    """bce_logits treats each value as a share of its column's range (for pictures, of the range of all columns) and
    needs a linear output. bce needs a sigmoid output and rows within [0, 1]; tables do not accept it."""
    target: Literal["auto", "rows", "gradients"] = "auto"
    """To be rebuilt: rows, or gradients beside them, which need features.kind=gradients. auto: the features that the
    encoder reads."""
    target_weight: Annotated[float, Field(gt=0, le=1_000)] = 3.0
    """How much the second target counts; the rows count 1."""


@dataclass(frozen=True, config=_STRICT)
class OptimizerConfig:
    """Pillar three: how the weights follow the gradient."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 4e-3
    decoder_lr: Annotated[float, Field(gt=0)] | Literal["same"] = "same"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Applies to weights only, never to biases or norms."""
    momentum: Share = 0.9
    """Used by sgd only."""
    nesterov: bool = False
    """Used by sgd only."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """The largest norm of all gradients together; 0: no clipping."""
    schedule: Literal["constant", "step", "cosine", "one_cycle", "plateau"] = "cosine"
    warmup: Share = 0.0
    """The share of the run in which the learning rate rises, from a 25th of its value."""


@dataclass(frozen=True, config=_STRICT)
class CorruptionConfig:
    """How a row is corrupted before a denoising autoencoder sees it; the target stays clean."""

    kind: Literal["none", "gaussian", "masking", "salt_and_pepper", "blocks", "swap"] = "gaussian"
    level: Noise | Literal["auto"] = "auto"
    """auto: 1.2 for gaussian, 0.3 for the others. gaussian: the largest standard deviation; each row draws one
    from 0 to this, in the unit of the preprocessed rows (a standard deviation if they are centered or standardized,
    else a range). masking, salt_and_pepper and swap: the share of values that change. blocks: of the picture, or
    of the time of a window, over all channels."""
    shift: Annotated[float, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Before that, pictures are moved, and the target stays in place: the greatest shift, in pixels, both ways. auto: a
    16th of the longer side, at least 1; 0 for rows that are no pictures, and if kind is none."""
    zoom: Annotated[float, Field(ge=0, le=0.9)] | Literal["auto"] = "auto"
    """The greatest change of a picture's size; auto: 0.1, or 0 like the shift."""
    rotation: Annotated[float, Field(ge=0, le=180)] | Literal["auto"] = "auto"
    """The greatest rotation, in degrees; auto: 10, or 0 like the shift."""
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of pictures that are mirrored, left to right."""


@dataclass(frozen=True, config=_STRICT)
class FitConfig:
    """How long to train, with which batches, and on which device."""

    epochs: Count | Literal["auto"] = "auto"
    """auto: about 3,000 steps, at least 30 epochs and at most 300; of many rows, at most 15,000 steps, or 5,000 if
    the encoder reads a descriptor."""
    batch_size: Count | Literal["auto"] = "auto"
    """auto: 256, or a twentieth of the rows if that is less, but at least 16."""
    patience: Count = 30
    """Stop after this many epochs without a better validation loss."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: products in bfloat16, weights in float32. auto: bf16 if a step is long and it measures faster."""


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """One training run."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    features: FeaturesConfig = dataclasses.field(default_factory=FeaturesConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    corruption: CorruptionConfig = dataclasses.field(default_factory=CorruptionConfig)
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)


def load_config(path: Path | None = None, overrides: list[str] | None = None) -> TrainConfig:
    """Return `build_config` of the TOML file `path`, if any. Raises ConfigError also if the file cannot be read."""
    return build_config(_read_toml(path) if path else {}, overrides)


def build_config(settings: dict[str, Any], overrides: list[str] | None = None) -> TrainConfig:
    """Return the defaults, overridden by `settings` (by section), overridden by `section.key=value` lines.

    Raises ConfigError if a key is unknown, mistyped or out of range.
    """
    settings = copy.deepcopy(settings)
    for line in overrides or []:
        _override(settings, line)
    try:
        return TypeAdapter(TrainConfig).validate_json(json.dumps(settings, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error) from error


def settings_toml() -> str:
    """Return a TOML file that `load_config` reads: each setting with its default, accepted values and description."""
    schema = TypeAdapter(TrainConfig).json_schema()
    sections = []
    for section, reference in schema["properties"].items():
        about = schema["$defs"][reference["$ref"].rpartition("/")[2]]
        lines = [f"# {about['description']}", f"[{section}]"]
        for name, key in about["properties"].items():
            comments = [*key.get("description", "").splitlines(), _accepted(key)]
            lines += [*(f"# {line}" for line in comments if line), f"{name} = {json.dumps(key.get('default', {}))}"]
        sections.append("\n".join(lines))
    return "\n\n".join(sections)


def _accepted(key: dict[str, Any]) -> str:
    """The accepted values of a setting, from its JSON schema."""
    if "anyOf" in key:
        return ", or ".join(_accepted(kind) for kind in key["anyOf"])
    if "enum" in key or "const" in key:
        return " | ".join(json.dumps(value) for value in key.get("enum", [key.get("const")]))
    if key["type"] == "array":
        kinds = key["prefixItems"] if "prefixItems" in key else [key["items"]]
        return f"a list, each {_accepted(kinds[0])}"
    if key["type"] == "object":
        return f"names with {_accepted(key['additionalProperties'])} for each"
    if key["type"] == "string":
        return f"text like {key['pattern']}" if "pattern" in key else "text"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {key[name]:,}" for name, sign in bounds.items() if name in key and key[name] < 1 << 60]
    return " ".join([{"integer": "an integer", "number": "a number"}.get(key["type"], "true | false"), *limits])


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(str(path), expected="a readable file", found=error.strerror or "none") from error
    except (ValueError, RecursionError) as error:  # includes invalid TOML and invalid UTF-8
        raise ConfigError(str(path), expected="a TOML file", found=str(error)) from error


def _override(settings: dict[str, Any], line: str) -> None:
    key, equals, text = line.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name) or "\n" in line:
        raise ConfigError(f"--set {line}", expected="section.key=value", found=line)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    except (ValueError, RecursionError) as error:
        raise ConfigError(key.strip(), expected="a readable TOML value", found=str(error)) from error
    table = settings.setdefault(section, {})
    if not isinstance(table, dict):
        raise ConfigError(section, expected="a section", found=repr(table))
    table[name] = value


def _explain(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    field = ".".join(place[:2]) or "configuration"
    if first["type"] == "unexpected_keyword_argument":
        owner = type(getattr(TrainConfig(), place[0])) if len(place) > 1 else TrainConfig
        known = ", ".join(field.name for field in dataclasses.fields(owner))
        return ConfigError(field, expected=f"one of: {known}", found=repr(place[-1]))
    expected = "; or ".join(
        str(e["msg"]).removeprefix("Input should be ") for e in error.errors() if e["loc"][:2] == first["loc"][:2]
    )
    return ConfigError(field, expected=expected, found=repr(first["input"]))

"""The autoencoder as a scikit-learn transformer, for pipelines and grid searches."""

import json
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.encoder import FORMAT, Encoder
from lookalike.training.artifact.export import fold
from lookalike.training.choices import DeviceName
from lookalike.training.config import TrainConfig, load_config
from lookalike.training.doctor.causes import diagnose
from lookalike.training.errors import ArtifactError, ConfigError, DataError, TrainingError
from lookalike.training.fit.fitting import epoch_bar, prepare
from lookalike.training.fit.split import split_rows
from lookalike.training.history import State
from lookalike.training.rows import Rows
from lookalike.training.rows.arrays import array_rows
from lookalike.training.sealed import read_manifest
from lookalike.training.tables.columns import Column
from lookalike.training.tables.origin import absolute, relative

__all__ = ["AutoencoderEmbedder"]

FloatsOrDoubles = Floats | Doubles

_DEFAULT = TrainConfig()
_FLOATS = (np.float64, np.float32)
_BLOCK = 1_024
_SETTING_OF = {
    "latent_dim": "model.latent_dim",
    "hidden": "model.hidden",
    "activation": "model.activation",
    "batch_norm": "model.batch_norm",
    "dropout": "model.dropout",
    "loss": "loss.kind",
    "lr": "optimizer.lr",
    "corruption": "corruption.kind",
    "corruption_level": "corruption.level",
    "scale": "data.scale",
    "validation": "data.validation",
    "epochs": "fit.epochs",
    "batch_size": "fit.batch_size",
    "patience": "fit.patience",
    "device": "fit.device",
}
"""The setting that each parameter sets."""
_ONE_AT_A_TIME = threading.Lock()
"""Torch's random generator is global to the process: parallel fits would draw from the same sequence."""


@dataclass(kw_only=True, eq=False, repr=False)  # writes __init__
class AutoencoderEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A denoising autoencoder whose `transform` embeds rows; `lookalike build` accepts the result of `export`.

    The parameters are the settings of a run, `training.config.TrainConfig`, under short names, with the same
    defaults. `fit` holds rows out, scales, trains and stops early exactly as `lookalike train` does: the same rows
    and the same seed give the same weights, bit for bit.

    There is no `partial_fit`: later rows would change the columns' scale after the weights were trained with the
    earlier scale, and early stopping needs rows that no step has seen.

    Args:
        latent_dim: values in an embedding; "auto" is a quarter of the columns, within [16, 32].
        hidden: the layer widths of the encoder; the decoder has the same widths in reverse order.
        corruption: how a row is corrupted before the model sees it; "none" trains a standard autoencoder.
        scale: how columns are scaled; "auto" is "center" if `input_shape` has several dimensions, else "standard".
        validation: the share of the rows held out for early stopping.
        device: the device to train on; `transform` runs on the CPU.
        input_shape: the shape of one row if rows are pictures: (height, width), or with channels.
        settings: any other settings, such as `("optimizer.schedule=constant", "model.kind=conv")`; they override
            the parameters.
        random_state: the seed; None or a generator draws a seed.
        verbose: show a progress bar on standard error.

    Attributes:
        n_iter_: epochs trained. history_: one `training.history.Epoch` for each.
        findings_: the doctor's findings about the run, the first cause first; `fit` also emits the first finding as
            a ConvergenceWarning.
        n_features_in_, feature_names_in_: the columns that `fit` saw.
    """

    latent_dim: int | Literal["auto"] = _DEFAULT.model.latent_dim
    hidden: Sequence[int] = _DEFAULT.model.hidden
    activation: str = _DEFAULT.model.activation
    batch_norm: bool = _DEFAULT.model.batch_norm
    dropout: float = _DEFAULT.model.dropout
    loss: str = _DEFAULT.loss.kind
    lr: float = _DEFAULT.optimizer.lr
    corruption: str = _DEFAULT.corruption.kind
    corruption_level: float | Literal["auto"] = _DEFAULT.corruption.level
    scale: str = _DEFAULT.data.scale
    validation: float = _DEFAULT.data.validation
    epochs: int | Literal["auto"] = _DEFAULT.fit.epochs
    batch_size: int | Literal["auto"] = _DEFAULT.fit.batch_size
    patience: int = _DEFAULT.fit.patience
    device: DeviceName = _DEFAULT.fit.device
    input_shape: tuple[int, ...] | None = None
    settings: Sequence[str] = ()
    random_state: int | np.random.RandomState | None = _DEFAULT.fit.seed
    verbose: bool = False

    def fit(self, X: ArrayLike, y: object = None) -> "AutoencoderEmbedder":  # noqa: N803
        """Train on X, (n, columns) numbers, n >= 2; `y` is ignored.

        Raises:
            ValueError: X has NaN, infinite or too few values, or a parameter is invalid.
            TrainingError: the loss became NaN or infinite; the error says what to change.
        """
        self.__dict__.pop("_fitted", None)  # an estimator whose fit fails is not fitted
        inputs = validate_data(self, X, dtype=_FLOATS, order="C", ensure_min_samples=2)
        columns = tuple(map(Column, map(str, getattr(self, "feature_names_in_", ()))))
        try:
            config = self._config()
            shape = None if self.input_shape is None else tuple(map(int, self.input_shape))
            self._fit(array_rows(inputs, "X", shape=shape, columns=columns), config)
        except (ConfigError, DataError) as error:
            raise ValueError(str(error)) from error
        return self

    def transform(self, X: ArrayLike) -> FloatsOrDoubles:  # noqa: N803
        """(n, columns) -> (n, latent_dim) embeddings, not normalized; float64 if X is, else float32.

        They equal those of the exported encoder, to float32's rounding. They are computed in float64, so that a row's
        embedding does not depend on the other rows of the batch.
        """
        check_is_fitted(self)
        checked = validate_data(self, X, dtype=_FLOATS, reset=False)
        preprocess, encoder = self._fitted.preprocess, fold(self._fitted.model.encoder).double()
        inputs = check_array(relative(checked, preprocess.origin), input_name="X")
        return _blockwise(inputs, checked.dtype, lambda rows: encoder(preprocess.apply(rows)))

    def inverse_transform(self, X: ArrayLike) -> FloatsOrDoubles:  # noqa: N803
        """(n, latent_dim) embeddings -> (n, columns) in the unit of the rows; float64 if X is, else float32."""
        check_is_fitted(self)
        checked = check_array(X, dtype=_FLOATS, input_name="X")
        if checked.shape[1] != self._n_features_out:
            raise ValueError(f"X has {checked.shape[1]} features, but embeddings have {self._n_features_out}.")
        preprocess, decoder = self._fitted.preprocess, fold(self._fitted.model.decoder).double()
        logits = self._fitted.header["output"] == "logits"
        rows = _blockwise(checked, np.dtype(np.float64), lambda rows: preprocess.decode(decoder(rows), logits=logits))
        restored: FloatsOrDoubles = absolute(rows, preprocess.origin).astype(checked.dtype)
        return restored

    def score(self, X: ArrayLike, y: object = None) -> float:  # noqa: N803
        """Return the share of X's variance that survives the bottleneck, at most 1; `y` is ignored.

        This is R2 between X and its reconstruction, in the unit of the rows, over all columns together, comparable
        with PCA's sum of `explained_variance_ratio_`. Columns of large variance weigh most, regardless of `scale`; if
        columns have different units, put a StandardScaler before this estimator in a pipeline.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=_FLOATS, reset=False)
        return float(r2_score(rows, self.inverse_transform(self.transform(X)), multioutput="variance_weighted"))

    def export(self, folder: str | Path) -> Encoder:
        """Write the encoder artifact, as `lookalike train` writes RUN/encoder; replaces an existing artifact.

        Raises TrainingError if `folder` is no artifact, and ExportError if the artifact's output differs.
        """
        check_is_fitted(self)
        target = Path(folder)
        try:
            if target.exists():
                read_manifest(target, FORMAT)
        except ArtifactError as error:
            expected = "a new folder, or an encoder artifact to replace"
            raise TrainingError(str(target), expected=expected, found="other contents") from error
        return self._fitted.export(target)

    def _config(self) -> TrainConfig:
        state = self.random_state
        seed = int(state if isinstance(state, int | np.integer) else check_random_state(state).randint(1 << 31))
        values = {key: getattr(self, name) for name, key in _SETTING_OF.items()} | {"fit.seed": seed}
        lines = [f"{key}={json.dumps(value, default=_to_json)}" for key, value in values.items()]
        if self.input_shape is not None:
            sides = np.asarray(self.input_shape)
            if sides.ndim != 1 or sides.dtype.kind not in "iu" or not sides.size or (sides < 1).any():
                raise ConfigError("input_shape", expected="None, or whole numbers from 1", found=repr(self.input_shape))
        is_list = isinstance(self.settings, Sequence) and not isinstance(self.settings, str)
        if not (is_list and all(isinstance(line, str) for line in self.settings)):
            expected = 'a list of lines such as "model.dropout=0.1"'
            raise ConfigError("settings", expected=expected, found=repr(self.settings))
        return load_config(None, [*lines, *self.settings])

    def _fit(self, rows: Rows, config: TrainConfig) -> None:
        state = State()
        # the caller's random state stays unchanged
        with _ONE_AT_A_TIME, torch.random.fork_rng(range(torch.cuda.device_count())):
            split = split_rows(rows, config, shown=self.verbose)
            fitting = prepare(rows, split, config)
            with epoch_bar(fitting.plan.epochs, state, shown=self.verbose) as show:
                fitting.run(state, show)
        fitting.model.cpu()
        self._fitted = fitting.fitted(rows, split, fitting.settings(rows, split, config), state)
        self.history_, self.n_iter_, self.findings_ = state.history, len(state.history), diagnose(state)
        for finding in self.findings_[:1]:
            text = f"{finding.cause} ({finding.sure}): {finding.seen}. {finding.why} {finding.change}"
            warnings.warn(text, ConvergenceWarning, stacklevel=3)

    @property
    def _n_features_out(self) -> int:
        return int(self._fitted.header["latent_dim"])

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _blockwise(rows: NDArray[Any], dtype: np.dtype[Any], step: Callable[[Tensor], Tensor]) -> NDArray[Any]:
    """(n, ...) -> (n, ...) of `dtype`, computed in float64 in blocks of `_BLOCK` rows."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BLOCK):
            block = torch.from_numpy(rows[start : start + _BLOCK].astype(np.float64))
            parts.append(step(block).numpy().astype(dtype))
    return np.concatenate(parts)


def _to_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)

"""The gate: decide whether a challenger may replace the champion.

Both are measured row by row on held-out rows that neither was trained on, by these measures:

    labels           the share of a row's 10 nearest neighbors with the same label, if there are labels
    neighbours       the share of its 10 nearest neighbors that are also nearest neighbors of the raw row
    recovery         whether a damaged row's original is among its 10 nearest, over several severities of damage
    moves            of pictures: whether the original of a picture that is moved by a pixel is among its 10 nearest
    reconstruction   the root mean square error of the decoder, in the unit of index.evaluation.baselines

Each difference has a 95 % confidence interval by the paired bootstrap (B. Efron, "Bootstrap Methods: Another Look at
the Jackknife", 1979). No single row decides: the other measures are shares from 0 to 1, and the mean of the
unbounded reconstruction error is a trimmed mean (training.robust). All of the following requirements must be met. So a
single measure can refuse a challenger, and no correction for multiple tests is needed:

    champion    no worse by any measure: the low end of the interval is at least minus the margin. The margin is 0.02,
                for moves 0.10, and for the reconstruction a twentieth of the champion's error. Two equivalent trainings
                differ by their seed, which the bootstrap over rows does not include: by 0.005 on digits. With too few
                rows for a decision, the challenger does not pass.
    untrained   better than an encoder of the same architecture with random weights, by every measure except labels
                (and moves, if it reads no gradients). By labels no worse, because random projections keep many
                classes apart.
    PCA         of the same dimension: better by at least one measure, and not much worse by labels, recovery and
                neighbors. More is not possible: linear maps keep neighbors best, so good encoders keep 0.87
                (Fashion-MNIST) to 0.93 (digits) of the neighbors that PCA keeps, and are better by reconstruction.
                An encoder of pictures that reads gradients keeps fewer on purpose, 0.71 (digits): pictures that differ
                by a move are far apart as raw rows, and near each other in its latent space. A swapped pixel also
                makes edges, so it recovers fewer damaged rows.
    gradients   of pictures, if the encoder reads them: with PCA of the same dimension, not much worse by labels.
    raw rows    not much worse by labels and recovery, although the rows are many times as large. Their neighbors and
                their reconstruction are perfect by definition.

A refusal names the first requirement that is not met: measure by measure in the order above, and for each measure the
champion, PCA, raw rows, untrained and gradients in turn. An acceptance names labels against the champion, or without
labels neighbors, which agree best with labels (benchmarks.label_free).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lookalike.index.ann.neighbor_metrics import label_agreement_per_row, neighbors_kept_per_row, recovery_per_row
from lookalike.index.ann.recall import K
from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.baselines import Embedder, by_encoder, by_pca, fit_feature_space
from lookalike.index.evaluation.quality import FEWEST_LABELS, MOST_ROWS, SEVERITIES, swapped
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.verdict import Comparison, MeasureComparison, Requirement, Verdict
from lookalike.training.array_types import Doubles, Floats
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.errors import DataError
from lookalike.training.evaluation.untrained import descriptor_components, untrained
from lookalike.training.robust import trimmed_mean
from lookalike.training.transforms import WindowTransform
from lookalike.training.transforms.shifted import shifted

__all__ = ["FEWEST_ROWS", "GateEvaluation", "decide", "judge"]

FEWEST_ROWS = 100
"""With fewer rows, intervals are too wide, and ten neighbors are more than a tenth of all rows."""
RESAMPLES = 2_000
WORST = 1e6
"""The greatest error in deviations; larger and nonfinite errors are replaced by it."""
LABELS, NEIGHBOURS, RECOVERY, MOVES, RECONSTRUCTION = "labels", "neighbours", "recovery", "moves", "reconstruction"
CHAMPION, PCA, RAW, UNTRAINED, DESCRIPTOR = "champion", "PCA", "raw rows", "untrained", "gradients, PCA"

FIXED, SHARE, MOVES_FIXED = 0.02, 0.05, 0.10
ALLOWED = {
    PCA: {LABELS: 0.10, NEIGHBOURS: 0.25, RECOVERY: 0.10},
    RAW: {LABELS: 0.10, RECOVERY: 0.10},
    DESCRIPTOR: {LABELS: 0.05},
}
"""How much worse than a baseline the challenger may be, as a share of the baseline's value; else no requirement."""
DESCRIBED = {NEIGHBOURS: 0.50, RECOVERY: 0.25}
"""The same, for an encoder that reads a descriptor."""

Values = dict[str, Doubles]
"""The value of each row, by measure."""


def judge(
    challenger: Encoder,
    champion: Encoder | None,
    *,
    held: Floats,
    labels: Sequence[Any] | None,
    metric: Metric,
    fit_on: Floats,
) -> Verdict:
    """Decide whether the challenger may replace the champion.

    Args:
        champion: None if there is no champion yet; then only the baselines are compared.
        held: (n, width) raw rows that neither was trained on, with the challenger's columns; sampled above 2,000.
        labels: n labels, None for a row without one; used if at least thirty rows have a label and two labels occur.
        fit_on: (m, width) raw rows for fitting the feature space and PCA, without the held-out rows.

    Raises:
        DataError: the rows have another width than the encoders need.
    """
    for name, rows in (("held", held), ("fit_on", fit_on)):
        _check_width(name, rows.shape[1], challenger.width)
    if champion is not None and not (challenger.columns and champion.columns):
        _check_width("champion", champion.width, challenger.width)
    if len(held) < FEWEST_ROWS or len(fit_on) < 2:
        return _too_few(len(held))
    evaluation = GateEvaluation(held, labels, metric=metric, fit_on=fit_on, like=challenger)
    return evaluation.judge(challenger, None if champion is None else evaluation.champion(champion))


class GateEvaluation:
    """Held-out rows for judging several challengers, with the values of the baselines, measured once."""

    def __init__(
        self, held: Floats, labels: Sequence[Any] | None, *, metric: Metric, fit_on: Floats, like: Encoder
    ) -> None:
        """Arguments as for `judge`. `like`: an encoder with the shape and the columns of all challengers."""
        self.metric, self._fit_on = metric, fit_on
        self.unit = fit_feature_space(fit_on, like)
        sample = np.sort(np.random.default_rng(0).permutation(len(held))[:MOST_ROWS])
        _, first = np.unique(self.unit.features(held[sample]), axis=0, return_index=True)  # equal rows count as one
        chosen = sample[np.sort(first)]
        self.rows = held[chosen]
        self._features = self.unit.features(self.rows)
        self._damaged = [swapped(self.rows, severity, limits=self.unit.preprocess.limits) for severity in SEVERITIES]
        pictures = len(like.input_shape) > 1 and not isinstance(like.transform, WindowTransform)
        self._moved = shifted(self.rows, like.input_shape) if pictures else None
        classes = [None if labels is None or labels[i] is None else str(labels[i]) for i in chosen]
        labeled = np.flatnonzero([name is not None for name in classes])
        self._names = np.array([str(classes[i]) for i in labeled])
        enough = len(labeled) >= FEWEST_LABELS and len(set(self._names.tolist())) > 1
        self._labeled = labeled if enough else labeled[:0]
        self._pca: dict[int, tuple[str, Values]] = {}
        self._raw = self.values(Embedder(RAW, self.unit.features, None))

    def champion(self, champion: Encoder) -> Values:
        """Return the champion's values, for `judge`."""
        return self.values(by_encoder(CHAMPION, champion, self.unit))

    def judge(self, challenger: Encoder, champion: Values | None) -> Verdict:
        """Return the verdict on a challenger, compared with the champion's values and the baselines."""
        if len(self.rows) < FEWEST_ROWS:
            return _too_few(len(self.rows))
        values_of = self.values(by_encoder("challenger", challenger, self.unit))
        pca, components = self._components(challenger.latent_dim)
        opponents = {CHAMPION: champion} if champion is not None else {}
        random_encoder = by_encoder(UNTRAINED, untrained(challenger), self.unit)
        opponents |= {pca: components, RAW: self._raw, UNTRAINED: self.values(random_encoder)}
        if untrained_gradients := descriptor_components(challenger, self._fit_on):
            embedder = Embedder(untrained_gradients.name, untrained_gradients.embed, None)
            opponents[embedder.name] = self.values(embedder)
        measures = []
        described = untrained_gradients is not None
        for name, values in values_of.items():
            compared = (
                _compared(name, by, values, other[name], described=described)
                for by, other in opponents.items()
                if name in other
            )
            measures.append(MeasureComparison(name, float(_mean(name)(values, axis=-1)), tuple(compared)))
        return decide(tuple(measures), len(self.rows))

    def values(self, embedder: Embedder) -> Values:
        """Return the value of each row by measure; for labels, of each row with a label."""
        latent = _finite_rows(embedder.embed(self.rows))
        embeddings = in_metric(latent, self.metric)
        values: Values = {}
        if len(self._labeled):
            values[LABELS] = label_agreement_per_row(embeddings[self._labeled], self._names, self.metric, K)
        values[NEIGHBOURS] = neighbors_kept_per_row(self._features, embeddings, self.metric, K)
        damaged = [in_metric(_finite_rows(embedder.embed(rows)), self.metric) for rows in self._damaged]
        values[RECOVERY] = np.mean([recovery_per_row(embeddings, each, self.metric, k=K) for each in damaged], axis=0)
        if self._moved is not None:
            moved = in_metric(_finite_rows(embedder.embed(self._moved)), self.metric)
            values[MOVES] = recovery_per_row(embeddings, moved, self.metric, k=K)
        if embedder.reconstruct:
            with np.errstate(over="ignore", invalid="ignore"):
                gaps = embedder.reconstruct(latent).astype(np.float64) - self._features  # (n, features)
                errors = np.sqrt(np.square(gaps).mean(axis=1))
            values[RECONSTRUCTION] = np.where(errors <= WORST, errors, WORST)  # also replaces NaN
        return values

    def _components(self, dim: int) -> tuple[str, Values]:
        if dim not in self._pca:
            embedder = by_pca(dim, self.unit, self._fit_on)
            self._pca[dim] = embedder.name, self.values(embedder)
        return self._pca[dim]


def _compared(name: str, against: str, challenger: Doubles, opponent: Doubles, *, described: bool) -> Comparison:
    """Compare the challenger with one opponent by one measure, and check the requirement.

    `described`: whether the challenger reads a descriptor beside the rows.
    """
    differences = opponent - challenger if name == RECONSTRUCTION else challenger - opponent
    mean = _mean(name)
    difference, (low, high) = float(mean(differences, axis=-1)), _interval(differences, mean)
    value = float(mean(opponent, axis=-1))
    requirement, margin = _requirement(name, against.rpartition("-")[0] or against, value, described=described)
    passes = {"nothing": True, "better": low > 0, "no worse": low >= -margin}[requirement]
    return Comparison(against, value, difference, low, high, requirement, margin, passes)


def _requirement(name: str, against: str, value: float, *, described: bool) -> tuple[Requirement, float]:
    if against == CHAMPION:
        return "no worse", {RECONSTRUCTION: SHARE * value, MOVES: MOVES_FIXED}.get(name, FIXED)
    if against == UNTRAINED:
        if name == MOVES and not described:
            return "nothing", 0.0
        return ("no worse", FIXED) if name == LABELS else ("better", 0.0)
    share = ALLOWED[against].get(name)
    if described and share is not None:
        share = DESCRIBED.get(name, share)
    return ("nothing", 0.0) if share is None else ("no worse", share * value)


def _mean(name: str) -> Callable[..., Any]:
    """Return the function that averages a measure: shares are bounded, but the error of a row is not."""
    return trimmed_mean if name == RECONSTRUCTION else np.mean


def _interval(differences: Doubles, mean: Callable[..., Any]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean of (n,) differences, by the bootstrap."""
    from scipy.stats import bootstrap

    result = bootstrap((differences,), mean, n_resamples=RESAMPLES, method="percentile", batch=250, rng=0)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def decide(measures: tuple[MeasureComparison, ...], rows: int) -> Verdict:
    """Return the verdict that follows from the comparisons; each measure needs a comparison with PCA."""
    comparisons = [(measure, comparison) for measure in measures for comparison in measure.compared]
    for measure, comparison in comparisons:
        if not comparison.passes:
            by = f"{measure.name}, against {_the(comparison.against)}"
            found = f"the difference may be as low as {comparison.low:+.4f}"
            better = comparison.asked == "better"
            required = "it must be above 0" if better else f"{-comparison.margin:+.4f} is allowed"
            return Verdict(False, by, f"by {by}, {found}, but {required}", rows, measures)
    linear = [comparison for _, comparison in comparisons if comparison.against.startswith(PCA)]
    if not any(comparison.low > 0 for comparison in linear):
        by = f"every measure, against {linear[0].against}"
        return Verdict(False, by, f"not better than {linear[0].against} by any measure", rows, measures)
    first = measures[0].compared[0]  # labels or neighbors, against the champion or PCA
    by = f"{measures[0].name}, against {_the(first.against)}"
    reason = f"no worse by any measure; by {by}, the difference is {first.difference:+.4f}"
    return Verdict(True, by, f"{reason} ({first.low:+.4f} to {first.high:+.4f})", rows, measures)


def _the(against: str) -> str:
    return {CHAMPION: "the champion", RAW: "the raw rows", UNTRAINED: "an untrained encoder"}.get(against, against)


def _too_few(count: int) -> Verdict:
    reason = f"{count} different held-out rows are too few for a decision: {FEWEST_ROWS} are needed"
    return Verdict(False, "", reason, count)


def _finite_rows(latent: Floats) -> Floats:
    """Return (n, dim) with each row that has a nonfinite value replaced by zeros."""
    return np.where(np.isfinite(latent).all(axis=1, keepdims=True), latent, np.float32(0))


def _check_width(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(name, expected=f"rows of {expected} values, the width of the challenger", found=f"{found}")

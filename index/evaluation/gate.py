"""The gate: may a challenger take the champion's place?

It is asked of held-out rows that neither was trained on, row by row, by four measures:

    labels           the share of a row's 10 nearest others that have its label; where there are labels
    neighbours       the share of its 10 nearest others that are so in the rows themselves
    recovery         is a damaged row's original among its 10 nearest, over rising damage?
    reconstruction   the root mean square of what the decoder is off, in one unit for all (index.evaluation.baselines)

Each difference has a 95 % interval by the paired bootstrap (B. Efron, "Bootstrap Methods: Another Look at the
Jackknife", 1979). No row decides alone: the first three measures are shares, from 0 to 1, and the mean of the
reconstruction, which has no greatest value, is a trimmed one (training.robust). All of this must hold, so that one
measure alone can refuse, and none needs a correction for many:

    champion    no worse by any measure: the interval's low end is above minus the margin, which is 0.02, and for the
                reconstruction a twentieth of the champion's. Two honest trainings differ by their seed, which the
                rows' bootstrap does not see: on digits by 0.005. Too few rows to tell is no pass.
    untrained   better than an encoder of the same architecture with random weights, by every measure without labels;
                and by labels no worse, for random projections keep many kinds apart.
    PCA         of the same dimension: better by one measure at least, and not much worse by labels, recovery or
                neighbours. More cannot be asked: what is linear keeps neighbours best, so that honest encoders keep
                0.87 (Fashion-MNIST) to 0.93 (digits) of PCA's; theirs is the reconstruction.
    raw rows    not much worse by labels and recovery, though the rows are many times as large. Their neighbours and
                their reconstruction are perfect by definition.

What decided is the first that does not hold, in the order of the measures and of the opponents below. Where all holds,
it is labels against the champion, or without labels neighbours, which follow them most closely (benchmarks.label_free).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.index.ann.neighbor_metrics import each_alike, each_found_again, each_kept
from lookalike.index.ann.recall import K
from lookalike.index.ann.spec import Metric
from lookalike.index.evaluation.baselines import (
    Embedder,
    by_encoder,
    by_pca,
    by_raw_rows,
    by_untrained,
    fit_feature_space,
)
from lookalike.index.evaluation.quality import FEWEST_LABELS, MOST_ROWS, SEVERITIES, swapped
from lookalike.index.versions.embed import in_metric
from lookalike.index.versions.verdict import Comparison, MeasureComparison, Requirement, Verdict
from lookalike.training.artifact.encoder import Encoder
from lookalike.training.errors import DataError
from lookalike.training.robust import trimmed_mean

__all__ = ["FEWEST_ROWS", "GateEvaluation", "decided", "judge"]

FEWEST_ROWS = 100
"""Below, an interval says little, and ten neighbours are a tenth of all."""
RESAMPLES = 2_000
WORST = 1e6
"""So many deviations off is as bad as any more, or as no number at all."""
LABELS, NEIGHBOURS, RECOVERY, RECONSTRUCTION = "labels", "neighbours", "recovery", "reconstruction"
CHAMPION, PCA, RAW, UNTRAINED = "champion", "PCA", "raw rows", "untrained"

FIXED, SHARE = 0.02, 0.05
ALLOWED = {
    PCA: {LABELS: 0.10, NEIGHBOURS: 0.25, RECOVERY: 0.10},
    RAW: {LABELS: 0.10, RECOVERY: 0.10},
}
"""How much less, as a share of what these baselines have; by what is not here nothing is asked."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Values = dict[str, Doubles]
"""Of each measure, a value for each row."""


def judge(
    challenger: Encoder,
    champion: Encoder | None,
    *,
    held: Floats,
    labels: Sequence[Any] | None,
    metric: Metric,
    fit_on: Floats,
) -> Verdict:
    """May the challenger take the champion's place?

    Args:
        champion: None where there is none yet; then the baselines alone are asked.
        held: (n, width) raw, that neither was trained on, as the challenger takes them; of more than 2,000 a sample.
        labels: n of them, None where a row has none; they count where thirty rows have one, of two kinds at least.
        fit_on: (m, width) raw, on which the unit and PCA are fitted; none of the held ones.

    Raises:
        DataError: the rows are not of the width that the encoders take.
    """
    for name, encoder, rows in (("held", challenger, held), ("fit_on", challenger, fit_on)):
        _check_width(name, rows.shape[1], encoder.width)
    if champion is not None and not (challenger.columns and champion.columns):
        _check_width("champion", champion.width, challenger.width)
    if len(held) < FEWEST_ROWS or len(fit_on) < 2:
        return _too_few(len(held))
    trial = GateEvaluation(held, labels, metric=metric, fit_on=fit_on, like=challenger)
    return trial.judge(challenger, None if champion is None else trial.champion(champion))


class GateEvaluation:
    """Held-out rows to ask several challengers, and what the baselines have of them, measured once."""

    def __init__(
        self, held: Floats, labels: Sequence[Any] | None, *, metric: Metric, fit_on: Floats, like: Encoder
    ) -> None:
        """As for `judge`. `like`: an encoder of the shape and the columns of all challengers."""
        self.metric, self._fit_on = metric, fit_on
        self.unit = fit_feature_space(fit_on, like)
        some = np.sort(np.random.default_rng(0).permutation(len(held))[:MOST_ROWS])
        _, first = np.unique(self.unit.features(held[some]), axis=0, return_index=True)  # equal rows count as one
        chosen = some[np.sort(first)]
        self.rows = held[chosen]
        self._features = self.unit.features(self.rows)
        self._damaged = [swapped(self.rows, severity, limits=self.unit.preprocess.limits) for severity in SEVERITIES]
        kinds = [None if labels is None or labels[i] is None else str(labels[i]) for i in chosen]
        known = np.array([i for i, kind in enumerate(kinds) if kind is not None], np.int64)
        self._names = np.array([str(kinds[i]) for i in known])
        self._known = known if len(known) >= FEWEST_LABELS and len(set(self._names.tolist())) > 1 else known[:0]
        self._pca: dict[int, tuple[str, Values]] = {}
        self._raw = self.values(by_raw_rows(self.unit))

    def champion(self, champion: Encoder) -> Values:
        """What `judge` compares challengers with."""
        return self.values(by_encoder(CHAMPION, champion, self.unit))

    def judge(self, challenger: Encoder, champion: Values | None) -> Verdict:
        """The verdict, from the challenger's values and all others'."""
        if len(self.rows) < FEWEST_ROWS:
            return _too_few(len(self.rows))
        mine = self.values(by_encoder("challenger", challenger, self.unit))
        pca, components = self._components(challenger.latent_dim)
        others = {CHAMPION: champion} if champion is not None else {}
        others |= {pca: components, RAW: self._raw, UNTRAINED: self.values(by_untrained(challenger, self.unit))}
        measures = tuple(
            MeasureComparison(
                name,
                float(_mean(name)(values, axis=-1)),
                tuple(
                    _compared(name, against, values, other[name]) for against, other in others.items() if name in other
                ),
            )
            for name, values in mine.items()
        )
        return decided(measures, len(self.rows))

    def values(self, way: Embedder) -> Values:
        """Of each measure a value for each row; of the labels, for each row that has one."""
        latent = _numbers(way.embed(self.rows))
        embeddings = in_metric(latent, self.metric)
        values: Values = {}
        if len(self._known):
            values[LABELS] = each_alike(embeddings[self._known], self._names, self.metric, K)
        values[NEIGHBOURS] = each_kept(self._features, embeddings, self.metric, K)
        again = [in_metric(_numbers(way.embed(damaged)), self.metric) for damaged in self._damaged]
        values[RECOVERY] = np.mean([each_found_again(embeddings, each, self.metric, k=K) for each in again], axis=0)
        if way.back:
            with np.errstate(over="ignore", invalid="ignore"):
                gaps = way.back(latent).astype(np.float64) - self._features  # (n, features)
                errors = np.sqrt(np.square(gaps).mean(axis=1))
            values[RECONSTRUCTION] = np.where(errors <= WORST, errors, WORST)  # NaN too
        return values

    def _components(self, dim: int) -> tuple[str, Values]:
        if dim not in self._pca:
            way = by_pca(dim, self.unit, self._fit_on)
            self._pca[dim] = way.name, self.values(way)
        return self._pca[dim]


def _compared(name: str, against: str, mine: Doubles, theirs: Doubles) -> Comparison:
    """What is asked of the challenger by a measure, beside one other, and whether it holds."""
    differences = theirs - mine if name == RECONSTRUCTION else mine - theirs
    mean = _mean(name)
    difference, (low, high) = float(mean(differences, axis=-1)), _interval(differences, mean)
    value = float(mean(theirs, axis=-1))
    asked, margin = _asked(name, against.partition("-")[0], value)
    holds = {"nothing": True, "better": low > 0, "no worse": low >= -margin}[asked]
    return Comparison(against, value, difference, low, high, asked, margin, holds)


def _asked(name: str, against: str, value: float) -> tuple[Requirement, float]:
    if against == CHAMPION:
        return "no worse", SHARE * value if name == RECONSTRUCTION else FIXED
    if against == UNTRAINED:
        return ("no worse", FIXED) if name == LABELS else ("better", 0.0)
    share = ALLOWED[against].get(name)
    return ("nothing", 0.0) if share is None else ("no worse", share * value)


def _mean(name: str) -> Callable[..., Any]:
    """How the values of a measure are averaged: shares are bounded, and the error of one row is not."""
    return trimmed_mean if name == RECONSTRUCTION else np.mean


def _interval(differences: Doubles, mean: Callable[..., Any]) -> tuple[float, float]:
    """The 95 % interval of the mean of (n,), by the bootstrap."""
    from scipy.stats import bootstrap

    found = bootstrap((differences,), mean, n_resamples=RESAMPLES, method="percentile", batch=250, rng=0)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def decided(measures: tuple[MeasureComparison, ...], rows: int) -> Verdict:
    """The verdict that follows from the comparisons; each measure must be held against PCA."""
    for measure, one in _comparisons(measures):
        if not one.passes:
            by = f"{measure.name}, against {_the(one.against)}"
            found = f"the difference may be as low as {one.low:+.4f}"
            wanted = "more than 0 is asked" if one.asked == "better" else f"{-one.margin:+.4f} is allowed"
            return Verdict(False, by, f"by {by}, {found}, and {wanted}", rows, measures)
    linear = [one for _, one in _comparisons(measures) if one.against.startswith(PCA)]
    if not any(one.low > 0 for one in linear):
        by = f"every measure, against {linear[0].against}"
        return Verdict(False, by, f"by no measure is it better than {linear[0].against}", rows, measures)
    first = measures[0].compared[0]  # labels or neighbours, against the champion or PCA
    by = f"{measures[0].name}, against {_the(first.against)}"
    said = f"no worse by any measure; by {by}, the difference is {first.difference:+.4f}"
    return Verdict(True, by, f"{said} ({first.low:+.4f} to {first.high:+.4f})", rows, measures)


def _comparisons(measures: tuple[MeasureComparison, ...]) -> Iterator[tuple[MeasureComparison, Comparison]]:
    return ((measure, one) for measure in measures for one in measure.compared)


def _the(against: str) -> str:
    return {CHAMPION: "the champion", RAW: "the raw rows", UNTRAINED: "an untrained encoder"}.get(against, against)


def _too_few(count: int) -> Verdict:
    return Verdict(False, "", f"{count} different held-out rows are too few to tell: {FEWEST_ROWS} are needed", count)


def _numbers(latent: Floats) -> Floats:
    """(n, dim); a row that is not all numbers says nothing, and is 0."""
    return np.where(np.isfinite(latent).all(axis=1, keepdims=True), latent, np.float32(0))


def _check_width(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise DataError(name, expected=f"rows of {wanted} values, as the challenger takes them", found=f"{found}")

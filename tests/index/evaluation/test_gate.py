import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap, trim_mean
from sklearn.neighbors import NearestNeighbors

from lookalike.index.evaluation.gate import FEWEST_ROWS, GateEvaluation, decide, judge
from lookalike.index.versions.verdict import Comparison, MeasureComparison, Verdict
from lookalike.training.artifact.encoder import Encoder, load_encoder
from lookalike.training.config import load_config
from lookalike.training.errors import DataError
from lookalike.training.fit.job import train
from lookalike.training.rows import open_rows, read_sample
from tests.factories import cloud, encoder_at
from tests.mixed import QUICK, mixed, write_csv

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Digits:
    """Two equivalent encoders of digits, a third trained for one epoch only, and rows that none has seen."""

    one: Encoder
    other: Encoder
    raw: Encoder
    held: Floats
    labels: list[Any]
    fit_on: Floats

    def judge(self, challenger: Encoder, champion: Encoder | None, *, labels: bool = True) -> Verdict:
        names = self.labels if labels else None
        return judge(challenger, champion, held=self.held, labels=names, metric="cosine", fit_on=self.fit_on)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    folder = tmp_path_factory.mktemp("gate")
    rows = open_rows("digits")
    held, labels = read_sample(open_rows("digits:test"), 360, seed=0)

    def trained(name: str, *settings: str) -> Encoder:
        return train(rows, load_config(None, ["fit.device=cpu", *settings]), folder / name).encoder

    return Digits(
        trained("one", "fit.epochs=60", "fit.seed=1"),
        trained("other", "fit.epochs=60", "fit.seed=2"),
        trained("raw", "fit.epochs=1"),
        held,
        labels,
        read_sample(rows, 2_000, seed=0)[0],
    )


def linear(folder: Path, matrix: Floats) -> Encoder:
    return load_encoder(encoder_at(folder / "encoder", matrix))


def compared(verdict: Verdict, measure: str, against: str) -> Comparison:
    one = next(one for one in verdict.measures if one.name == measure)
    return next(each for each in one.compared if each.against.startswith(against))


def test_an_encoder_passes_against_itself(digits: Digits) -> None:
    verdict = digits.judge(digits.one, digits.one)
    assert verdict.passes
    assert verdict.decided_by == "labels, against the champion"
    assert [one.name for one in verdict.measures] == ["labels", "neighbours", "recovery", "moves", "reconstruction"]
    for measure in verdict.measures:
        champion = measure.compared[0]
        assert champion.against == "champion"
        assert (champion.difference, champion.low, champion.high) == (0, 0, 0)
        assert champion.value == measure.challenger


def test_an_encoder_of_pictures_is_compared_with_the_gradients_that_it_reads(digits: Digits) -> None:
    comparison = compared(digits.judge(digits.one, None), "labels", "gradients, PCA-16")
    assert comparison.passes
    assert comparison.asked == "no worse"
    assert comparison.margin == pytest.approx(0.05 * comparison.value)


def test_equivalent_encoders_may_replace_each_other(digits: Digits) -> None:
    for challenger, champion in ((digits.one, digits.other), (digits.other, digits.one)):
        verdict = digits.judge(challenger, champion)
        assert verdict.passes, verdict.lines()
        assert digits.judge(challenger, champion, labels=False).decided_by == "neighbours, against the champion"
    first = digits.judge(digits.one, None)
    assert first.passes
    assert first.decided_by == "labels, against PCA-16"


@pytest.mark.parametrize("labels", [True, False])
def test_refuses_bad_encoders(digits: Digits, labels: bool) -> None:
    verdict = digits.judge(digits.raw, digits.one, labels=labels)
    assert not verdict.passes
    assert not digits.judge(digits.raw, None, labels=labels).passes
    if not labels:
        assert verdict.decided_by == "neighbours, against the champion"
    scaled = dataclasses.replace(digits.one.preprocess, offset=digits.one.preprocess.offset.flip(0))
    assert not digits.judge(dataclasses.replace(digits.one, preprocess=scaled), digits.one, labels=labels).passes


def test_refuses_a_collapsed_encoder(tmp_path: Path) -> None:
    point, entire_row = (
        linear(tmp_path / "a", np.zeros((6, 3), np.float32)),
        linear(tmp_path / "b", np.eye(6, 3, dtype="f4")),
    )
    verdict = judge(point, entire_row, held=cloud(200, 6), labels=None, metric="l2", fit_on=cloud(50, 6, seed=1))
    assert not verdict.passes
    assert verdict.decided_by == "neighbours, against the champion"
    assert [one.challenger for one in verdict.measures[:2]] == pytest.approx([10 / 199, 10 / 200])


def test_refuses_an_encoder_with_nonfinite_embeddings(digits: Digits) -> None:
    factor = digits.one.preprocess.factor.clone()
    factor[:] = 1e38
    broken = dataclasses.replace(digits.one, preprocess=dataclasses.replace(digits.one.preprocess, factor=factor))
    verdict = digits.judge(broken, digits.one)
    assert not verdict.passes
    assert all(np.isfinite(one.low) for measure in verdict.measures for one in measure.compared)


def test_values_agree_with_independent_computations(tmp_path: Path) -> None:
    """Values of a projection to three axes; rows have deviation 1, so the feature space does not rescale them."""
    held, fit_on = cloud(150, 6), cloud(5_000, 6, seed=1)
    names = np.array(["a", "b", "c"])[np.digitize(held[:, 0], [-0.4, 0.4])]
    encoder = linear(tmp_path, np.eye(6, 3, dtype=np.float32))
    evaluation = GateEvaluation(held, names.tolist(), metric="l2", fit_on=fit_on, like=encoder)
    values = evaluation.champion(encoder)
    standard = (held - fit_on.mean(axis=0)) / fit_on.std(axis=0)
    near, kept = (
        NearestNeighbors(n_neighbors=10).fit(rows).kneighbors(return_distance=False) for rows in (held[:, :3], standard)
    )
    assert values["labels"] == pytest.approx((names[near] == names[:, None]).mean(axis=1))
    common = np.array([len(set(a) & set(b)) / 10 for a, b in zip(near, kept, strict=True)])
    assert values["neighbours"] == pytest.approx(common, abs=1e-6)
    back = (encoder.reconstruct(held) - fit_on.mean(axis=0)) / fit_on.std(axis=0)
    assert values["reconstruction"] == pytest.approx(np.sqrt(np.square(back - standard).mean(axis=1)), rel=1e-4)
    assert values["recovery"].min() >= 0
    assert 0.5 < values["recovery"].mean() < 1


def test_the_interval_agrees_with_the_paired_bootstrap(digits: Digits) -> None:
    verdict = digits.judge(digits.one, digits.other)
    evaluation = GateEvaluation(digits.held, digits.labels, metric="cosine", fit_on=digits.fit_on, like=digits.one)
    mine, theirs = evaluation.champion(digits.one), evaluation.champion(digits.other)
    for name, sign in (("labels", 1), ("reconstruction", -1)):
        cut = 0.05 if name == "reconstruction" else 0  # errors are unbounded, so their mean is trimmed
        found, differences = compared(verdict, name, "champion"), sign * (mine[name] - theirs[name])
        assert found.difference == pytest.approx(trim_mean(differences, cut))
        expected = bootstrap(
            (mine[name], theirs[name]),
            lambda a, b, axis, cut=cut: trim_mean(a - b, cut, axis=axis),
            paired=True,
            n_resamples=2_000,
        )
        ends = sorted(sign * end for end in expected.confidence_interval)
        assert [found.low, found.high] == pytest.approx(ends, abs=2e-3)
        normal = 1.96 * differences.std() / len(differences) ** 0.5
        assert found.high - found.low == pytest.approx(2 * normal, rel=0.2)  # less for a trimmed mean


def test_the_order_of_the_rows_changes_only_the_random_damage(digits: Digits) -> None:
    order = np.random.default_rng(0).permutation(len(digits.held))
    other = dataclasses.replace(digits, held=digits.held[order], labels=[digits.labels[i] for i in order])
    one, again = digits.judge(digits.one, digits.other), other.judge(digits.one, digits.other)
    for measure, same in zip(one.measures, again.measures, strict=True):
        if measure.name not in {"recovery", "moves"}:  # the random damage depends on the position of a row
            assert same.challenger == pytest.approx(measure.challenger)
    assert one == digits.judge(digits.one, digits.other)


def test_too_few_rows_keep_the_champion(digits: Digits) -> None:
    few = dataclasses.replace(digits, held=digits.held[: FEWEST_ROWS - 1], labels=digits.labels[: FEWEST_ROWS - 1])
    verdict = few.judge(digits.one, None)
    assert (verdict.passes, verdict.decided_by, verdict.measures, verdict.rows) == (False, "", (), FEWEST_ROWS - 1)
    assert "too few" in verdict.reason
    same = dataclasses.replace(digits, held=np.repeat(digits.held[:50], 8, axis=0), labels=["a"] * 400)
    assert same.judge(digits.one, digits.one).reason.startswith("50 different")


def test_ignores_few_labels_and_a_single_class(digits: Digits) -> None:
    some: list[Any] = [*digits.labels[:29], *[None] * (len(digits.labels) - 29)]
    for labels in (some, ["a"] * len(digits.labels)):
        verdict = dataclasses.replace(digits, labels=labels).judge(digits.one, digits.one)
        assert [one.name for one in verdict.measures] == ["neighbours", "recovery", "moves", "reconstruction"]


def test_refuses_rows_of_another_width(digits: Digits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="held"):
        judge(digits.one, None, held=cloud(200, 6), labels=None, metric="cosine", fit_on=digits.fit_on)
    with pytest.raises(DataError, match="champion"):
        digits.judge(digits.one, linear(tmp_path, cloud(6, 2)))


def test_the_champion_of_a_table_may_know_other_categories(tmp_path: Path) -> None:
    """The challenger knows one more color, so the codes of the others differ; each encoder gets its own codes."""
    old, new = mixed(240), mixed(240, seed=2)
    new["colour"] = ["amber" if i % 7 == 0 else colour for i, colour in enumerate(new["colour"])]
    encoders = []
    for name, columns in (("old", old), ("new", new)):
        rows = open_rows(str(write_csv(tmp_path / f"{name}.csv", columns)))
        encoders.append(train(rows, load_config(None, list(QUICK)), tmp_path / name).encoder)
    champion, challenger = encoders
    assert champion.columns != challenger.columns
    path = str(write_csv(tmp_path / "held.csv", mixed(200, seed=5)))
    mine, theirs = (
        read_sample(rows, rows.count, seed=0)[0]
        for rows in (open_rows(path).suited(encoder.inputs) for encoder in (challenger, champion))
    )
    fit_on = read_sample(open_rows(str(tmp_path / "new.csv")).suited(challenger.inputs), 240, seed=0)[0]
    evaluation = GateEvaluation(mine, None, metric="cosine", fit_on=fit_on, like=challenger)
    own = GateEvaluation(theirs, None, metric="cosine", fit_on=theirs, like=champion)
    assert evaluation.champion(champion)["recovery"] == pytest.approx(own.champion(champion)["recovery"])
    verdict = judge(challenger, champion, held=mine, labels=None, metric="cosine", fit_on=fit_on)
    assert verdict.rows == 200
    assert 0 < compared(verdict, "reconstruction", "champion").value < 2


def one(against: str, low: float, *, margin: float | None = None) -> Comparison:
    asked = "nothing" if margin is None else "no worse" if margin else "better"
    holds = {"nothing": True, "no worse": low >= -(margin or 0), "better": low > 0}[asked]
    return Comparison(against, 0.5, low + 0.01, low, low + 0.02, asked, margin or 0.0, holds)  # type: ignore[arg-type]


def test_decide() -> None:
    good = MeasureComparison("neighbours", 0.6, (one("champion", -0.01, margin=0.02), one("PCA-4", -0.1, margin=0.2)))
    better = MeasureComparison("reconstruction", 0.3, (one("champion", 0.01, margin=0.02), one("PCA-4", 0.1)))
    worse = MeasureComparison("reconstruction", 0.3, (one("champion", -0.03, margin=0.02), one("PCA-4", 0.1)))
    linear_too = MeasureComparison("reconstruction", 0.3, (one("champion", 0.01, margin=0.02), one("PCA-4", 0.0)))
    verdict = decide((good, better), 200)
    assert (verdict.passes, verdict.decided_by) == (True, "neighbours, against the champion")
    verdict = decide((good, worse), 200)
    assert (verdict.passes, verdict.decided_by) == (False, "reconstruction, against the champion")
    assert "-0.0300" in verdict.reason
    assert "-0.0200 is allowed" in verdict.reason
    verdict = decide((good, linear_too), 200)
    assert (verdict.passes, verdict.decided_by) == (False, "every measure, against PCA-4")


@pytest.mark.parametrize(
    ("value", "entire_row", "clips"),
    [(3e38, False, False), (-3e38, True, False), (500.0, False, True), (1e9, True, True)],
)
def test_no_single_row_decides(digits: Digits, value: float, entire_row: bool, clips: bool) -> None:
    """One of 360 rows changes a mean of shares by at most 1/360, and as a neighbor of other rows by less.

    If the encoders clip nothing, its errors are as large as possible.
    """
    change = (lambda encoder: encoder) if clips else without_limits
    boundless = dataclasses.replace(digits, one=change(digits.one), raw=change(digits.raw))
    spoiled = dataclasses.replace(boundless, held=digits.held.copy(), fit_on=digits.fit_on.copy())
    for rows in (spoiled.held, spoiled.fit_on):
        rows[11, None if entire_row else 20] = value
    clean, found = (each.judge(each.one, digits.other) for each in (boundless, spoiled))
    assert found.passes, found.lines()
    assert not spoiled.judge(spoiled.raw, digits.one).passes
    for one, other in zip(clean.measures, found.measures, strict=True):
        assert other.challenger == pytest.approx(one.challenger, abs=0.02)
        for before, after in zip(one.compared, other.compared, strict=True):
            assert after.difference == pytest.approx(before.difference, abs=0.02)


def without_limits(encoder: Encoder) -> Encoder:
    """The encoder without a range to which it clips values."""
    least, preprocess = torch.full_like(encoder.preprocess.low, -torch.inf), dataclasses.replace(encoder.preprocess)
    object.__setattr__(preprocess, "_known", (least, -least))
    return dataclasses.replace(encoder, preprocess=preprocess)

"""Means, spreads and lines of the quality benchmark, on figures made by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.quality_figures import OURS, RAW, Figures, ahead, difference, figure_rows, merged, part_of
from benchmarks.report import Bar, row

NAME = "precision@10"


def measured(path: Path | None = None) -> Figures:
    """Ours 0.8 and 0.9, the raw rows 0.7 and 0.9, and a peer with one seed."""
    figures = Figures(path)
    for seed, ours, raw in ((5, 0.8, 0.7), (6, 0.9, 0.9)):
        figures.take("digits", "both", seed, lambda: {OURS: {NAME: ours}, RAW: {NAME: raw}})  # noqa: B023
    figures.take("digits", "slow", 5, lambda: {"slow": {NAME: 0.5}})
    return figures


def test_each_method_has_a_line_with_its_mean_and_spread() -> None:
    ours, raw, slow = figure_rows(measured(), "digits", NAME, bar=Bar("ours", ">=", 0.86))
    assert (ours.claim, ours.holds) == ("digits: precision@10, ours", False)
    assert ours.ours == pytest.approx(0.85)
    assert ours.spread == pytest.approx(0.1 / 2**0.5)
    assert raw.floor == pytest.approx(0.8)
    assert (raw.bar, slow.peer, slow.spread) == (None, 0.5, None)


def test_a_difference_is_taken_seed_by_seed() -> None:
    assert list(difference({5: 0.8, 6: 0.9}, {5: 0.7, 6: 0.9})) == pytest.approx([0.05, 0.1 / 2**0.5])
    assert difference({5: 0.8, 6: 0.9}, {5: 0.5})[0] == pytest.approx(0.35)
    assert list(difference({5: 0.8}, {5: 0.5})) == pytest.approx([0.3, 0.0])


def test_ahead_means_by_more_than_the_spread_or_a_limit() -> None:
    line = ahead(measured(), "digits", NAME, RAW)
    assert (line.bar, line.holds) == ("ours >= 0.0707", False)
    assert ahead(measured(), "digits", NAME, RAW, least=0.04).holds


def test_kept_figures_are_not_measured_again(tmp_path: Path) -> None:
    measured(tmp_path / "kept")
    again = Figures(tmp_path / "kept")
    found = again.take("digits", "slow", 5, lambda: {"slow": {NAME: 0.1}})
    assert found == {"slow": {NAME: 0.5}}
    assert again.values("digits", NAME, OURS) == {5: 0.8, 6: 0.9}
    assert again.methods("digits", NAME) == [OURS, RAW, "slow"]


def test_a_part_replaces_its_lines_only(tmp_path: Path) -> None:
    lines = [row(f"{case}: {NAME}", "share", ours=0.5) for case in ("windows GunPoint", "digits", "denoising")]
    (tmp_path / "results.json").write_text(json.dumps({"rows": [asdict(line) for line in lines]}), encoding="utf-8")
    new = [row(f"digits (own split): {NAME}", "share", ours=0.6)]
    found = merged(tmp_path / "results.json", "digits", new, ["digits", "windows"])
    assert [line.claim for line in found] == ["digits (own split): precision@10", "windows GunPoint: precision@10"]
    assert merged(tmp_path / "none", "digits", new, ["digits"]) == new


def test_the_part_is_the_first_word() -> None:
    assert part_of("windows GunPoint: precision@5, ours") == "windows"
    assert part_of("fashion: training, ours") == "fashion"

import json

import pytest

from lookalike.index.versions.verdict import Comparison, MeasureComparison, Verdict, read_verdict
from lookalike.training.errors import ArtifactError

VERDICT = Verdict(
    True,
    "neighbours, against the champion",
    "no worse by any measure",
    300,
    (
        MeasureComparison(
            "neighbours",
            0.75,
            (
                Comparison("champion", 0.74, 0.01, -0.005, 0.025, "no worse", 0.02, True),
                Comparison("untrained", 0.8, -0.05, -0.06, -0.04, "better", 0.0, False),
                Comparison("raw rows", 1.0, -0.25, -0.26, -0.24, "nothing", 0.0, True),
            ),
        ),
    ),
)


def test_a_verdict_is_read_as_it_was_told() -> None:
    told = json.loads(json.dumps(VERDICT.to_json(), allow_nan=False))
    assert read_verdict(told) == VERDICT
    assert told["measures"][0]["compared"][0]["low"] == -0.005
    few = Verdict(False, "", "too few", 3)
    assert read_verdict(json.loads(json.dumps(few.to_json()))) == few


def test_lines_say_what_was_asked_and_whether_it_holds() -> None:
    assert VERDICT.lines() == [
        "promoted: no worse by any measure",
        "neighbours: 0.7500",
        "  champion 0.7400, difference +0.0100 (95 %: -0.0050 to +0.0250), must be at least -0.0200: holds",
        "  untrained 0.8000, difference -0.0500 (95 %: -0.0600 to -0.0400), must be above 0: DOES NOT HOLD",
        "  raw rows 1.0000, difference -0.2500 (95 %: -0.2600 to -0.2400)",
    ]
    assert Verdict(False, "", "too few", 3).lines() == ["kept: too few"]


@pytest.mark.parametrize(
    "told", [{}, [], None, {"measures": [{}]}, {**VERDICT.to_json(), "more": 1}, {"measures": [{"name": "x"}]}]
)
def test_what_is_no_verdict_is_refused(told: object) -> None:
    with pytest.raises(ArtifactError, match="verdict"):
        read_verdict(told)

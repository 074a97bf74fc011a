from pydantic import TypeAdapter

from lookalike.index.versions.verdict import Comparison, MeasureComparison, Verdict

VERDICT = Verdict(
    True,
    "neighbors, against the champion",
    "no worse by any measure",
    300,
    (
        MeasureComparison(
            "neighbors",
            0.75,
            (
                Comparison("champion", 0.74, 0.01, -0.005, 0.025, "no worse", 0.02, True),
                Comparison("untrained", 0.8, -0.05, -0.06, -0.04, "better", 0.0, False),
                Comparison("raw rows", 1.0, -0.25, -0.26, -0.24, "nothing", 0.0, True),
            ),
        ),
    ),
)


def test_json_contains_the_whole_verdict() -> None:
    verdicts = TypeAdapter(Verdict)
    for verdict in (VERDICT, Verdict(False, "", "too few", 3)):
        assert verdicts.validate_json(verdicts.dump_json(verdict)) == verdict


def test_lines_contain_requirements_and_whether_they_hold() -> None:
    assert VERDICT.lines() == [
        "promoted: no worse by any measure",
        "neighbors: 0.7500",
        "  champion 0.7400, difference +0.0100 (95 %: -0.0050 to +0.0250), must be at least -0.0200: holds",
        "  untrained 0.8000, difference -0.0500 (95 %: -0.0600 to -0.0400), must be above 0: DOES NOT HOLD",
        "  raw rows 1.0000, difference -0.2500 (95 %: -0.2600 to -0.2400)",
    ]
    assert Verdict(False, "", "too few", 3).lines() == ["kept: too few"]

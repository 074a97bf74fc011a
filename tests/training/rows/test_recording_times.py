"""Times as numbers and dates, in text and in Parquet."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.rows import open_rows
from lookalike.training.transforms import WindowTransform
from tests.training.rows.recorded import settings, windows, write_csv


def test_windows_and_payloads_are_in_seconds_of_the_time_column(tmp_path: Path) -> None:
    times = 100 + np.arange(40) / 10
    path = write_csv(tmp_path / "a.csv", t=times, x=np.arange(40), id=np.arange(40))
    rows = open_rows(str(path), settings(window="1s", hop="500ms", time="t"))
    values, ids, payloads = windows(rows)
    transform = rows.transform
    assert isinstance(transform, WindowTransform)
    assert (transform.window, transform.hop, transform.rate, transform.max_gap) == (10, 5, 10.0, 1.0)
    assert transform.channels == ("x",)
    assert ids == ["a.csv@100", "a.csv@100.5", "a.csv@101", "a.csv@101.5", "a.csv@102", "a.csv@102.5", "a.csv@103"]
    assert payloads[1] == {"recording": "a.csv", "start": 100.5, "end": 101.5}
    assert values[1, :, 0].tolist() == list(range(5, 15))


@pytest.mark.parametrize(
    ("texts", "start", "end"),
    [
        (["2026-03-31 01:30:00", "2026-03-31 01:30:01", "2026-03-31 01:30:02"], "T01:30:00.000000", "T01:30:02.000000"),
        ([f"2026-03-31T01:30:0{n}.5" for n in range(3)], "T01:30:00.500000", "T01:30:02.500000"),
        ([f"2026-03-31T03:30:0{n}+02:00" for n in range(3)], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000, 1774920601000, 1774920602000], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000000, 1774920601000000, 1774920602000000], "T01:30:00.000000Z", "T01:30:02.000000Z"),
        ([1774920600000000001, 1774920601000000001, 1774920602000000001], "T01:30:00.000000Z", "T01:30:02.000000Z"),
    ],
)  # fmt: skip
def test_dates_are_shown_as_dates(tmp_path: Path, texts: list[Any], start: str, end: str) -> None:
    path = write_csv(tmp_path / "a.csv", t=texts, x=[1, 2, 3])
    _, ids, payloads = windows(open_rows(str(path), settings(window=2, hop=1, time="t")))
    assert payloads[0] == {"recording": "a.csv", "start": f"2026-03-31{start}", "end": f"2026-03-31{end}"}
    assert ids[0] == f"a.csv@2026-03-31{start}"
    assert len(ids) == 2


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_dates_are_exact(tmp_path: Path, unit: str) -> None:
    times = pa.array(np.arange(3) + np.datetime64("2026-03-31T01:30:00"), pa.timestamp(unit, "Europe/Paris"))
    pa_parquet.write_table(pa.table({"when": times, "x": pa.array([1, None, 3])}), tmp_path / "a.parquet")
    rows = open_rows(str(tmp_path / "a.parquet"), settings(window=3, time="when", max_missing=0.5))
    values, _, payloads = windows(rows)
    assert values[0, :, 0].tolist() == [1, 2, 3]
    assert payloads[0]["start"] == "2026-03-31T01:30:00.000000Z"

"""Recordings in tables: their channels, labels and recordings; errors name the row."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows
from lookalike.training.transforms import InputSpec
from tests.training.rows.recorded import FILES, SAMPLES, settings, windows, write_csv


def test_channels_are_chosen_by_name_or_by_number(tmp_path: Path) -> None:
    FILES["a.csv"](tmp_path / "a.csv")
    FILES["a.npy"](tmp_path / "a.npy")
    by_name = open_rows(str(tmp_path / "a.csv"), settings(channels=("b",)))
    by_number = open_rows(str(tmp_path / "a.npy"), settings(channels=("1",)))
    assert windows(by_name)[0].tolist() == windows(by_number)[0].tolist()
    assert windows(by_name)[0][0, :, 0].tolist() == SAMPLES[:4, 1].tolist()


def test_a_column_names_the_recording(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", who=[7] * 5 + ["b"] * 3 + ["c"] * 4, x=range(12))
    rows = open_rows(str(path), settings(recording="who"))
    values, ids, payloads = windows(rows)
    assert ids == ["7@0", "c@0"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert payloads[1] == {"recording": "c", "start": 0, "end": 4}


def test_parquet_reads_only_the_columns_that_it_needs(tmp_path: Path) -> None:
    table = pa.table(
        {
            "who": pa.array(["a"] * 4).dictionary_encode(),
            "x": pa.array([1, 2, 3, 4], pa.int8()),
            "label": pa.array([1.5, 1.5, None, float("nan")]),
            "text": ["q"] * 4,
        }
    )
    pa_parquet.write_table(table, tmp_path / "a.parquet")
    _, ids, payloads = windows(open_rows(str(tmp_path / "a.parquet"), settings(recording="who")))
    assert (ids, payloads[0]["label"]) == (["a@0"], 1.5)


def test_a_column_that_looks_like_a_clock_is_no_channel(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", Time=range(4), x=range(4))
    rows = open_rows(str(path), settings())
    assert rows.shape == (4, 1)
    assert any("column Time is left out" in note and "--time" in note for note in rows.notes)
    assert open_rows(str(path), settings(channels=("Time", "x"))).shape == (4, 2)


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("backwards", {"t": [0, 1, 3, 2], "x": range(4)}, {"time": "t"}, r"row 3, column t: expected times that do not go"),
    ("no time", {"t": [0, 1, None, 2], "x": range(4)}, {"time": "t"}, r"row 2, column t: expected a number of seconds"),
    ("bad date", {"t": ["2026-01-01", "soon"], "x": [1, 2]}, {"time": "t"}, r"row 1, column t: .*'soon'"),
    ("coarse", {"t": [0, 0, 0, 1], "x": range(4)}, {"time": "t"}, r"expected times that rise .*--rate"),
    ("interleaved", {"who": [*"aabba"], "x": range(5)}, {"recording": "who"}, r"row 4: .*Sort the table"),
    ("no name", {"who": ["a", None], "x": range(2)}, {"recording": "who"}, r"row 1, column who: expected the name"),
    ("no such channel", {"x": range(4)}, {"channels": ("y",)}, r"expected a column 'y', as data.channels names it"),
    ("no such time", {"x": range(4)}, {"time": "t"}, r"expected a column 't', as data.time names it"),
    ("no such label", {"x": range(4)}, {"label": "kind"}, r"expected a column 'kind', as data.label names it"),
    ("text", {"x": ["a", "b"]}, {}, r"expected a column of numbers, as a channel"),
    ("text as channel", {"x": ["a", "b"]}, {"channels": ("x",)}, r"column x: expected numbers, as in every channel"),
    ("infinite", {"x": [1, 2, "inf", 4]}, {}, r"row 2, column x: expected a finite number"),
    ("short", {"x": range(3)}, {}, r"of at least 4 samples, found at most 3 samples without a gap"),
    ("missing", {"x": [1, None, 1, None, 1, None], "y": range(6)}, {}, r"windows with at most 10% of missing values"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "fields", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_recordings(tmp_path: Path, columns: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    path = write_csv(tmp_path / "a.csv", **columns)
    with pytest.raises(DataError, match=message):
        open_rows(str(path), settings(**fields))


def test_times_may_have_decimal_commas(tmp_path: Path) -> None:
    lines = ["t;x", *(f"{n / 4};{n / 2}".replace(".", ",") for n in range(6))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    values, ids, _ = windows(open_rows(str(tmp_path / "a.csv"), settings(time="t", window="1s")))
    assert ids == ["a.csv@0", "a.csv@0.5"]
    assert values[:, :, 0].tolist() == [[0, 0.5, 1, 1.5], [1, 1.5, 2, 2.5]]


def test_names_the_columns_that_are_no_channels_and_may_have_labels(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", x=range(8), activity=["walk"] * 8)
    note = "left out, because the values are not numbers: activity; if activity has labels, name it with "
    assert note + "`--set data.label=activity`" in open_rows(str(path), settings()).notes
    labeled = open_rows(str(path), settings(label="activity"))
    assert not [note for note in labeled.notes if "left out" in note]


def test_a_query_needs_no_column_of_labels(tmp_path: Path) -> None:
    rows = open_rows(str(write_csv(tmp_path / "a.csv", x=range(8), activity=["walk"] * 8)), settings(label="activity"))
    spec = InputSpec(transform=rows.transform, settings=settings(label="activity"))
    query = write_csv(tmp_path / "b.csv", x=range(4))
    assert windows(open_rows(str(query), None, spec))[0][0, :, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="expected a column 'activity'"):
        open_rows(str(query), settings(label="activity"))

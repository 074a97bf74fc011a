import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookalike.data import open_data, write_skipped


def test_prints_cells_read_as_missing_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\nNA,1\n2,-\n3,null\n")
    rows = open_data(str(path))
    printed = capsys.readouterr()
    assert printed.err == (
        f"{path}: cells that were read as missing values: 1 of column x, 2 of column y "
        "(the words NA, N/A, #N/A, NaN, -NaN, null, None, -)\n"
    )
    assert (printed.out, rows.count) == ("", 3)


def test_prints_nothing_without_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("x,country\n1,NA\n2,\n3,NA\n")
    open_data(str(tmp_path / "a.csv"))
    assert capsys.readouterr().err == ""


def test_writes_the_files_that_could_not_be_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    rows = replace(open_data(str(tmp_path / "a.npy")), skipped=(("caf%E9.png", "expected a photo, found a text"),))
    write_skipped(rows, tmp_path / "skipped.csv")
    with (tmp_path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["file", "reason"], ["caf%E9.png", "expected a photo, found a text"]]

from pathlib import Path

import pytest

from lookalike.data import open_data


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
    (tmp_path / "a.csv").write_text("x,country\n1,NA\n2,\n")
    open_data(str(tmp_path / "a.csv"))
    assert capsys.readouterr().err == ""

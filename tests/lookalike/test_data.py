from pathlib import Path

import pytest

from lookalike.data import open_data


def test_what_was_read_as_missing_is_told_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\nNA,1\n2,-\n3,null\n")
    rows = open_data(str(path))
    told = capsys.readouterr()
    assert told.err == (
        f"{path}: cells that were read as missing values: 1 of column x, 2 of column y "
        "(the words NA, N/A, #N/A, NaN, -NaN, null, None, -)\n"
    )
    assert (told.out, rows.count) == ("", 3)


def test_nothing_is_told_of_other_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("x,country\n1,NA\n2,\n")
    open_data(str(tmp_path / "a.csv"))
    assert capsys.readouterr().err == ""

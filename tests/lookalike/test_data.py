import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data import note_skipped, open_data, open_inputs
from lookalike.training.errors import DataError
from lookalike.training.transforms import ImageTransform, InputSpec


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


def test_an_encoder_reads_a_folder_of_which_most_photos_are_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    for number in range(9):
        (tmp_path / f"x{number}.png").touch()
    spec = InputSpec(transform=ImageTransform(height=3, width=4, mode="grey"))
    assert open_inputs(str(tmp_path), spec).count == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}: skipped 9 of 10 photos that cannot be read",
        f"{tmp_path}: skipped {', '.join(f'x{n}.png' for n in range(9))} (expected a photo, found an empty file)",
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="expected a readable photo, found 9 of 9 unreadable"):
        open_inputs(str(tmp_path), spec)


def test_writes_the_files_that_could_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    note_skipped(open_data(str(tmp_path / "a.npy")), tmp_path)
    assert not (tmp_path / "skipped.csv").exists()
    rows = replace(open_data(str(tmp_path / "a.npy")), skipped=(("caf%E9.png", "expected a photo, found a text"),))
    note_skipped(rows, tmp_path)
    assert capsys.readouterr().err == f"{tmp_path / 'skipped.csv'} lists the files that could not be read (1)\n"
    with (tmp_path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["file", "reason"], ["caf%E9.png", "expected a photo, found a text"]]

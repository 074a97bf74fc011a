"""Recordings as rows: folders, settings, the transform, and an encoder that reads other recordings."""

import json
from pathlib import Path

import numpy as np
import pytest

from lookalike.training.errors import ConfigError, DataError
from lookalike.training.rows import open_rows
from lookalike.training.transforms import InputSpec, WindowTransform
from tests.training.rows.recorded import FILES, settings, windows, write_csv


def test_a_folder_has_a_recording_in_each_file_and_labels_in_its_folders(tmp_path: Path) -> None:
    for name in ("walk/one.csv", "walk/two.csv", "run/three.csv", "four.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_csv(tmp_path / name, x=range(5))
    (tmp_path / "README.txt").write_text("no recording")
    (tmp_path / "walk" / "._one.csv").write_bytes(b"\0")
    rows = open_rows(str(tmp_path), settings())
    _, ids, payloads = windows(rows)
    assert ids == ["four.csv@0", "run/three.csv@0", "walk/one.csv@0", "walk/two.csv@0"]
    assert [payload.get("label") for payload in payloads] == [None, "run", "walk", "walk"]
    assert rows.notes[0] == "4 recordings, 4 windows of 4 samples, one every 2 samples"


def test_the_rate_is_the_rounded_median_of_the_recordings(tmp_path: Path) -> None:
    for name, rate in (("a", 49.9999999), ("b", 10.0), ("c", 100.0)):
        write_csv(tmp_path / f"{name}.csv", t=np.arange(60) / rate, x=np.arange(60))
    rows = open_rows(str(tmp_path), settings(time="t"))
    assert isinstance(rows.transform, WindowTransform)
    assert rows.transform.rate == 50.0


def test_an_encoder_reads_other_recordings_as_its_own(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", t=np.arange(40) / 20, x=np.arange(40), y=np.zeros(40))
    rows = open_rows(str(tmp_path / "a.csv"), settings(time="t", channels=("x",)))
    spec = InputSpec((), rows.transform, settings(time="t", channels=("x",)))
    write_csv(tmp_path / "b.csv", y=np.zeros(80), t=np.arange(80) / 40, x=np.arange(80) / 2)
    other = open_rows(str(tmp_path / "b.csv"), None, spec)
    assert other.transform == rows.transform
    np.testing.assert_allclose(windows(other)[0][6:-6], windows(rows)[0][6:-6], atol=0.01)
    assert other.suited(spec) is other
    assert other.settings is None


def test_a_duration_needs_a_clock(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(40.0))
    with pytest.raises(ConfigError, match=r"data.window: .*found '2s'. Name the column .* --time, .*--rate"):
        open_rows(str(tmp_path / "a.npy"), settings(window="2s"))
    with pytest.raises(ConfigError, match=r"data.max_gap: expected samples with times"):
        open_rows(str(tmp_path / "a.npy"), settings(max_gap="2s"))
    rows = open_rows(str(tmp_path / "a.npy"), settings(window="2s", rate=5))
    assert rows.shape == (10, 1)


def test_times_and_settings_that_no_recording_can_have(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=range(40, 0, -1), x=range(40))
    with pytest.raises(DataError, match=r"times that go backwards in most samples of 'a\.csv'\. Sort the samples"):
        open_rows(str(path), settings(time="t"))
    path = write_csv(tmp_path / "b.csv", t=[5] * 40, x=range(40))
    with pytest.raises(DataError, match=r"found the same time in most samples of 'b\.csv'\. If the samples have"):
        open_rows(str(path), settings(time="t"))
    path = write_csv(tmp_path / "c.csv", t=range(40), x=range(40))
    with pytest.raises(ConfigError, match=r"data\.max_gap: expected a time longer than 0, found 0s"):
        open_rows(str(path), settings(time="t", max_gap="0s"))


def test_other_errors_of_a_path_and_of_settings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at that path"):
        open_rows(str(tmp_path / "a.csv"), settings())
    with pytest.raises(DataError, match="a folder with recordings"):
        open_rows(str(tmp_path), settings())
    FILES["a.npy"](tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"found a \.npy file\. Leave out --time"):
        open_rows(str(tmp_path / "a.npy"), settings(time="t"))
    with pytest.raises(DataError, match="found 2 channels without names"):
        open_rows(str(tmp_path / "a.npy"), settings(channels=("a", "b", "c")))
    with pytest.raises(ConfigError, match=r"from 1 to 1,048,576 samples, found 0\.01s, which is 0 samples"):
        open_rows(str(tmp_path / "a.npy"), settings(window="0.01s", rate=10))


def test_the_transform_is_plain_json(tmp_path: Path) -> None:
    FILES["a.npy"](tmp_path / "a.npy")
    transform = open_rows(str(tmp_path / "a.npy"), settings(normalize="standard", normalize_over="all")).transform
    assert isinstance(transform, WindowTransform)
    fields = json.loads(json.dumps(transform.model_dump(mode="json")))
    assert WindowTransform.model_validate(fields) == transform
    assert (fields["normalize"], fields["normalize_over"]) == ("standard", "all")

"""Windows by hand: gaps, uneven clocks, missing values and labels; the same whatever the chunks are."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from lookalike.training.config import DataConfig
from lookalike.training.errors import DataError
from lookalike.training.rows import open_rows, recordings
from tests.training.rows.recorded import settings, windows, write_csv


def test_the_hop_is_half_of_the_window_by_default_and_may_leave_samples_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(20.0))
    assert windows(open_rows(str(tmp_path / "a.npy"), DataConfig(window=8)))[1] == [
        "a.npy@0",
        "a.npy@4",
        "a.npy@8",
        "a.npy@12",
    ]
    values, ids, _ = windows(open_rows(str(tmp_path / "a.npy"), DataConfig(window=3, hop=7)))
    assert ids == ["a.npy@0", "a.npy@7", "a.npy@14"]
    assert values[:, :, 0].tolist() == [[0, 1, 2], [7, 8, 9], [14, 15, 16]]


def test_a_gap_splits_a_recording(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2, 2.3, 5.0, 5.1]
    path = write_csv(tmp_path / "a.csv", t=times, x=range(11))
    rows = open_rows(str(path), settings(time="t", max_gap="500ms", rate=10))
    values, ids, _ = windows(rows)
    assert ids == ["a.csv@0", "a.csv@2"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [5, 6, 7, 8]]
    assert "2 gaps of more than 0.5 s split recordings" in rows.notes
    assert "left out: 1 segment shorter than a window" in rows.notes


def test_a_gap_that_is_short_enough_is_interpolated(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0.0, 0.1, 0.2, 0.5, 0.6], x=[0, 1, 2, 8, 9])
    values, _, _ = windows(open_rows(str(path), settings(time="t", window=7, rate=10)))
    np.testing.assert_allclose(values[0, :, 0], [0, 1, 2, 4, 6, 8, 9])


def test_an_uneven_clock_is_resampled_to_the_mean_of_its_usual_intervals(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0, 15, 31, 46, 62, 78, 94], x=[0, 15, 31, 46, 62, 78, 94])  # milliseconds
    rows = open_rows(str(path), settings(time="t", rate=1 / 16))
    assert "resampled from between 0.0625 and 0.0666667 to 0.0625 samples per second" in rows.notes
    np.testing.assert_allclose(windows(rows)[0][0, :, 0], [0, 16, 32, 48])


def test_windows_with_many_missing_values_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", x=[0, 1, None, 3, 4, 5, 6, "NA", None, 9, 10, 11], n=range(12))
    rows = open_rows(str(path), settings(max_missing=0.25, channels=("x",)))
    values, ids, _ = windows(rows)
    assert ids == ["a.csv@0", "a.csv@2", "a.csv@4", "a.csv@8"]
    assert values[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 3, 4, 5], [4, 5, 6, 6], [9, 9, 10, 11]]
    assert rows.count == 4
    assert "skipped: 1 window because more than 25% of a channel's values are missing" in rows.notes


def test_the_label_of_a_window_is_that_of_most_samples(tmp_path: Path) -> None:
    labels = ["run", "run", "walk", "walk", "walk", None, None, None]
    path = write_csv(tmp_path / "a.csv", x=range(8), activity=labels)
    _, _, payloads = windows(open_rows(str(path), settings(label="activity", window=3, hop=1)))
    assert [payload.get("label") for payload in payloads] == ["run", "walk", "walk", "walk", "walk", None]


def test_of_equally_many_labels_the_earliest_in_the_file_wins(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", x=range(4), label=["b", "a", "a", "b"])
    assert windows(open_rows(str(path), settings()))[2][0]["label"] == "b"


def test_repeated_times_are_left_out_and_counted(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", t=[0, 1, 1, 2, 3, 4], x=[0, 1, 99, 2, 3, 4])
    rows = open_rows(str(path), settings(time="t"))
    assert windows(rows)[0][0, :, 0].tolist() == [0, 1, 2, 3]
    assert "left out: 1 sample with the same time as the sample before" in rows.notes


@pytest.mark.slow
@limits(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 200),
    size=st.integers(1, 9),
    samples=st.integers(1, 50),
    window=st.integers(1, 12),
    hop=st.integers(1, 15),
)
def test_the_windows_do_not_depend_on_the_size_of_chunks_and_blocks(
    tmp_path_factory: pytest.TempPathFactory, seed: int, size: int, samples: int, window: int, hop: int
) -> None:
    generator = np.random.default_rng(seed)
    steps = generator.choice([0.0, 0.09, 0.1, 0.1, 0.1, 0.13, 3.0], 120)
    columns = {
        "t": np.round(np.cumsum(steps), 6),
        "who": np.repeat(["a", "b", "c"], 40),
        "x": [
            None if missing else value
            for missing, value in zip(generator.random(120) < 0.1, generator.normal(size=120), strict=True)
        ],
        "label": generator.choice(["u", "v", "w"], 120),
    }
    path = write_csv(tmp_path_factory.mktemp("recordings") / "a.csv", **columns)
    given_settings = settings(
        window=window, hop=hop, time="t", recording="who", rate=10 if seed % 2 else 4, max_missing=0.5
    )
    try:
        whole = open_rows(str(path), given_settings)
    except DataError:
        return  # no window is that short
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recordings, "block_samples", lambda channels: samples)
        parts = open_rows(str(path), given_settings)
        found = windows(parts, size)
        assert {len(chunk.ids) for chunk in list(parts.chunks(size))[:-1]} <= {size}
    expected = windows(whole)
    assert parts.count == whole.count == len(found[1])
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1:] == expected[1:]
    assert len(set(found[1])) == len(found[1])


@pytest.mark.slow
def test_a_long_recording_needs_constant_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.npy"
        np.save(path, np.zeros((count, 4), np.float32))
        tracemalloc.start()
        rows = open_rows(str(path), settings(window=64, hop=16))
        assert sum(len(chunk.ids) for chunk in rows.chunks(1_000)) == (count - 64) // 16 + 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2_000_000) < 1.5 * peak(400_000)  # of 6.4 and 32 MB of samples, and four times as much in windows
